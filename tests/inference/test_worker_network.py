"""Networks of Dask workers."""

from __future__ import annotations

import contextlib
import os
import threading
import types

import distributed
import pytest

from ffn.distributed.cluster import open_client
from ffn.distributed.dask_pool import DaskPool
from ffn.distributed.local_pools import InProcess
from ffn.distributed.pool import open_pool, run_stage
from ffn.distributed.shared_plugin import SharedObjectPlugin, choose_gpu, worker_object
from ffn.inference import inference_pb2, request_identity, storage
from ffn.inference.core.canvas import Interrupted
from ffn.inference.request import make_config, read_request
from ffn.inference.runner import Runner
from ffn.inference.worker_network import NetworkFactory, ask_precision, segment_subvolume
from ffn.models.precision import choose_precision
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box

BOXES = [Box.from_zyx((0, 0, 0), (20, 26, 24)), Box.from_zyx((0, 0, 14), (20, 26, 24))]


def test_one_gpu_for_each_local_worker():
    assert [choose_gpu(i, '', 4) for i in range(5)] == ['0', '1', '2', '3', '0']
    assert [choose_gpu(i, '3,5', 8) for i in range(3)] == ['3', '5', '3']
    assert choose_gpu(1, 'GPU-a,GPU-b', 8) == 'GPU-b'
    # Nothing to choose from, or workers that somebody else started.
    assert (
        choose_gpu(0, '', 0) is choose_gpu(1, '2', 8) is choose_gpu('SLURMCluster-1', '', 4) is None
    )


def use(runner: Runner, fail: bool) -> tuple[int, str]:
    """A task that fails inside of the network, or says which one it has."""
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
    with (
        open_pool('local', 1, threads=2) as pool,
        pool.share(NetworkFactory(make_config(second))) as b,
    ):
        with pool.share(NetworkFactory(make_config(first))) as a:
            tasks = [(box,) for box in BOXES]
            stages = [run_stage(known, segment_subvolume, tasks, 2, 'n', True) for known in (a, b)]
            reports = [report for both in zip(*stages, strict=True) for report in both]
            assert [report.objects > 0 for report in reports] == [True] * 4
            before = a.call(use, False)
            assert before[1] == str(flood_folder / 'a')
            [(_, error)] = a.run(use, [(True,)])
            assert isinstance(error, RuntimeError)
            after = a.call(use, False)
            assert after[1] == before[1]
            assert after[0] != before[0]
        assert b.call(use, False)[1] == str(flood_folder / 'b')
        again = b.call(segment_subvolume, BOXES[0])
        assert (again.status, again.counters) == ('exists', {})
    for name in ('a', 'b'):
        corners = [box.start.zyx for box in BOXES]
        assert list(storage.subvolumes(flood_folder / name)) == corners


def test_only_workers_with_a_resource_get_the_network(flood_folder, monkeypatch, caplog):
    import dask

    monkeypatch.setenv('FFN_DASHBOARD', ':0')
    request = requests_of(flood_folder)[0]
    with (
        dask.config.set({'distributed.worker.resources.GPU': 1}),
        open_client('local', 1) as client,
    ):
        with DaskPool(client, 'GPU').share(NetworkFactory(make_config(request))) as known:
            assert known.call(use, False)[1] == str(flood_folder / 'a')
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


class FakeNetwork(SharedObjectPlugin):
    """A plugin whose networks are not loaded, in a worker that knows three tasks."""

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
        self.made.append(FakeRunner())
        return self.made[-1]

    def work(self, name: str) -> threading.Thread:
        """Begins a task that goes on until it is stopped."""
        began = threading.Event()

        def run():
            self.names[threading.get_ident()] = name
            with contextlib.suppress(distributed.Reschedule), self.in_use() as runner:
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
    monkeypatch.setattr(distributed, 'get_worker', lambda: types.SimpleNamespace(plugins={}))
    with pytest.raises(distributed.Reschedule), worker_object('ffn-shared-0'):
        raise UserError('not reached')
