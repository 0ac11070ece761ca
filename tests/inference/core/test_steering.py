"""Objects that are stopped, gone on with, kept and forgotten on a canvas."""

import threading

import numpy as np
import pytest

from ffn.inference.core.canvas import Interrupted
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.steering import SteeredCanvas
from ffn.utils.logits import logit
from tests.inference.oracle import (
    OPTIONS,
    OracleNetwork,
    SeedNetwork,
    model_info,
    object_mask,
    oracle_canvas,
    two_blocks,
)

START = (8, 10, 6)


def steered_canvas(labels, network=None, movement='', movement_args='', **options):
    options = CanvasOptions(**{**OPTIONS, **options})
    canvas = SteeredCanvas(
        model_info(),
        network or OracleNetwork(),
        labels.astype(np.float32),
        options,
        movement_policy=(movement, movement_args),
    )
    canvas.lock.acquire()
    return canvas


def grow(canvas, steps=None):
    """Goes on for a number of steps, or to the end; returns whether that is the end."""
    left = [steps]

    def after_step():
        if left[0] is not None:
            left[0] -= 1
            if not left[0]:
                raise Interrupted('enough')

    try:
        canvas.go_on(after_step)
    except Interrupted:
        return False
    return True


@pytest.mark.parametrize('movement', ['', 'CoarseToFineMovementPolicy'])
@pytest.mark.parametrize('every', [1, 3, 7])
def test_stopping_and_going_on_changes_nothing(movement, every):
    labels = two_blocks()
    plain = oracle_canvas(labels, SeedNetwork(), movement_policy=(movement, ''))
    steps = plain.segment_at(START)
    canvas = steered_canvas(labels, SeedNetwork(), movement)
    canvas.begin(START)
    stops = 0
    while not grow(canvas, every):
        stops += 1
        assert canvas.voxels == np.count_nonzero(object_mask(canvas))
    assert stops >= steps // every
    assert canvas.grown.iters == steps
    assert canvas.seed.tobytes() == plain.seed.tobytes()


def test_what_is_kept_is_a_segment_and_what_is_forgotten_never_was():
    labels = two_blocks()
    canvas = steered_canvas(labels, min_segment_size=10**6)
    before = canvas.segmentation.copy(), canvas.seg_prob.copy()
    canvas.begin(START)
    grow(canvas, 4)
    mask = object_mask(canvas)
    assert canvas.keep() == 1  # although it is small
    canvas.drop()
    np.testing.assert_array_equal(canvas.segmentation, mask)
    np.testing.assert_array_equal(canvas.seg_prob > 0, mask)
    assert canvas.origins[1].start_zyx == START
    assert canvas.origins[1].iters == 4
    assert not canvas.object_mask(np.s_[:, :, :]).any()
    canvas.begin((9, 12, 22))
    grow(canvas)
    assert canvas.keep() == 2
    canvas.drop()
    canvas.forget_segment(2)
    canvas.forget_segment(1)
    np.testing.assert_array_equal(canvas.segmentation, before[0])
    np.testing.assert_array_equal(canvas.seg_prob, before[1])
    assert canvas.origins == canvas.overlaps == {}
    canvas.begin(START)
    grow(canvas)
    assert canvas.keep() == 1


def test_ids_follow_the_greatest_that_is_kept():
    canvas = steered_canvas(two_blocks(), move_threshold=5)
    canvas.prefill((two_blocks() == 2) * 7)
    for start, segment in (((5, 6, 5), 2), ((14, 6, 5), 3), ((5, 16, 5), 4)):
        canvas.begin(start)
        canvas.update_at(start)
        assert canvas.keep() == segment
        canvas.drop()
    for forgotten, segment in ((2, 5), (5, 5)):
        canvas.forget_segment(forgotten)
        canvas.begin((14, 16, 5))
        canvas.update_at((14, 16, 5))
        assert canvas.keep() == segment
        canvas.drop()


def test_an_object_without_voxels_is_not_kept():
    canvas = steered_canvas(two_blocks(), OracleNetwork(low=-4, high=0))
    canvas.begin(START)
    assert grow(canvas)
    assert canvas.voxels == 0
    assert canvas.keep() == 0
    assert canvas.grown is not None


@pytest.mark.parametrize('movement', ['', 'CoarseToFineMovementPolicy'])
def test_a_lower_threshold_opens_moves(movement):
    labels = two_blocks()
    canvas = steered_canvas(labels, movement=movement, move_threshold=3.9995, init_activation=5)
    canvas.begin(START)
    assert grow(canvas)
    few = canvas.grown.iters
    assert few == 1
    canvas.change_thresholds(logit(0.9), canvas.options.segment_threshold)
    assert grow(canvas)
    assert canvas.grown.iters > few
    np.testing.assert_array_equal(object_mask(canvas), labels == 1)
    assert canvas.voxels == np.count_nonzero(labels == 1)


def test_a_threshold_above_the_start_is_lowered():
    canvas = steered_canvas(two_blocks(), move_threshold=3)
    canvas.begin(START)
    assert grow(canvas)
    assert canvas.grown.iters == 0  # init_activation is lower
    canvas.change_thresholds(logit(0.9), canvas.options.segment_threshold)
    assert grow(canvas)
    np.testing.assert_array_equal(object_mask(canvas), two_blocks() == 1)


def test_a_higher_threshold_closes_moves():
    canvas = steered_canvas(two_blocks())
    canvas.begin(START)
    grow(canvas, 2)
    canvas.change_thresholds(5, 3.999)
    assert grow(canvas)
    assert canvas.grown.iters == 2
    assert canvas.voxels == np.count_nonzero(object_mask(canvas)) > 0
    canvas.change_thresholds(5, 5)
    assert canvas.voxels == 0


@pytest.mark.parametrize('movement', ['', 'CoarseToFineMovementPolicy'])
@pytest.mark.parametrize('move', [0.8, 0.91])
def test_a_step_in_which_a_threshold_changes_offers_its_moves(movement, move):
    labels = np.zeros((15, 17, 60), np.int32)
    labels[7, 7:10, 3:-3] = 1  # thinner than the deltas: each step is the only way to the next
    changed = []

    class Slow(OracleNetwork):
        def predict(self, image, seed):
            if self.steps == 3:
                with canvas.lock:  # as a key does, while the network computes
                    canvas.change_thresholds(logit(move), canvas.options.segment_threshold)
                changed.append(move)
            return super().predict(image, seed)

    def after_step():
        if changed and changed.pop():
            raise Interrupted('with the new threshold')

    canvas = steered_canvas(labels, Slow(), movement)
    canvas.begin((7, 8, 6))
    with pytest.raises(Interrupted):
        canvas.go_on(after_step)
    assert grow(canvas)
    np.testing.assert_array_equal(object_mask(canvas), labels == 1)


@pytest.mark.parametrize('movement', ['', 'CoarseToFineMovementPolicy'])
def test_thresholds_leave_the_score_threshold_of_the_request(movement):
    canvas = steered_canvas(two_blocks(), OracleNetwork(high=4), movement, '{"score_threshold": 5}')
    for move, segment in ((0.9, 0.5), (0.8, 0.5)):
        canvas.change_thresholds(logit(move), logit(segment))
        canvas.begin(START)
        assert grow(canvas)
        assert canvas.grown.iters == 1  # no move is offered


def test_others_use_the_canvas_while_the_network_computes():
    inside, go = threading.Event(), threading.Event()

    class Slow(OracleNetwork):
        def predict(self, image, seed):
            inside.set()
            assert go.wait(30)
            return super().predict(image, seed)

    canvas = steered_canvas(two_blocks(), Slow())
    canvas.begin(START)
    outcome = []

    def flood():
        with canvas.lock:
            try:
                canvas.go_on(lambda: None)
            except Interrupted as gone:
                outcome.append(str(gone))

    thread = threading.Thread(target=flood)
    thread.start()
    canvas.lock.release()
    assert inside.wait(30)
    with canvas.lock:
        before = canvas.seed.copy()
        canvas.begin((9, 12, 22))
    go.set()
    thread.join()
    # The step was for an object that is gone.
    assert outcome == ['the object is gone']
    assert not np.array_equal(canvas.seed, before, equal_nan=True)
    assert np.count_nonzero(~np.isnan(canvas.seed)) == 1
    assert canvas.grown.iters == 0
