"""Tasks of this process that share an object."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from ffn.distributed.local_pools import InProcess, Processes
from ffn.distributed.pool import run_stage
from ffn.utils.errors import UserError


class Interrupted(Exception):  # noqa: N818
    """What tasks raise once their object is to stop."""


class Counter:
    """A shared object that counts the tasks that use it at a time."""

    def __init__(self):
        self.stop, self.closed, self.begun = threading.Event(), False, []
        self.at_work, self.most, self._lock = 0, 0, threading.Lock()

    def __enter__(self):
        with self._lock:
            self.at_work += 1
            self.most = max(self.most, self.at_work)

    def __exit__(self, *exception):
        with self._lock:
            self.at_work -= 1

    def close(self):
        assert not self.at_work
        self.closed = True


class Factory:
    """Makes counters for two tasks at a time."""

    threads, interruption = 2, Interrupted

    def __init__(self):
        self.made = []

    def open(self):
        self.made.append(Counter())
        return self.made[-1]


def double(counter: Counter, number: int) -> int:
    """A task that fails for numbers below 0."""
    with counter:
        time.sleep(0.01)
        if number < 0:
            raise UserError('below 0')
        return 2 * number


@pytest.mark.parametrize('pool', [InProcess(), Processes(2)], ids=['one', 'processes'])
def test_one_object_is_shared(pool):
    factory = Factory()
    with pool.share(factory) as workers:
        assert not workers.distributed
        assert workers.call(double, 4) == 8
        found = list(run_stage(workers, double, ((i,) for i in range(20)), 20, 'n', quiet=True))
        with pytest.raises(UserError, match='n: below 0; 1 more tasks failed'):
            list(run_stage(workers, double, [(-1,), (1,), (-2,)], 3, 'n', quiet=True))
    assert sorted(found) == list(range(0, 40, 2))
    [counter] = factory.made
    assert counter.most == 2
    assert counter.closed


def work_until_stopped(counter: Counter, number: int) -> int:
    """A task that ends the process' patience when two are at work, and saves what it has then."""
    with counter:
        counter.begun.append(number)
        if len(counter.begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        assert counter.stop.wait(60)
        raise Interrupted


def test_a_signal_interrupts_the_tasks_at_work(capsys):
    factory = Factory()
    with pytest.raises(SystemExit) as ended, InProcess().share(factory) as workers:
        list(workers.run(work_until_stopped, ((i,) for i in range(10**9))))
    assert ended.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == 'stopped; run again to resume\n'
    [counter] = factory.made
    assert sorted(counter.begun) == [0, 1]
    assert counter.closed


def fail_first(counter: Counter, number: int) -> None:
    """A task whose first one fails as nobody expects."""
    with counter:
        if number == 0:
            raise ZeroDivisionError('the device is gone')
        assert counter.stop.wait(60)


def test_an_error_that_nobody_expects_ends_the_run():
    factory = Factory()
    with pytest.raises(ZeroDivisionError), InProcess().share(factory) as workers:
        list(workers.run(fail_first, ((i,) for i in range(10**9))))
    assert factory.made[0].closed
