"""Logits, which are compared with what float32 arrays hold."""

import numpy as np
import pytest

from ffn.utils.logits import logit


@pytest.mark.parametrize('probability', [0.02, 0.05, 0.6, 0.7, 0.8, 0.9, 0.95])
def test_a_voxel_that_is_set_to_a_logit_reaches_it_in_whichever_type_they_are_compared(probability):
    voxels = np.full(3, logit(probability), np.float32)
    assert (voxels >= logit(probability)).all()
    assert voxels[0] >= logit(probability)
    assert voxels[0].astype(np.float64) >= logit(probability)  # as NumPy 1 compares it
    assert voxels[0].astype(np.float64) <= logit(probability)


def test_log_of_the_odds():
    assert logit(0.5) == 0
    assert logit(0.9) == pytest.approx(np.log(9))
    assert logit(0.1) == pytest.approx(-np.log(9))
