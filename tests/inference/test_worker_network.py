"""Networks of Dask workers."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading

import pytest

from ffn.distributed.cluster import open_client
from ffn.distributed.dask_pool import DaskPool
from ffn.distributed.local_pools import InProcess
from ffn.distributed.pool import open_pool, run_stage
from ffn.inference import inference_pb2, storage, worker_network
from ffn.inference.request import make_config, read_config, read_request
from ffn.inference.runner import Runner
from ffn.inference.worker_network import NetworkFactory, ask_precision, resolve, segment_subvolume
from ffn.models import precision
from ffn.models.precision import choose_precision
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from tests.loaded import loaded_workers

pytestmark = pytest.mark.usefixtures('forked')
BOXES = [Box.from_zyx((0, 0, 0), (20, 26, 24)), Box.from_zyx((0, 0, 14), (20, 26, 24))]


@pytest.fixture
def forked():
    with loaded_workers():
        yield


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


@pytest.mark.parametrize(('gpu', 'level'), [(None, 'WARNING'), ((9, 0), 'INFO')])
def test_that_there_is_no_gpu_is_told_where_only_warnings_are(monkeypatch, caplog, gpu, level):
    caplog.set_level('INFO', 'absl')
    monkeypatch.setattr(worker_network, 'Runner', lambda config: config)
    monkeypatch.setattr(precision, 'gpu_capability', lambda: gpu)
    monkeypatch.setattr(precision, 'describe_device', lambda: 'it')
    NetworkFactory('config').open()
    [record] = caplog.records
    assert (record.getMessage(), record.levelname) == ('the network runs on it', level)


def test_precision_is_asked_in_a_process_of_its_own():
    assert ask_precision() == choose_precision('auto')


def test_what_a_request_leaves_open_is_settled(trained_folder):
    config = read_config(str(trained_folder / 'request.pbtxt'))
    config = dataclasses.replace(config, precision='auto')
    resolved = resolve(config, InProcess())
    assert resolved.model_checkpoint_path == str(trained_folder / 'flood' / 'model.ckpt-3')
    assert resolved.precision in ('float32', 'bfloat16', 'float16')
