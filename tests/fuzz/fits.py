"""Loader of what agglomeration has fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffn.agglomeration.features import FEATURES
from ffn.agglomeration.merge_model import (
    Boosted,
    Isotonic,
    Logistic,
    MergeModel,
    Sigmoid,
    Tree,
    read_model,
    write_model,
)
from tests.fuzz.case import Loader
from tests.fuzz.mutations import edit_json_file

_NAMES = ('iou', 'contact')
_TREE = Tree(
    np.array([1, -1, 0, -1, -1]),
    np.array([0.5, 0, 0.25, 0, 0]),
    np.array([1, 0, 3, 0, 0]),
    np.array([2, 0, 4, 0, 0]),
    np.array([0, -1.5, 0, 0.5, 2]),
)
_TREES = MergeModel(
    _NAMES,
    Boosted(-1.5, 0.125, [_TREE, _TREE]),
    Isotonic(np.array([-2.0, 0, 1]), np.array([0.01, 0.25, 0.99])),
    {'pairs': 30, 'network_sha256': 'f00'},
    {'folds': 4},
)
_LOGISTIC = MergeModel(
    _NAMES,
    Logistic(
        np.array([0.0, 0]), np.array([1.0, 9]), np.array([0.5, 4]), np.array([1.0, 2]),
        np.array([1.5, -0.5]), -1.0,
    ),
    Sigmoid(2.0, 0.25),
)  # fmt: skip


def _usable(model: MergeModel) -> bool:
    features = np.random.default_rng(0).normal(size=(50, len(FEATURES))) * 1e4
    found = model.probabilities(features)
    return bool(((found >= 0) & (found <= 1)).all())


def _loader(name: str, model: MergeModel) -> Loader:
    return Loader(
        name,
        lambda folder: write_model(Path(folder) / 'fit.json', model),
        lambda folder: read_model(folder / 'fit.json'),
        ('*.json',),
        (('*.json', edit_json_file),),
        True,
        _usable,
    )


LOADERS = (
    _loader('fit of agglomeration (JSON), trees', _TREES),
    _loader('fit of agglomeration (JSON), logistic', _LOGISTIC),
)
