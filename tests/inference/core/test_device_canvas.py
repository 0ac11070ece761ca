"""A canvas whose seed is elsewhere grows what `Canvas` grows, to the last move; the device is NumPy here."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.checkpoint import Checkpointer, restore_checkpoint
from ffn.inference.core.counters import Counters
from ffn.inference.core.device_canvas import DeviceCanvas
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.protocols import DeviceStep
from ffn.inference.core.restrictor import Restrictor
from ffn.inference.core.step import NetworkStep
from ffn.inference.seeds.policy import SeedPolicy
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Xyz
from tests.inference.oracle import OPTIONS, OracleNetwork, SeedNetwork, model_info, two_blocks

SHAPE = (20, 24, 30)
FOV = Xyz(9, 7, 5)
# The network predicts less than it sees.
NARROW = ModelInfo(Xyz(2, 2, 1), Xyz(5, 5, 3), FOV, FOV)
POLICIES = ['', 'CoarseToFineMovementPolicy']


class Device:
    """A network, and its areas."""

    def __init__(self, network, info, options):
        self.network, self.info, self.options = network, info, options
        self.calls = Counters()
        self.open_areas = 0

    def predict(self, image, seed):
        raise AssertionError('the host makes no steps')

    def open(self, image, boxes):
        self.open_areas += 1
        return Area(self, image, boxes)


class Area:
    """Image and seed of a canvas; tells of few positions, so that others have to be asked for."""

    most_watched = 3

    def __init__(self, device, image, boxes):
        self.device, self.image, self.boxes = device, image.copy(), boxes
        self.seed = np.full(image.shape, 77, np.float32)  # of another canvas
        self.network_step = NetworkStep(
            device.network, device.info, device.options, Counters(), self.image, self.seed
        )
        self.closed = False

    def begin(self, pos, logit):
        self.seed[:] = np.nan
        self.seed[pos] = logit

    def step(self, pos, watched):
        assert not self.closed
        assert len(set(watched)) == len(watched) <= self.most_watched
        self.device.calls.add('step')
        logits = self.network_step.run(pos)
        deleted, gained = self.network_step.count_deleted(), self.network_step.count_gained()
        maxima = [list(faces(logits, box)) for box in self.boxes]
        return DeviceStep(maxima, [float(self.seed[p]) for p in watched], deleted, gained)

    def logits(self, positions):
        assert not self.closed
        self.device.calls.add('logits')
        return [float(self.seed[p]) for p in positions]

    def read(self, extent):
        assert not self.closed
        self.device.calls.add('read')
        return self.seed[extent].copy()

    def write(self, seed):
        self.device.calls.add('write')
        self.seed[:] = seed

    def close(self):
        assert not self.closed
        self.closed = True
        self.device.open_areas -= 1


def faces(logits, box):
    """The maxima of the faces, one after the other."""
    center = [n // 2 for n in logits.shape]
    low, high = ([c + sign * d for c, d in zip(center, box)] for sign in (-1, 1))
    for axis in range(3):
        for end in (low[axis], high[axis]) if box[axis] else ():
            first, last = list(low), list(high)
            first[axis] = last[axis] = end
            face = logits[tuple(slice(a, b + 1) for a, b in zip(first, last))]
            best = np.unravel_index(face.argmax(), face.shape)
            yield float(face.max()), tuple(int(a + b - c) for a, b, c in zip(first, best, center))


class Points(SeedPolicy):
    """Seeds in both blocks; one beside them, whose object is rejected."""

    def points(self):
        return np.array([(9, 12, 7), (10, 11, 22), (5, 6, 8), (2, 3, 14), (15, 18, 9), (12, 5, 20)])


def image():
    """Two blocks with a hole and a neck."""
    labels = two_blocks(SHAPE)
    labels[4:12, 10:14, 9:11] = 0
    labels[10:12, 10:12, 12:16] = 1
    return labels.astype(np.float32)


def make_pair(network=OracleNetwork, info=None, policy='', mask=None, **options):
    """The two canvases, of which nothing has been asked yet, and the device."""
    info = info or model_info()
    given = CanvasOptions(**{**OPTIONS, 'min_segment_size': 30, **options})
    device = Device(network(), info, given)
    return [
        kind(
            info, net, image(), given, keep_history=True, movement_policy=(policy, {}),
            restrictor=Restrictor(mask),
        )
        for kind, net in ((Canvas, network()), (DeviceCanvas, device))
    ], device  # fmt: skip


def last_step(canvas):
    """What an observer that is called after a step adds to a list."""
    return canvas.history[-1:] if canvas.growing is not None else []


def flood(canvas, seeds=Points):
    """Segments; returns every step that was made, with what it deleted."""
    steps = []
    with canvas.observed_by(lambda canvas: steps.extend(last_step(canvas))):
        canvas.segment_all(seeds)
    return steps


def counts(canvas):
    values = canvas.counters.as_dict()
    return {n: v for n, v in values.items() if '-time-' not in n and n != 'inference-calls'}


def check_same(canvas, other):
    np.testing.assert_array_equal(canvas.segmentation, other.segmentation)
    np.testing.assert_array_equal(canvas.seg_prob, other.seg_prob)
    np.testing.assert_array_equal(canvas.seed, other.seed)
    assert {i: o[:2] for i, o in canvas.origins.items()} == {
        i: o[:2] for i, o in other.origins.items()
    }
    assert {i: o.tolist() for i, o in canvas.overlaps.items()} == {
        i: o.tolist() for i, o in other.overlaps.items()
    }
    assert canvas.limited == other.limited
    assert counts(canvas) == counts(other)


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('network', [OracleNetwork, SeedNetwork])
@pytest.mark.parametrize('info', [None, NARROW])
@pytest.mark.parametrize(
    'options',
    [{}, {'disco_seed_threshold': 0.0}, {'disco_seed_threshold': 0.4}, {'min_segment_size': 900}],
)
def test_the_same_flood(policy, network, info, options):
    (host, own), device = make_pair(network, info, policy, **options)
    steps = flood(host)
    assert flood(own) == steps
    assert len(steps) > 10
    check_same(host, own)
    assert device.calls['step'] == host.counters['predict-calls']
    # Fetched once for every object that may become a segment, and at the end.
    assert device.calls['read'] <= len(host.origins) + host.counters['rejected-small'] + 1
    assert device.calls['write'] == 0
    assert device.open_areas == 0


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize(
    'limit', [{'max_object_steps': 7}, {'max_object_voxels': 400}, {'max_object_voxels': 1}]
)
def test_limits(policy, limit):
    (host, own), _ = (
        make_pair(SeedNetwork, policy=policy, min_segment_size=1, **limit)
        if ('min_segment_size' not in limit)
        else make_pair(SeedNetwork, policy=policy, **limit)
    )
    assert flood(own) == flood(host)
    assert own.limited
    check_same(host, own)


def test_masks():
    mask = np.zeros(SHAPE, bool)
    mask[:, :, 18:21] = True
    (host, own), _ = make_pair(mask=mask)
    assert flood(own) == flood(host)
    assert own.counters['skip_restricted_pos'] > 0
    check_same(host, own)


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('others', [(1, 1), (1, 0), (0, 1)])
def test_stopped_and_continued_on_either(tmp_path, policy, others):
    """Every 9 steps, by one kind of canvas or the other in turn."""
    (uncut, _), _ = make_pair(SeedNetwork, policy=policy)
    steps = flood(uncut)
    path, made, kind = tmp_path / 'a.cpoint', [], 0
    while True:
        canvas = make_pair(SeedNetwork, policy=policy)[0][others[kind % 2]]
        kind += 1
        canvas.seed_policy = Points(canvas.view)
        if path.exists():
            restore_checkpoint(canvas, path)
        stop, left = threading.Event(), 9
        save = Checkpointer(path, 0, stop)

        def observe(canvas):
            nonlocal left
            left -= 1
            made.extend(last_step(canvas))
            if left == 0:
                stop.set()
            save(canvas)

        canvas.observers.append(observe)
        try:
            canvas.segment_all(canvas.seed_policy)
            break
        except Interrupted:
            assert kind < 100
    assert kind > 3
    assert made == steps
    np.testing.assert_array_equal(canvas.segmentation, uncut.segmentation)
    np.testing.assert_array_equal(canvas.seg_prob, uncut.seg_prob)
    assert canvas.counters['predict-calls'] == uncut.counters['predict-calls']


def test_one_object_after_another_by_hand():
    """As resegmentation and animations do; the seed is there after every one, and during the steps."""
    (host, own), device = make_pair(SeedNetwork)
    seen = {}
    for canvas in (host, own):
        seen[canvas] = found = []
        for start in ((9, 12, 7), (10, 11, 22)):
            iters = canvas.segment_at(
                start, lambda canvas, pos, found=found: found.append((pos, canvas.seed.copy()))
            )
            found.append((iters, canvas.seed.copy()))
    assert device.open_areas == 0
    for mine, theirs in zip(seen[own], seen[host], strict=True):
        np.testing.assert_equal(mine, theirs)


def test_single_steps_return_logits():
    (host, own), _ = make_pair(SeedNetwork, NARROW)
    for canvas in (host, own):
        canvas.init_seed((9, 12, 7))
    for pos in ((9, 12, 7), (10, 12, 9)):
        logits = host.update_at(pos)
        np.testing.assert_array_equal(own.update_at(pos), logits)
        np.testing.assert_array_equal(own.seed, host.seed)
    assert own.view.unvisited_share((10, 12, 9)) == host.view.unvisited_share((10, 12, 9)) == 0
    assert own.view.unvisited_share((10, 12, 11)) == host.view.unvisited_share((10, 12, 11)) > 0
    own.init_seed((9, 12, 7))
    host.init_seed((9, 12, 7))
    assert own.view.unvisited_share((9, 12, 7)) == host.view.unvisited_share((9, 12, 7)) == 74 / 75
    np.testing.assert_array_equal(own.seed, host.seed)


def test_a_failure_leaves_the_device_free():
    (_, own), device = make_pair()

    class Broken:
        def predict(self, image, seed):
            raise RuntimeError('device lost')

    device.network = Broken()
    with pytest.raises(RuntimeError, match='device lost'):
        flood(own)
    assert device.open_areas == 0


def test_a_canvas_with_nothing_to_do_is_not_brought_there():
    info, options = model_info(), CanvasOptions(**OPTIONS)
    device = Device(OracleNetwork(), info, options)
    canvas = DeviceCanvas(info, device, image(), options, idle='masked')
    assert np.isnan(canvas.seed).all()
    assert device.open_areas == 0


@pytest.mark.parametrize('info', [
    model_info(), NARROW, ModelInfo(Xyz(0, 0, 0), FOV, FOV, FOV),
])  # fmt: skip
@pytest.mark.parametrize('where', [
    np.s_[:], np.s_[..., -3:], np.s_[2, 3, 4], np.s_[0, 0, 0], np.s_[:, 0],
])  # fmt: skip
def test_steps_without_numbers_are_counted_as_on_the_host(info, where):
    class Overflowing(OracleNetwork):
        def predict(self, image, seed):
            logits = super().predict(image, seed)
            if self.steps > 1:
                logits[where] = np.nan
            return logits

    (canvas, other), _ = make_pair(Overflowing, info=info)
    for one in (canvas, other):
        for _ in range(2):
            one.segment_at((8, 10, 6))
    assert canvas.counters['predict-calls'] == other.counters['predict-calls'] > 1
    assert canvas.counters['nan-steps'] == other.counters['nan-steps']
