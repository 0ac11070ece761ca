"""Variation of information: which part is which, its unit, and what it has to leave alone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffn.evaluation.rand import rand_score
from ffn.evaluation.voi import VoiScore, voi_score
from ffn.utils.errors import UserError


def blocks():
    """Half of 4 x 6 x 8 is object 2^40; a quarter each are object 2 and background."""
    truth = np.zeros((4, 6, 8), np.uint64)
    truth[:, :3] = 2**40
    truth[:, 3:, :4] = 2
    return truth


def test_by_hand():
    """Of 8 voxels, object 1 has 4, and one half of it is cut off; object 2 loses a quarter to it.

    H(segmentation | truth): each object holds 1/2 of the voxels; the first is split into halves
    (1 bit), the second into 3/4 and 1/4. H(truth | segmentation): only segment 9, 3 voxels, is mixed,
    2/3 and 1/3.
    """
    truth = np.array([1, 1, 1, 1, 2, 2, 2, 2]).reshape(2, 1, 4)
    found = np.array([7, 7, 9, 9, 9, 5, 5, 5]).reshape(2, 1, 4)

    def entropy(*parts):
        return -sum(p * math.log2(p) for p in parts)

    score = voi_score(truth, found)
    assert score.split == pytest.approx(0.5 * 1 + 0.5 * entropy(3 / 4, 1 / 4))
    assert score.merge == pytest.approx(3 / 8 * entropy(2 / 3, 1 / 3))
    assert score.total == pytest.approx(score.split + score.merge)


def test_splits_and_mergers_in_bits():
    truth = blocks()
    halves = truth.copy()
    halves[:2][truth[:2] == 2**40] = 7
    # Two thirds of what is labelled are cut into halves, 1 bit.
    assert voi_score(truth, halves) == VoiScore(split=pytest.approx(2 / 3), merge=0)
    merged = voi_score(truth, (truth > 0).astype(np.uint8))
    third = -(1 / 3 * math.log2(1 / 3) + 2 / 3 * math.log2(2 / 3))
    assert merged == VoiScore(split=0, merge=pytest.approx(third))


def test_what_is_labelled_in_one_of_the_two_only():
    truth = blocks()
    found = np.where(truth == 2, 0, truth)
    found[:2, 3:, 4:] = 8  # where truth has background
    # Segments 1 and 8 fit; the background of one stands for the object of the other.
    assert voi_score(truth, found) == VoiScore(0, 0)
    halved = np.where(np.arange(8) < 4, found, 0)
    by_counted = {c: voi_score(truth, halved, c) for c in ('either', 'truth', 'both')}
    assert by_counted['both'] == VoiScore(0, 0)
    # Half of 2^40 is left out, together with 2: 1/3 of the labelled voxels each.
    assert by_counted['truth'] == VoiScore(pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert by_counted['either'] == by_counted['truth']  # 8 is where x >= 4
    halved[:2, 3:, 4:] = 8
    assert voi_score(truth, halved).split == pytest.approx(96 / (96 + 48 + 24))
    assert voi_score(truth, halved, 'truth') == by_counted['truth']


def test_the_rand_error_takes_the_same_voxels():
    truth = blocks()
    found = np.where(np.arange(8) < 4, truth, 0)
    errors = [rand_score(truth, found, c).error for c in ('either', 'truth', 'both')]
    assert errors[2] == 0 < errors[0] == errors[1]
    found[:, 3:, 4:] = 1
    assert rand_score(truth, found).error != rand_score(truth, found, 'truth').error == errors[1]


def test_errors():
    truth = blocks()
    with pytest.raises(UserError, match=r'\(4, 6, 8\), segmentation has \(4, 6, 7\)'):
        voi_score(truth, truth[:, :, :7])
    empty = np.zeros_like(truth)
    with pytest.raises(UserError, match='neither ground truth nor segmentation'):
        voi_score(empty, empty)
    with pytest.raises(UserError, match='ground truth has no label'):
        voi_score(empty, truth, 'truth')
    with pytest.raises(UserError, match='labelled in both'):
        voi_score(truth, empty, 'both')
    with pytest.raises(UserError, match="'all'; expected either, truth, segmentation, both"):
        voi_score(truth, truth, 'all')


LABELS = hnp.arrays(np.int32, (2, 3, 5), elements=st.integers(0, 4))


@settings(deadline=None)
@given(LABELS, LABELS, st.permutations(range(1, 5)), st.sampled_from(['either', 'truth', 'both']))
def test_invariants(truth, found, names, counted):
    truth[0, 0, 0] = found[0, 0, 0] = 1  # something to count
    score = voi_score(truth, found, counted)
    assert min(score) >= 0
    assert max(score) <= math.log2(5)
    itself = voi_score(truth, truth, counted)
    assert max(itself) <= 1e-12
    # The names of the objects say nothing, and great ones cost no memory.
    renamed = np.array([0, *names])[found].astype(np.int64) * 2**40
    assert voi_score(truth, renamed, counted) == pytest.approx(score)
    if counted != 'truth':
        swapped = voi_score(found, truth, counted)
        assert (swapped.merge, swapped.split) == pytest.approx(score)
    # Splitting a segment further merges nothing, and more is split.
    finer = np.where(found > 0, found * 2 + (np.arange(5) % 2), 0)
    finer_score = voi_score(truth, finer, counted)
    assert finer_score.merge <= score.merge + 1e-12
    assert finer_score.split >= score.split - 1e-12
