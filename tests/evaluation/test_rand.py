import numpy as np
import pytest

from ffn.evaluation.rand import rand_score
from ffn.utils.errors import UserError


def blocks():
    truth = np.zeros((4, 6, 8), np.uint64)
    truth[:, :3] = 2**40
    truth[:, 3:, :4] = 2
    return truth


def test_perfect_whatever_the_ids():
    truth = blocks()
    assert rand_score(truth, np.where(truth > 2, 1, truth).astype(np.uint8)).error == 0


def test_mergers_lower_precision_and_splits_recall():
    truth = blocks()
    merged = rand_score(truth, (truth > 0).astype(np.int32))
    assert merged.recall == 1
    assert merged.precision < 0.7
    split = truth.copy()
    split[:2][truth[:2] == 2**40] = 7
    split_score = rand_score(truth, split)
    assert split_score.precision == 1
    assert split_score.recall < 0.8


def test_what_is_left_out_costs_but_common_background_does_not():
    truth = blocks()
    left_out = np.where(truth == 2, 0, truth)
    assert rand_score(truth, left_out).error == 0  # background stands for the object that it covers
    part = truth.copy()
    part[0][truth[0] > 0] = 0
    assert rand_score(truth, part).error > 0.05


def test_errors():
    with pytest.raises(UserError, match=r'\(4, 6, 8\), segmentation has \(4, 6, 7\)'):
        rand_score(blocks(), blocks()[:, :, :7])
    with pytest.raises(UserError, match='neither'):
        rand_score(blocks() * 0, blocks() * 0)
