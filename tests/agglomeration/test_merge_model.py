"""Fits as they are stored: what is read back gives the same probabilities, what is damaged is refused."""

import json

import numpy as np
import pytest

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
from ffn.utils.checksums import sealed
from ffn.utils.errors import UserError
from tests.flips import refusals

NAMES = ('iou', 'distance')


def stump(value):
    return Tree(
        np.array([0, -1, -1]),
        np.array([0.5, 0, 0]),
        np.array([1, 0, 0]),
        np.array([2, 0, 0]),
        np.array([0, -value, value]),
    )


LOGISTIC = MergeModel(
    NAMES,
    Logistic(
        np.array([0, 0]),
        np.array([1, 8]),
        np.array([0.5, 2]),
        np.array([0.25, 4]),
        np.array([1.5, -0.5]),
        -1.0,
    ),
    Sigmoid(2.0, 0.5),
    {'pairs': 3},
    {'chosen': 'by hand'},
)
TREES = MergeModel(
    NAMES,
    Boosted(-1.0, 0.5, [stump(2.0), stump(4.0)]),
    Isotonic(np.array([-4.0, 0.0, 1.0]), np.array([0.01, 0.2, 0.9])),
)


def features(iou, distance):
    table = np.full((len(iou), len(FEATURES)), 7.0)
    table[:, FEATURES.index('iou')] = iou
    table[:, FEATURES.index('distance')] = distance
    return table


def test_logistic_by_hand():
    p = LOGISTIC.probabilities(features([0.75, 0.5, 9], [2, 6, 99]))
    scores = np.array([1.5 - 1, -0.5 - 1, 3 - 0.75 - 1])  # the last is clipped to 1 and 8
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-(2 * scores + 0.5))))


def test_trees_by_hand():
    # -1 ± 0.5 · (2 + 4): -4 at and below the threshold, 2 above, which is beyond the last point.
    np.testing.assert_allclose(
        TREES.probabilities(features([0.2, 0.5, 0.6], [0, 0, 0])), [0.01, 0.01, 0.9]
    )
    np.testing.assert_allclose(TREES.calibration(np.array([-2.0, 0.5])), [0.105, 0.55])


def test_nothing_is_known_of_pairs_without_evidence():
    table = features([0.7, 0.7], [1, 1])
    table[1] = np.nan
    assert np.isnan(LOGISTIC.probabilities(table)).tolist() == [False, True]


@pytest.mark.parametrize('model', [LOGISTIC, TREES])
def test_it_comes_back(tmp_path, model):
    write_model(tmp_path / 'fit.json', model)
    back = read_model(tmp_path / 'fit.json')
    table = features(np.linspace(0, 1, 9), np.linspace(3, 0, 9))
    np.testing.assert_array_equal(back.probabilities(table), model.probabilities(table))
    assert (back.features, back.fitted_on, back.validation) == (
        model.features,
        model.fitted_on,
        model.validation,
    )
    assert refusals(tmp_path / 'fit.json', lambda: read_model(tmp_path / 'fit.json').features) > 50


def change(tmp_path, model, edit):
    write_model(tmp_path / 'fit.json', model)
    content = json.loads((tmp_path / 'fit.json').read_text())
    content.pop('sha256')
    edit(content)
    (tmp_path / 'fit.json').write_text(json.dumps(sealed(content)))
    return tmp_path / 'fit.json'


@pytest.mark.parametrize(
    ('model', 'edit', 'words'),
    [
        (LOGISTIC, lambda c: c.update(kind='x'), 'no fit of ffn agglomerate'),
        (LOGISTIC, lambda c: c.update(version=2), 'of version 2, and this program reads version 1'),
        (LOGISTIC, lambda c: c.update(features=['iou', 'colour']), "'colour' is unknown"),
        (LOGISTIC, lambda c: c.update(features=['iou']), 'a list of 1 numbers'),
        (LOGISTIC, lambda c: c['classifier'].update(scale=[1, 0]), 'scale is not positive'),
        (LOGISTIC, lambda c: c['classifier'].update(low=[2, 0]), 'low is above high'),
        (LOGISTIC, lambda c: c['classifier'].update(intercept=True), 'True is no number'),
        (LOGISTIC, lambda c: c['classifier'].pop('mean'), 'KeyError'),
        (LOGISTIC, lambda c: c['calibration'].update(slope=-1), 'slope is not positive'),
        (LOGISTIC, lambda c: c.update(validation=[]), 'are no objects'),
        (LOGISTIC, lambda c: c.update(classifier=3), 'TypeError'),
        (TREES, lambda c: c['classifier']['trees'][0].update(left=[0, 0, 0]), 'before its parent'),
        (TREES, lambda c: c['classifier']['trees'][0].update(right=[3, 0, 0]), 'before its parent'),
        (TREES, lambda c: c['classifier']['trees'][0].update(feature=[2, -1, -1]), 'do not fit'),
        (TREES, lambda c: c['classifier']['trees'][0].update(feature=[]), 'numbers'),
        (TREES, lambda c: c['calibration'].update(scores=[0, 0, 1]), 'do not ascend'),
        (TREES, lambda c: c['calibration'].update(probabilities=[0, 1, 2]), 'from 0 to 1'),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path, model, edit, words):
    path = change(tmp_path, model, edit)
    with pytest.raises(UserError, match=words) as error:
        read_model(path)
    assert str(path) in str(error.value)
    assert '\n' not in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match='no such fit'):
        read_model(tmp_path / 'nowhere.json')
    for text in ('', '[]', '{', '\x00' * 9):
        (tmp_path / 'fit.json').write_text(text)
        with pytest.raises(UserError, match=r'fit\.json is damaged'):
            read_model(tmp_path / 'fit.json')
