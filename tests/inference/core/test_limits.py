"""Objects that stop growing: at max_object_steps or max_object_voxels, or where the network gives no numbers."""

import re
import threading

import numpy as np
import pytest
from scipy import ndimage

from ffn.inference import report
from ffn.inference.core.canvas import Interrupted
from ffn.inference.core.checkpoint import Checkpointer, restore_checkpoint
from ffn.inference.core.movement import FaceMaxMovementPolicy
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.restrictor import Restrictor
from ffn.inference.request import read_config
from ffn.inference.seeds.policy import SeedPolicy
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from tests.inference.oracle import (
    OPTIONS,
    REQUEST,
    OracleNetwork,
    SeedNetwork,
    oracle_canvas,
    two_blocks,
)

START = (9, 12, 7)
TEXT = REQUEST.format(folder='.')


class Points(SeedPolicy):
    """One seed in each of the two blocks, and others after them."""

    def points(self):
        return np.array([START, (10, 11, 22), (5, 6, 8), (15, 18, 9)])


def segmented(network=OracleNetwork, **options):
    canvas = oracle_canvas(two_blocks(), network(), **options)
    canvas.segment_all(Points)
    return canvas


def stops(canvas):
    return {
        name: canvas.counters[f'stopped-by-{name}']
        for name in ('max_object_steps', 'max_object_voxels')
    }


def test_off_unless_asked_for():
    assert CanvasOptions(**OPTIONS).max_object_steps == 0
    assert CanvasOptions(**OPTIONS).max_object_voxels == 0
    options = read_config(TEXT).options
    assert (options.max_object_steps, options.max_object_voxels) == (0, 0)
    canvas = segmented()
    assert canvas.limited == {}
    assert not any(name.startswith('stopped-by') for name in canvas.counters.as_dict())
    np.testing.assert_array_equal(canvas.segmentation, two_blocks())


def test_the_request_has_them():
    options = read_config(TEXT, 'max_object_steps: 7 max_object_voxels: 3000000000').options
    assert (options.max_object_steps, options.max_object_voxels) == (7, 3_000_000_000)


@pytest.mark.parametrize('limit', [1, 13])
def test_an_object_ends_after_its_steps_and_is_kept(limit):
    canvas = segmented(max_object_steps=limit)
    assert canvas.limited == dict.fromkeys(canvas.origins, 'max_object_steps')
    assert [o.iters for o in canvas.origins.values()] == [limit] * len(canvas.origins)
    assert stops(canvas) == {'max_object_steps': len(canvas.origins), 'max_object_voxels': 0}
    assert canvas.counters['predict-calls'] == limit * len(canvas.origins)
    for i, origin in canvas.origins.items():
        assert canvas.segmentation[origin.start_zyx] == i
    # The rest of an object is there for the seeds that follow.
    assert len(canvas.origins) == 4
    told = report.BoxReport.of_canvas(canvas)
    assert told.stopped_at_limit == canvas.limited
    assert '4 objects stopped growing' in report.summary([told], 1.0)


class ForgetfulNetwork(OracleNetwork):
    """Every fifth step takes more away than it adds."""

    def predict(self, image, seed):
        logits = super().predict(image, seed)
        if self.steps % 5 == 0:
            logits[:, :, :4] = self.low
        return logits


@pytest.mark.parametrize('network', [OracleNetwork, SeedNetwork, ForgetfulNetwork])
def test_an_object_ends_at_the_first_step_that_reaches_its_voxels(network):
    """With the last network, the voxels gained alone would reach it sooner."""
    limit, sizes = 750, []

    def size(canvas, _=None):
        sizes.append(int(np.count_nonzero(canvas.seed >= canvas.options.segment_threshold)))

    free = oracle_canvas(two_blocks(), network())
    free.segment_at(START, callback=size)
    first = next(i for i, n in enumerate(sizes, 1) if n >= limit)
    assert 1 < first < len(sizes)
    gained = np.maximum(np.diff(sizes, prepend=0), 0).cumsum()
    assert (gained[first - 2] >= limit) == (network is ForgetfulNetwork)

    canvas = segmented(network, max_object_voxels=limit)
    assert canvas.limited[1] == 'max_object_voxels'
    assert canvas.origins[1].iters == first
    assert np.count_nonzero(canvas.segmentation == 1) == sizes[first - 1]
    assert stops(canvas)['max_object_voxels'] == len(canvas.limited)


def test_ending_by_itself_at_exactly_the_limit_is_no_stop():
    free = segmented()
    steps = free.origins[1].iters
    voxels = int(np.count_nonzero(free.segmentation == 1))
    assert steps == free.origins[2].iters
    # Voxels are all there before the last steps, which find no more.
    for name, limit in {'max_object_steps': steps, 'max_object_voxels': voxels + 1}.items():
        at = segmented(**{name: limit})
        assert at.limited == {}, name
        assert stops(at) == dict.fromkeys(stops(at), 0)
        np.testing.assert_array_equal(at.segmentation, free.segmentation)
        assert set(segmented(**{name: limit - 1}).limited.values()) == {name}


def test_so_is_ending_where_a_mask_begins():
    """The last step is beside the mask, so that positions that may not be gone to are left over."""
    mask = np.zeros((20, 24, 30), bool)
    mask[:, 15:] = True

    class Far(Points):
        def points(self):
            return np.array([(4, 4, 5)])

    def masked(**options):
        canvas = oracle_canvas(two_blocks(), restrictor=Restrictor(mask), **options)
        canvas.segment_all(Far)
        return canvas

    free = masked()
    assert free.counters['skip_restricted_pos'] > 0
    steps = free.origins[1].iters
    assert masked(max_object_steps=steps - 1).limited == {1: 'max_object_steps'}
    at = masked(max_object_steps=steps)
    np.testing.assert_array_equal(at.segmentation, free.segmentation)
    assert at.limited == {}


def test_the_smaller_limit_counts():
    assert segmented(max_object_steps=3, max_object_voxels=10_000).limited[1] == 'max_object_steps'
    assert segmented(max_object_steps=90, max_object_voxels=300).limited[1] == 'max_object_voxels'


def test_an_object_that_is_too_small_at_the_limit_is_rejected_as_ever():
    canvas = segmented(max_object_steps=1, min_segment_size=1000)
    assert canvas.limited == {}
    assert canvas.counters['rejected-small'] == 4


def run_for_nine_steps(path, network, limits):
    """Goes on from a checkpoint; returns the canvas if it came to its end."""
    canvas = oracle_canvas(two_blocks(), network(), **limits)
    canvas.seed_policy = Points(canvas.view)
    if path.exists():
        restore_checkpoint(canvas, path)
    left, stop = 9, threading.Event()
    save = Checkpointer(path, 0, stop)

    def pause(canvas):
        nonlocal left
        left -= 1
        if left == 0:
            stop.set()
        save(canvas)

    canvas.observers.append(pause)
    try:
        canvas.segment_all(canvas.seed_policy)
    except Interrupted:
        return None
    return canvas


@pytest.mark.parametrize('network', [OracleNetwork, SeedNetwork])
@pytest.mark.parametrize('limits', [
    {'max_object_steps': 21}, {'max_object_voxels': 900},
    {'max_object_steps': 40, 'max_object_voxels': 900},
])  # fmt: skip
def test_limits_survive_a_checkpoint(tmp_path, network, limits):
    """Stopped after every ninth step, so in the middle of objects."""
    uncut = segmented(network, **limits)
    path, runs, canvas = tmp_path / 'seg.cpoint', 0, None
    while canvas is None:
        canvas, runs = run_for_nine_steps(path, network, limits), runs + 1
    assert runs > 5
    assert canvas.limited == uncut.limited != {}
    assert {i: o[:2] for i, o in canvas.origins.items()} == {
        i: o[:2] for i, o in uncut.origins.items()
    }
    np.testing.assert_array_equal(canvas.segmentation, uncut.segmentation)
    assert stops(canvas) == stops(uncut)


@pytest.mark.parametrize('name', ['max_object_steps', 'max_object_voxels'])
def test_negative_limits_are_refused(name):
    with pytest.raises(UserError) as caught:
        read_config(TEXT, f'{name}: -1')
    assert f'inference_options.{name} is -1' in str(caught.value)
    assert '\n' not in str(caught.value)


class OwnMoves(FaceMaxMovementPolicy):
    """A policy that the canvas knows nothing of."""


@pytest.mark.parametrize('policy', [FaceMaxMovementPolicy, OwnMoves])
def test_a_network_that_overflows_is_told(policy, caplog):
    """Once, wherever the objects begin; grown by hand as well, and with a policy of one's own."""

    class Overflowing(OracleNetwork):
        def predict(self, image, seed):
            logits = super().predict(image, seed)
            return logits if self.steps <= 2 else logits * np.float32(np.nan)

    canvas = oracle_canvas(two_blocks(), Overflowing(), corner_zyx=Zyx(100, 200, 300))
    canvas.movement_policy = policy(canvas.view, (1, 2, 3), canvas.options.move_threshold)
    canvas.segment_at((8, 10, 6))
    assert canvas.counters['nan-steps'] == canvas.counters['predict-calls'] - 2 > 0
    canvas.segment_all(iter([(8, 10, 20)]))
    (told,) = [one.getMessage() for one in caplog.records if 'NaN' in one.getMessage()]
    assert re.search(r'around x,y,z 30\d,2\d\d,10\d; .*nan-steps', told)
    assert 'nan-steps' not in segmented().counters.as_dict()


class Bright(OracleNetwork):
    """Overflows beside voxels of 100, nowhere else: moves end there, and the middle is never one of them."""

    def predict(self, image, seed):
        bright = image >= 100
        logits = super().predict(np.where(bright, 1, image), seed)
        logits[ndimage.binary_dilation(bright, np.ones((3, 3, 3)))] = np.nan
        return logits


@pytest.mark.parametrize('movement', ['', 'CoarseToFineMovementPolicy'])
def test_a_network_that_overflows_where_no_object_gets_is_told(movement, caplog):
    labels = np.zeros((20, 24, 60), np.int32)
    labels[3:-3, 3:-3, 3:-3] = 1
    whole = oracle_canvas(labels, Bright(), movement_policy=(movement, ''))
    labels[..., 32] *= 100
    canvas = oracle_canvas(labels, Bright(), movement_policy=(movement, ''))
    for one in (whole, canvas):
        one.segment_all(iter([(8, 10, 10)]))
    assert 0 < canvas.segmented_voxels() < 0.6 * whole.segmented_voxels()
    assert whole.counters['nan-steps'] == 0 < canvas.counters['nan-steps']
    assert len(caplog.records) == 1
