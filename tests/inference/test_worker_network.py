"""Networks of Dask workers."""

from __future__ import annotations

import contextlib
import os
import threading
import types

import pytest

from ffn.distributed.cluster import open_client
from ffn.distributed.dask_pool import DaskPool
from ffn.distributed.pool import InProcess, open_pool, run_stage
from ffn.inference import inference_pb2, request_identity, storage
from ffn.inference.core.canvas import Interrupted
from ffn.inference.request import read_request
from ffn.inference.worker_network import (
    NetworkPlugin,
    ask_precision,
    gpu_of,
    networks,
    segment_subvolume,
    worker_runner,
)
from ffn.models.precision import choose_precision
from ffn.utils.errors import UserError

BOXES = [((0, 0, 0), (20, 26, 24)), ((0, 0, 14), (20, 26, 24))]


def test_one_gpu_for_each_local_worker():
    assert [gpu_of(i, '', 4) for i in range(5)] == ['0', '1', '2', '3', '0']
    assert [gpu_of(i, '3,5', 8) for i in range(3)] == ['3', '5', '3']
    assert gpu_of(1, 'GPU-a,GPU-b', 8) == 'GPU-b'
    # Nothing to choose from, or workers that somebody else started.
    assert gpu_of(0, '', 0) is gpu_of(1, '2', 8) is gpu_of('SLURMCluster-1', '', 4) is None


def use(network: str, fail: bool) -> tuple[int, str]:
    """A task that fails inside of the network, or says which one it has."""
    with worker_runner(network) as runner:
        if fail:
            raise RuntimeError('the device is gone')
        return id(runner), runner.config.segmentation_output_dir


def requests_of(folder) -> list[inference_pb2.InferenceRequest]:
    """Two requests that differ in where the results go."""
    made = []
    for name in ('a', 'b'):
        request = read_request(str(folder / 'request.pbtxt'))
        request.segmentation_output_dir = str(folder / name)
        made.append(request)
    return made


def test_networks(flood_folder, monkeypatch):
    """Two commands on one worker, and a network that fails."""
    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    first, second = requests_of(flood_folder)
    with open_pool('local', 1, threads=2) as pool, networks(pool, second) as b:
        with networks(pool, first) as a:
            tasks = [(known.name, *box) for box in BOXES for known in (a, b)]
            found = list(run_stage(pool, segment_subvolume, tasks, len(tasks), 'n', quiet=True))
            assert [one['objects'] > 0 for one in found] == [True] * 4
            before = pool.call(use, a.name, False)
            assert before[1] == str(flood_folder / 'a')
            [(_, error)] = pool.run(use, [(a.name, True)])
            assert isinstance(error, RuntimeError)
            after = pool.call(use, a.name, False)
            assert after[1] == before[1]
            assert after[0] != before[0]
        assert pool.call(use, b.name, False)[1] == str(flood_folder / 'b')
        assert pool.call(segment_subvolume, b.name, *BOXES[0]) == {}
    for name in ('a', 'b'):
        corners = [corner for corner, _ in BOXES]
        assert list(storage.subvolumes(flood_folder / name)) == corners


def test_only_workers_with_a_resource_get_the_network(flood_folder, monkeypatch, caplog):
    import dask

    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    request = requests_of(flood_folder)[0]
    with (
        dask.config.set({'distributed.worker.resources.GPU': 1}),
        open_client('local', 1) as client,
    ):
        with networks(DaskPool(client, 'GPU'), request) as known:
            assert known.pool.call(use, known.name, False)[1] == str(flood_folder / 'a')
        pool = DaskPool(client, 'TPU')
        assert pool.call(os.getpid) != os.getpid()  # without a network, any worker will do

        def wait() -> None:
            with contextlib.suppress(UserError):  # when the scheduler ends
                pool.restricted().call(os.getpid)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        thread.join(2)
        assert thread.is_alive()
    assert 'no worker has the resource TPU yet' in caplog.text
    with pytest.raises(UserError, match='--resource GPU chooses among workers'):
        with open_pool('local', resource='GPU'):
            pass


class FakeRunner:
    """What a plugin sees of a runner."""

    def __init__(self):
        self.stop, self.closed = threading.Event(), False

    def close(self):
        self.closed = True


class FakeNetwork(NetworkPlugin):
    """A plugin whose networks are not loaded, in a worker that knows three tasks."""

    def __init__(self):
        super().__init__(b'')
        self.made = []
        self.states = {name: types.SimpleNamespace(state='executing') for name in 'abc'}
        self.names = {}
        self.setup(
            types.SimpleNamespace(
                name='x',
                state=types.SimpleNamespace(tasks=self.states),
                get_current_task=lambda: self.names[threading.get_ident()],
            )
        )

    def make_runner(self):
        self.made.append(FakeRunner())
        return self.made[-1]

    def work(self, name: str) -> threading.Thread:
        """Begins a task that goes on until it is stopped."""
        began = threading.Event()

        def run():
            self.names[threading.get_ident()] = name
            with contextlib.suppress(Interrupted), self.in_use() as runner:
                began.set()
                assert runner.stop.wait(60)
                raise Interrupted('stopped', None)

        thread = threading.Thread(target=run)
        thread.start()
        assert began.wait(60)
        return thread


def test_a_worker_that_ends_stops_what_an_older_network_does():
    plugin = FakeNetwork()
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
    assert all(runner.stop.is_set() and runner.closed for runner in plugin.made)


def test_work_that_nobody_waits_for_is_stopped():
    """As Dask has it after a client was killed."""
    plugin = FakeNetwork()
    first = plugin.work('a')
    del plugin.states['a']
    first.join(60)
    assert plugin.made[0].closed
    second = plugin.work('b')
    plugin.states['b'].state = 'cancelled'
    second.join(60)
    assert len(plugin.made) == 2
    assert not plugin._tasks


def test_precision_is_asked_in_a_process_of_its_own():
    assert ask_precision() == choose_precision('auto')


def test_what_a_request_leaves_open_is_settled(trained_folder):
    request = read_request(str(trained_folder / 'request.pbtxt'))
    request.precision = 'auto'
    request_identity.resolve(request, InProcess())
    assert request.model_checkpoint_path == str(trained_folder / 'flood' / 'model.ckpt-3')
    assert request.precision in ('float32', 'bfloat16', 'float16')


def test_a_name_that_nobody_gave(monkeypatch):
    """A worker of a command that has ended passes the task on."""
    import distributed

    monkeypatch.setattr(distributed, 'get_worker', lambda: types.SimpleNamespace(plugins={}))
    with pytest.raises(distributed.Reschedule), worker_runner('ffn-network-0'):
        raise UserError('not reached')
