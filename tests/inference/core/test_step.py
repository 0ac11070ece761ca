import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.step import DELETED_FROM, NetworkStep
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Xyz

SHAPE, FOV, POSITION = (12, 14, 17), Xyz(9, 7, 5), (5, 6, 8)
FIELD = (slice(3, 8), slice(3, 10), slice(4, 13))
PAD, MOVE = np.float32(-2.5), 1.5
# Values at which comparisons could go wrong.
VALUES = np.array([np.nan, -0.0, 0.0, -1e-40, 1e-40, -2.5, -2, 1, 1.5, 2, 3, -np.inf, np.inf], 'f4')


class Fixed:
    """A network with one answer, which remembers what it was shown."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, image, seed):
        self.shown = image.copy(), seed.copy()
        return self.answer


def make_step(answer, image, seed, share, predicted=FOV):
    options = CanvasOptions(
        init_activation=3, pad_value=float(PAD), move_threshold=MOVE, segment_threshold=0.5,
        disco_seed_threshold=share,
    )  # fmt: skip
    info = ModelInfo(Xyz(2, 2, 1), predicted, FOV, FOV)
    return NetworkStep(Fixed(answer), info, options, Counters(), image, seed), info


def expected(old, new, share):
    """Disconnected-seed bias, voxel by voxel."""
    if share < 0 or not np.mean(new >= MOVE) > share:
        return new
    pairs = zip(old.ravel(), new.ravel(), strict=True)
    return np.array([o if o < 0 and n > o else n for o, n in pairs], 'f4').reshape(old.shape)


@given(st.integers(0, 2**32 - 1), st.sampled_from([-1, 0, 0.2, 0.5]), st.booleans())
def test_a_step_shows_pads_and_keeps_background_as_it_is_written(number, share, narrow):
    rng = np.random.default_rng(number)
    image, seed = rng.random(SHAPE, 'f4'), rng.choice(VALUES, SHAPE)
    new = rng.choice(VALUES[1 : rng.integers(3, len(VALUES))], FOV.zyx)
    before = seed.copy()
    step, info = make_step(new, image, seed, share, Xyz(5, 3, 1) if narrow else FOV)
    logits = step.run(POSITION).copy()

    old = before[FIELD].copy()
    shown_image, shown_seed = step._network.shown
    np.testing.assert_array_equal(shown_image, image[FIELD])
    np.testing.assert_array_equal(shown_seed, np.where(np.isnan(old), PAD, old))
    old = old[info.predicted]
    wanted = expected(old, new[info.predicted], share)
    assert np.array_equal(logits.view('u4'), wanted.view('u4'))  # the sign of 0, too
    before[FIELD][info.predicted] = wanted
    np.testing.assert_array_equal(seed, before)
    assert step.count_deleted() == np.count_nonzero((old >= DELETED_FROM) & (wanted < 0))
    assert step.count_gained() == np.sum(wanted >= 0.5) - np.sum(old >= 0.5)


def test_a_field_of_view_that_leaves_the_volume_is_an_error():
    image = np.zeros(SHAPE, 'f4')
    step, _ = make_step(np.zeros(FOV.zyx, 'f4'), image, image.copy(), 0)
    for position in ((1, 6, 8), (5, 12, 8), (5, 6, 15)):
        with pytest.raises((ValueError, IndexError)):
            step.run(position)
