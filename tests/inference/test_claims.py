"""A subvolume is segmented by one process at a time; others take what is free, and wait for it in the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace

import pytest

from ffn.inference import box_run, storage
from ffn.inference.box_queue import BoxQueue
from ffn.inference.core.canvas import Interrupted
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.utils import processes
from ffn.utils.geometry import Box
from ffn.utils.locks import InUseError
from tests.inference import flood

SIZE_ZYX = (20, 26, 38)
BOX = Box.from_zyx((0, 0, 0), SIZE_ZYX)


def start_runner(folder):
    runner = Runner()
    runner.start(read_request(flood.write_request(folder)))
    return runner


def names(folder):
    return sorted(path.name for path in (folder / 'results' / '0' / '0').iterdir())


def claim_elsewhere(folder, seconds_ago=0.0):
    """What a process of another host leaves that is at work on the subvolume."""
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    path.parent.mkdir(parents=True)
    lock = path.with_name(f'.{path.name}.lock')
    holder = {'host': '0', 'pid': 7, 'hostname': 'far', 'since': 'noon', 'token': 'other'}
    lock.write_text(json.dumps(holder))
    at = lock.stat().st_mtime - seconds_ago
    os.utime(lock, (at, at))
    return lock


def test_two_runs_do_not_do_the_same_twice(flood_folder, caplog):
    first, second = start_runner(flood_folder), start_runner(flood_folder)
    inside, waits = threading.Event(), threading.Event()

    def hold(canvas):
        inside.set()
        assert waits.wait(60)
        return contextlib.nullcontext()

    def pause(_):
        waits.set()
        threading.Event().wait(0.05)

    first.on_canvas, second._pause = hold, pause
    with first, second, futures.ThreadPoolExecutor(1) as threads:
        done = threads.submit(first.run, (0, 0, 0), SIZE_ZYX)
        assert inside.wait(60)
        assert second.run((0, 0, 0), SIZE_ZYX) is None
        assert done.result().origins
    assert 'waiting for another command that writes to' in caplog.text
    assert second.counters['predict-calls'] == 0
    assert names(flood_folder) == ['seg-0_0_0.npz', 'seg-0_0_0.prob']


def test_waiting_ends_on_request(flood_folder):
    lock = claim_elsewhere(flood_folder)
    with start_runner(flood_folder) as runner:
        threading.Timer(0.3, runner.stop.set).start()
        with pytest.raises(Interrupted, match='another process was at the subvolume'):
            runner.run((0, 0, 0), SIZE_ZYX)
    assert names(flood_folder) == [lock.name]


def test_a_box_that_waits_when_stopped_is_reported(flood_folder):
    claim_elsewhere(flood_folder)
    with start_runner(flood_folder) as runner:
        threading.Timer(0.3, runner.stop.set).start()
        (entry,) = box_run.segment_boxes(runner, [BOX], quiet=True)
    assert entry.status == 'interrupted'


HALVES = [Box.from_zyx((0, 0, 0), (20, 26, 20)), Box.from_zyx((0, 0, 20), (20, 26, 18))]


def test_two_commands_share_a_list_of_boxes(flood_folder, monkeypatch):
    """Each takes a box that is free, and neither comes to an end before the other one has begun its own."""
    monkeypatch.setattr(box_run, 'stop_on_signal', contextlib.nullcontext)  # in threads, here
    first, second = start_runner(flood_folder), start_runner(flood_folder)
    both = threading.Barrier(2)

    def meet(segment):
        def segment_when_both_are_there(*arguments):
            both.wait(30)
            return segment(*arguments)

        return segment_when_both_are_there

    for runner in (first, second):
        monkeypatch.setattr(runner, '_run', meet(runner._run))
    with first, second, futures.ThreadPoolExecutor(2) as threads:
        done = [threads.submit(box_run.segment_boxes, one, HALVES, True) for one in (first, second)]
        statuses = [[entry.status for entry in one.result()] for one in done]
    assert sorted(statuses) == [['exists', 'segmented'], ['segmented', 'exists']]
    assert min(runner.counters['predict-calls'] for runner in (first, second)) > 0


def test_a_box_whose_process_dies_is_segmented_after_the_others(flood_folder, monkeypatch, caplog):
    lock = claim_elsewhere(flood_folder)
    other = storage.subvolume_path(flood_folder / 'results', HALVES[1].start.zyx, 'npz')
    waited = []
    clock = SimpleNamespace(monotonic=lambda: 130.0 * len(waited), sleep=time.sleep)
    monkeypatch.setattr(processes, 'time', clock)

    def wait(seconds):
        assert other.exists()
        waited.append(seconds)
        if len(waited) == 3:
            os.utime(lock, (0, 0))

    with start_runner(flood_folder) as runner:
        runner.stop.wait = wait
        entries = box_run.segment_boxes(runner, HALVES, quiet=True)
    assert [entry.status for entry in entries] == ['segmented', 'segmented']
    assert waited == [0.2, 0.4, 0.8]
    assert caplog.text.count('waiting for another command that writes to') == 1
    assert '(process 7 on far, since noon' in caplog.text


def test_a_box_that_is_free_again_is_taken_while_another_one_is_at_work(flood_folder, caplog):
    lock, taken, entered = claim_elsewhere(flood_folder), threading.Event(), []
    with Runner() as runner:
        text = Path(flood.write_request(flood_folder)).read_text()
        runner.start(read_request(text + 'concurrent_requests: 2'))
        segment = runner._run

        def wait_for_the_other_one(*arguments):
            entered.append(arguments)
            if len(entered) == 1:
                end = time.monotonic() + 30
                while 'waiting for another command that writes to' not in caplog.text:
                    assert time.monotonic() < end
                    time.sleep(0.005)
                lock.unlink()
                assert taken.wait(30)
            taken.set()
            return segment(*arguments)

        runner._run = wait_for_the_other_one
        entries = box_run.segment_boxes(runner, HALVES, quiet=True)
    assert [entry.status for entry in entries] == ['segmented', 'segmented']


def test_looks_at_boxes_that_others_are_at_become_rare():
    """Ten minutes of them. Once one has ended, the others are looked at at once."""
    error, waited, looks = InUseError(Path('a'), 'b'), [], Counter()
    boxes = [Box.from_zyx((0, 0, 20 * n), (20, 26, 20)) for n in range(64)]
    queue = BoxQueue(boxes, SimpleNamespace(wait=waited.append))
    while sum(waited) < 600:
        box = queue.take()
        looks[box] += 1
        queue.put_off(box, error)
    assert set(looks) == set(boxes)
    assert set(looks.values()) <= {10, 11, 12}
    waited.clear()
    for _ in boxes:
        assert queue.take()
        queue.ended()
        assert len(waited) == 1
    assert queue.take() is None


def test_the_claim_of_a_dead_process_ends(flood_folder):
    claim_elsewhere(flood_folder, seconds_ago=500)
    with start_runner(flood_folder) as runner:
        assert runner.run((0, 0, 0), SIZE_ZYX).origins
    assert names(flood_folder) == ['seg-0_0_0.npz', 'seg-0_0_0.prob']


def test_killed_between_the_result_and_the_end(flood_folder):
    """The next run has nothing to do but to tidy up."""
    with start_runner(flood_folder) as runner:
        runner.run((0, 0, 0), SIZE_ZYX)
        folder = flood_folder / 'results' / '0' / '0'
        whole = (folder / 'seg-0_0_0.npz').read_bytes()
        for left in ('seg-0_0_0.cpoint', '.seg-0_0_0.npz.lock'):
            assert storage.is_finished(flood_folder / 'results', (0, 0, 0))
            (folder / left).touch()
            assert not storage.is_finished(flood_folder / 'results', (0, 0, 0))
            assert runner.run((0, 0, 0), SIZE_ZYX) is None
            assert names(flood_folder) == ['seg-0_0_0.npz', 'seg-0_0_0.prob']
        assert (folder / 'seg-0_0_0.npz').read_bytes() == whole


def test_a_signal_that_another_thread_receives_stops_the_boxes(flood_folder, monkeypatch):
    with start_runner(flood_folder) as runner:

        def run(*box, wait):
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
            assert runner.stop.wait(30)
            raise Interrupted(None)

        monkeypatch.setattr(runner, 'run', run)
        (entry,) = box_run.segment_boxes(runner, [BOX], quiet=True)
    assert entry.status == 'interrupted'
