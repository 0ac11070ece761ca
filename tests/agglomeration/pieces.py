"""The flood sample in pieces, and `ffn agglomerate` on it."""

import csv

import numpy as np

from ffn.agglomeration.features import VERSION
from ffn.agglomeration.merge_model import Logistic, MergeModel, Sigmoid, write_model
from ffn.cli import agglomerate

# Ids of the two pieces of one body, and of another body.
CUT, OTHER = (10, 2**40), 30


def run(folder, *more):
    return agglomerate.main(
        [
            '--resegmentation_request',
            str(folder / 'again.pbtxt'),
            '--max_distance',
            '4',
            '--block_size',
            '16,26,12',
            '--quiet',
            *more,
        ]
    )


def rows(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def by_iou(path):
    """A fit by which the probability is a half where 0.4 of two objects overlap."""
    classifier = Logistic(
        np.array([0]), np.array([1]), np.array([0.4]), np.array([0.1]), np.array([1.0]), 0.0
    )
    write_model(
        path,
        MergeModel(
            ('iou',), classifier, Sigmoid(1.0, 0.0), {'features': VERSION, 'max_distance': 8}
        ),
    )
    return str(path)
