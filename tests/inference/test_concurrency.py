"""Several canvases on one executor: the same results as one at a time, and sooner."""

import sys
import threading
import time

import h5py
import numpy as np
import pytest

from ffn.inference import box_run
from ffn.inference.core.counters import Counters
from ffn.inference.executor import Executor
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.inference.seeds.registry import make_policy
from ffn.utils.geometry import Box
from tests.inference.oracle import (
    REQUEST,
    OracleNetwork,
    SeedNetwork,
    batched,
    oracle_canvas,
    stand_in,
)

GRID = ('PolicyGrid3d', {'step': 7})


def volume(number: int) -> np.ndarray:
    """Bodies that differ in size and brightness from one number to the next."""
    labels = np.zeros((13, 17 + number, 22), np.int32)
    labels[1:-1, 1 : 7 + number, 1:-1] = 1 + number
    labels[1:-1, 8 + number : -1, 1:10] = 12 + number
    labels[1:-1, 8 + number : -1, 12:-1] = 3
    return labels


def client_canvas(labels, executor, **options):
    counters = Counters()
    network = executor.client(counters)
    return oracle_canvas(labels, network, counters=counters, min_segment_size=20, **options)


def segment(canvas) -> None:
    canvas.segment_all(make_policy(canvas.view, *GRID))


def together(executor, canvases, work=segment) -> list:
    """Does the work on all canvases, one thread for each; returns what they raised."""
    raised = [None] * len(canvases)
    entered = threading.Barrier(len(canvases))

    def one(number):
        with executor.active():
            entered.wait(30)
            try:
                work(canvases[number])
            except RuntimeError as error:
                raised[number] = error

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(canvases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return raised


def state(canvas):
    """What decides: all arrays and origins without their times."""
    origins = {i: o[:2] for i, o in canvas.origins.items()}
    overlaps = {i: o.tolist() for i, o in canvas.overlaps.items()}
    counts = [canvas.counters[name] for name in ('predict-calls', 'seeds', 'rejected-weak')]
    return canvas.segmentation, canvas.seg_prob, canvas.seed, origins, overlaps, counts


@pytest.fixture(scope='module', params=[OracleNetwork, SeedNetwork])
def network_and_expected(request):
    """A network, and what it makes of eight volumes one after the other."""
    canvases = [oracle_canvas(volume(i), request.param(), min_segment_size=20) for i in range(8)]
    for canvas in canvases:
        segment(canvas)
    assert all(len(canvas.origins) >= 3 for canvas in canvases)
    return request.param, [state(canvas) for canvas in canvases]


def test_the_second_network_depends_on_image_and_seed():
    """Otherwise mixing two canvases up might not be noticed."""
    network, image = SeedNetwork(), np.full((5, 7, 9), 3, np.float32)
    seed = np.full((5, 7, 9), -2, np.float32)
    seed[2, 3, 4] = 3
    first = network.predict(image, seed)
    assert not np.array_equal(first, network.predict(image, first))
    assert not np.array_equal(first, network.predict(image + 1, seed))


@pytest.mark.parametrize('batch_size', [1, 4, 8])
@pytest.mark.parametrize('canvases', [1, 2, 4, 8])
def test_as_one_at_a_time(network_and_expected, canvases, batch_size):
    network, expected = network_and_expected
    sizes, predict = set(), batched(network())

    def counted(images, seeds):
        sizes.add(len(images))
        time.sleep(0.0003)  # in which the others arrive
        return predict(images, seeds)

    executor = Executor(counted, batch_size)
    found = [client_canvas(volume(i), executor) for i in range(canvases)]
    assert together(executor, found) == [None] * canvases
    for canvas, wanted in zip(found, expected):
        for mine, theirs in zip(state(canvas), wanted):
            np.testing.assert_equal(mine, theirs)
    assert max(sizes) <= batch_size
    if canvases >= 4 and batch_size >= 4:
        assert max(sizes) > 1


def steps_per_second(canvases: int, steps: int = 60) -> float:
    """With a device that takes 5 ms for a batch, whatever its size."""
    predict = batched(OracleNetwork())

    def device(images, seeds):
        time.sleep(0.005)
        return predict(images, seeds)

    executor = Executor(device, 8)
    found = [client_canvas(volume(i), executor, max_object_steps=steps) for i in range(canvases)]
    begin = time.monotonic()
    together(executor, found, lambda canvas: canvas.segment_at((6, 4, 10)))
    made = [canvas.counters['predict-calls'] for canvas in found]
    assert made == [steps] * canvases
    return sum(made) / (time.monotonic() - begin)


def test_eight_together_are_at_least_four_times_as_fast_as_one():
    ratios = []
    while len(ratios) < 3 and max(ratios, default=0) < 4:
        ratios.append(steps_per_second(8) / steps_per_second(1))
    assert max(ratios) >= 4, ratios


def test_what_the_network_raises_reaches_all_at_once():
    failure, calls = RuntimeError('device lost'), 0

    def device(images, seeds):
        nonlocal calls
        calls += 1
        time.sleep(0.002)
        if calls == 12:
            raise failure
        return batched(OracleNetwork())(images, seeds)

    executor = Executor(device, 3)
    begin = time.monotonic()
    raised = together(executor, [client_canvas(volume(i), executor) for i in range(8)])
    assert time.monotonic() - begin < 10
    assert all(error is failure for error in raised)
    assert calls == 12


def test_waiting_costs_no_processor_time():
    """Four canvases wait nearly all of the time."""
    predict = batched(OracleNetwork())

    def slow(images, seeds):
        time.sleep(0.05)
        return predict(images, seeds)

    executor = Executor(slow, 2)
    found = [client_canvas(volume(i), executor, max_object_steps=8) for i in range(4)]
    begin, busy = time.monotonic(), time.process_time()
    together(executor, found, lambda canvas: canvas.segment_at((6, 4, 10)))
    elapsed, busy = time.monotonic() - begin, time.process_time() - busy
    assert elapsed > 4 * 8 / 2 * 0.05
    assert busy < 0.25 * elapsed


def test_boxes_raise_what_the_network_raised(tmp_path, monkeypatch):
    """And every box has stopped by then."""
    failure, most = RuntimeError('device lost'), 0

    def fails(images, seeds):
        nonlocal most
        most = max(most, len(images))
        if most == 2:
            raise failure
        time.sleep(0.01)
        return batched(OracleNetwork())(images, seeds)

    monkeypatch.setitem(sys.modules, 'ffn.models.predictor', stand_in(fails))
    with h5py.File(tmp_path / 'volume.h5', 'w') as file:
        file['raw'] = volume(2).astype(np.uint8)
    boxes = [Box.from_zyx((z, 0, 0), (11 - z, 19, 22)) for z in range(4)]
    with Runner() as runner:
        runner.start(
            read_request(REQUEST.format(folder=tmp_path) + 'batch_size: 2 concurrent_requests: 2')
        )
        with pytest.raises(RuntimeError) as caught:
            box_run.segment_boxes(runner, boxes, quiet=True)
    assert caught.value is failure
    assert not any(thread.name.startswith('box') for thread in threading.enumerate())
    assert not list(tmp_path.rglob('*.npz'))
