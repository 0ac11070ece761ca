"""Tasks in this process, in several and on Dask: what fails, what ends early, what is too much."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import dask
import numpy as np
import psutil
import pytest

from ffn.distributed import cluster
from ffn.distributed.cluster import open_client
from ffn.distributed.local_pools import InProcess, Processes, SharingThreads
from ffn.distributed.pool import open_pool, run_stage
from ffn.utils import trust
from ffn.utils.errors import UserError


def fail_at(limit: int, number: int) -> int:
    """A task that fails from a number on."""
    if number >= limit:
        raise UserError(f'number {number} is not below {limit}')
    return number


@pytest.mark.parametrize(('scheduler', 'workers'), [('none', 1), ('none', 2), ('local', 1)])
def test_a_task_that_fails_does_not_keep_the_others_from_it(scheduler, workers, monkeypatch):
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    done = []

    def run(pool):
        for result in run_stage(pool, fail_at, ((3, i) for i in (5, 0, 4, 1, 2)), 5, 'n', True):
            done.append(result)

    with open_pool(scheduler, workers) as pool:
        with pytest.raises(UserError, match=r'n: number . is not below 3; 1 more tasks failed'):
            run(pool)
    assert sorted(done) == [0, 1, 2]


def trusted_modules(number: int) -> frozenset[str]:
    """A task that tells what its process trusts."""
    return trust.current().modules


def test_more_tasks_than_are_submitted_at_a_time(monkeypatch):
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    with open_pool('local', 1) as pool:
        found = list(run_stage(pool, fail_at, ((999, i) for i in range(300)), 300, 'n', quiet=True))
        with trust.only(trust.Trust(frozenset({'mylab'}))):
            assert list(pool.run(trusted_modules, [(1,)])) == [((1,), {'mylab'})]
    assert sorted(found) == list(range(300))
    here = run_stage(InProcess(), fail_at, ((999, i) for i in range(3)), 3, 'n', quiet=True)
    assert list(here) == [0, 1, 2]
    several = run_stage(Processes(2), fail_at, ((999, i) for i in range(50)), 50, 'n', quiet=True)
    assert sorted(several) == list(range(50))


def listening(processes: set[int]) -> set[str]:
    """Addresses at which processes accept connections."""
    return {
        found.laddr.ip
        for process in processes
        for found in psutil.Process(process).net_connections('tcp')
        if found.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize(
    ('dashboard', 'expected'), [(':0', {'127.0.0.1'}), ('0.0.0.0:0', {'127.0.0.1', '0.0.0.0'})]
)
def test_local_listens_on_this_machine_alone_unless_asked(monkeypatch, dashboard, expected):
    monkeypatch.setenv('FFN_DASHBOARD', dashboard)
    with open_client('local', 1) as client:
        workers = client.run(os.getpid).values()
        assert listening({os.getpid(), *workers}) == expected


def _environment(name: str) -> str | None:
    return os.environ.get(name)


def test_processes_that_share_a_gpu_take_its_memory_as_they_need_it(monkeypatch):
    name = 'XLA_PYTHON_CLIENT_PREALLOCATE'
    monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cluster, 'count_gpus', lambda: 1)
    with open_client('local', 2) as client:
        assert set(client.run(_environment, name).values()) == {'false'}
    assert cluster.memory_settings(2, 2) == cluster.memory_settings(2, 0) == {}
    monkeypatch.setenv(name, 'true')
    assert cluster.memory_settings(2, 1)[name] == 'true'


@pytest.mark.parametrize(
    ('visible', 'count'),
    [('3', 1), ('0,1', 2), ('', 0), ('-1', 0), ('0,-1,2', 1), ('GPU-a,GPU-b', 2)],
)
def test_gpus_are_those_that_the_process_may_use(monkeypatch, visible, count):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    assert cluster.count_gpus() == count


def test_a_number_of_workers_for_a_scheduler_that_has_them():
    with pytest.raises(UserError, match='--workers 7 is for'), open_pool('tcp://127.0.0.1:9', 7):
        pass


def test_no_such_scheduler():
    with pytest.raises(UserError, match='neither a file nor known'), open_pool('nowhere'):
        pass
    with (
        pytest.raises(UserError, match='does not answer'),
        dask.config.set({'distributed.comm.timeouts.connect': '1s'}),
        open_pool(f'tcp://127.0.0.1:{np.random.default_rng().integers(20000, 60000)}'),
    ):
        pass


def test_workers_that_close_while_a_heartbeat_waits(monkeypatch, capfd):
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    waits = threading.Event()

    async def answer_late(**_) -> None:
        waits.set()
        await asyncio.sleep(600)

    with open_client('local', 1) as client:
        client.cluster.scheduler.handlers['heartbeat_worker'] = answer_late
        assert waits.wait(60)
    assert 'heartbeat' not in capfd.readouterr().err


def fail_unexpectedly(number: int) -> int:
    """A task with an error of the program."""
    if number % 2:
        raise ZeroDivisionError('an odd number')
    return number


def need_memory(number: int) -> None:
    """A task for which there is not enough memory."""
    raise MemoryError(f'Unable to allocate {number} TiB')


def test_errors_that_nobody_expects(monkeypatch, caplog):
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    done = []

    def run(pool, numbers):
        for result in run_stage(
            pool, fail_unexpectedly, ((i,) for i in numbers), 9, 'n', quiet=True
        ):
            done.append(result)

    with open_pool('local', 1) as pool:
        with pytest.raises(UserError, match='n: an odd number; 3 more tasks failed'):
            run(pool, range(8))
        assert sorted(done) == [0, 2, 4, 6]
        with pytest.raises(UserError, match='n: an odd number; so far all tasks failed'):
            run(pool, range(1, 10**6, 2))
        caplog.clear()
        with pytest.raises(
            UserError, match=r'n: there is not enough memory \(Unable .* 3 TiB\); c'
        ):
            list(run_stage(pool, need_memory, [(3,)], 1, 'n', quiet=True))
        told = [record for record in caplog.records if record.name == 'absl']
        assert [record.exc_info for record in told] == [None]
    with pytest.raises(UserError, match='so far all tasks failed'):
        list(run_stage(InProcess(), fail_at, ((0, 5) for i in range(10**6)), 9, 'n', quiet=True))
    # Each for a reason of its own: others may do better.
    with pytest.raises(UserError, match=r'n: number 0 is not below 0; 29 more tasks failed'):
        list(run_stage(InProcess(), fail_at, ((0, i) for i in range(30)), 30, 'n', quiet=True))


def end_process(number: int) -> None:
    """A task that takes its worker with it, as one that needs too much memory does."""
    os._exit(number)


def test_a_task_that_ends_its_worker_again_and_again(monkeypatch):
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    with open_pool('local', 1) as pool:
        with pytest.raises(UserError, match=r'end_process\(3,\) ended its worker 4 times'):
            list(run_stage(pool, end_process, [(3,)], 1, 'n', quiet=True))


def test_a_process_that_is_ended():
    with pytest.raises(UserError, match='ended from outside during end_process'):
        list(run_stage(Processes(2), end_process, [(3,)], 1, 'n', quiet=True))


def sleep(_: int) -> None:
    """A task that is never done."""
    time.sleep(600)


def test_processes_end_with_the_one_that_started_them(repository):
    program = (
        'from ffn.distributed.local_pools import Processes; from tests.distributed.test_pool import sleep\n'
        'if __name__ == "__main__": list(Processes(2).run(sleep, [(1,), (2,)]))'
    )
    parent = subprocess.Popen([sys.executable, '-c', program], cwd=repository)
    children, deadline = [], time.monotonic() + 60
    try:
        while len(children) < 3:  # one more keeps track of resources
            assert time.monotonic() < deadline
            time.sleep(0.05)
            children = psutil.Process(parent.pid).children(recursive=True)
    finally:
        parent.kill()
        parent.wait()
    assert not psutil.wait_procs(children, timeout=30)[1]


def test_a_signal_that_a_task_receives_stops_it():
    """The main thread waits for tasks, and would not wake up for it."""

    def task(shared, _):
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        assert shared.stop.wait(30)
        raise InterruptedError

    shared = SimpleNamespace(stop=threading.Event(), close=lambda: None)
    with pytest.raises(SystemExit):
        list(SharingThreads(shared, 2, InterruptedError).run(task, [(n,) for n in range(5)]))
