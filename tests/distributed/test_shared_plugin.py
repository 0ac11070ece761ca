"""The object that the tasks of a Dask worker share: replaced, interrupted, closed."""

from __future__ import annotations

import contextlib
import threading
import types

import distributed
import pytest

from ffn.distributed.shared_plugin import SharedObjectPlugin, choose_gpu, worker_object
from ffn.utils.errors import UserError


class Interrupted(Exception):  # noqa: N818
    """What tasks raise once their object is to stop."""


def test_one_gpu_for_each_local_worker():
    assert [choose_gpu(i, '', 4) for i in range(5)] == ['0', '1', '2', '3', '0']
    assert [choose_gpu(i, '3,5', 8) for i in range(3)] == ['3', '5', '3']
    assert choose_gpu(1, 'GPU-a,GPU-b', 8) == 'GPU-b'
    # Nothing to choose from, or workers that somebody else started.
    assert (
        choose_gpu(0, '', 0) is choose_gpu(1, '2', 8) is choose_gpu('SLURMCluster-1', '', 4) is None
    )


class FakeObject:
    """What a plugin sees of a shared object."""

    def __init__(self):
        self.stop, self.closed = threading.Event(), False

    def close(self):
        self.closed = True


class FakePlugin(SharedObjectPlugin):
    """A plugin and the factory of its objects, in a worker that knows three tasks."""

    interruption = Interrupted

    def __init__(self):
        super().__init__(self)
        self.made = []
        self.states = {name: types.SimpleNamespace(state='executing') for name in 'abc'}
        self.names = {}
        self.setup(types.SimpleNamespace(
            name='x', state=types.SimpleNamespace(tasks=self.states),
            get_current_task=lambda: self.names[threading.get_ident()],
        ))  # fmt: skip

    def open(self):
        self.made.append(FakeObject())
        return self.made[-1]

    def work(self, name: str) -> threading.Thread:
        """Begins a task that goes on until it is stopped."""
        began = threading.Event()

        def run():
            self.names[threading.get_ident()] = name
            with contextlib.suppress(distributed.Reschedule), self.in_use() as made:
                began.set()
                assert made.stop.wait(60)
                raise Interrupted

        thread = threading.Thread(target=run)
        thread.start()
        assert began.wait(60)
        return thread


def test_a_worker_that_ends_stops_what_an_older_object_does():
    plugin = FakePlugin()
    first = plugin.work('a')
    plugin.names[threading.get_ident()] = 'b'
    with pytest.raises(RuntimeError), plugin.in_use():
        raise RuntimeError('something unexpected')
    second = plugin.work('c')
    assert len(plugin.made) == 2
    assert not plugin.made[0].closed
    plugin._end()
    first.join()
    second.join()
    assert all(made.stop.is_set() and made.closed for made in plugin.made)


def test_work_that_nobody_waits_for_is_stopped():
    """As Dask has it after a client was killed."""
    plugin = FakePlugin()
    first = plugin.work('a')
    del plugin.states['a']
    first.join(60)
    assert plugin.made[0].closed
    second = plugin.work('b')
    plugin.states['b'].state = 'cancelled'
    second.join(60)
    assert len(plugin.made) == 2
    assert not plugin._tasks


def test_a_name_that_nobody_gave(monkeypatch):
    """A worker of a command that has ended passes the task on."""
    monkeypatch.setattr(distributed, 'get_worker', lambda: types.SimpleNamespace(plugins={}))
    with pytest.raises(distributed.Reschedule), worker_object('ffn-shared-0'):
        raise UserError('not reached')
