"""The flood sample in pieces, and `ffn agglomerate` on it."""

import csv

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
