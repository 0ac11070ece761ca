"""Several devices in one process, and several processes: equal weights, and recovery after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from ffn.models import checkpoints
from ffn.training.distribution import make_replicas
from ffn.training.input.input_state import read_input_state
from ffn.utils.errors import UserError
from tests.events import read_events
from tests.training import sample


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


class Worker:
    """A process that trains; what it says goes to files, so that it never waits for a reader."""

    def __init__(self, repository, folder, name, devices, strategy, batch, *steps, **environment):
        arguments = [
            str(word) for word in (folder, folder / name, devices, strategy, batch, *steps)
        ]
        self.files = [tempfile.TemporaryFile('w+') for _ in range(2)]  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'tests.training.distributed', *arguments],
            cwd=repository,
            env={**os.environ, **environment},
            stdout=self.files[0],
            stderr=self.files[1],
        )

    def wait(self):
        """Status, standard output and standard error."""
        try:
            status = self.process.wait(120)
        finally:
            self.process.kill()
        for file in self.files:
            file.seek(0)
        output, errors = (file.read() for file in self.files)
        return status, output, errors


def finish(worker):
    status, output, errors = worker.wait()
    assert status == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(('localhost', 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def cluster(count):
    hosts = [f'localhost:{port}' for port in free_ports(count)]
    return [
        json.dumps({'cluster': {'worker': hosts}, 'task': {'type': 'worker', 'index': i}})
        for i in range(count)
    ]


def last_step(folder):
    path = checkpoints.latest_checkpoint(folder)
    return int(path.rpartition('-')[2]) if path else 0


def losses(folder):
    return np.array(list(read_events(folder)['pixel_loss'].values()))


@pytest.mark.slow  # test_train_step.py has two replicas in one process
def test_two_devices_learn_as_one_with_the_batch_of_both(repository, folder):
    """The same examples in the same places of the batch: the same weights but for rounding."""
    processes = [
        Worker(repository, folder, 'one', 1, 'one_device', 4, 12),
        Worker(repository, folder, 'two', 2, 'auto', 2, 12),
    ]
    results = [finish(process) for process in processes]
    assert [result['total'] for result in results] == [1, 2]
    # Both devices have the same weights, to the last bit.
    assert len(results[1]['weights']) == 2
    assert len(set(results[1]['weights'])) == 1
    one, two = (checkpoints.read_variables(folder / name) for name in ('one', 'two'))
    assert set(one) == set(two)
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_two_processes_learn_together(repository, folder):
    workers = [
        Worker(repository, folder, 'model', 1, 'auto', 2, 60, TF_CONFIG=config)
        for config in cluster(2)
    ]
    single = Worker(repository, folder, 'single', 1, 'one_device', 4, 60)
    results = [finish(worker) for worker in workers]
    assert sorted(result['worker'] for result in results) == [0, 1]
    assert results[0]['weights'] == results[1]['weights']
    finish(single)
    path = checkpoints.latest_checkpoint(folder / 'model')
    assert path.endswith('-60')
    states = [read_input_state(path, worker, 2) for worker in (0, 1)]
    # Each reads coordinates of its own.
    assert not np.array_equal(states[0]['walk/0/center'], states[1]['walk/0/center'])
    # Only the first writes events; its losses fall as those of one process do.
    assert len(list((folder / 'model').glob('events.*'))) == 1
    curves = [losses(folder / name) for name in ('model', 'single')]
    assert [len(curve) for curve in curves] == [30, 30]  # of every other step
    together, alone = (curve[-10:].mean() for curve in curves)
    assert together == pytest.approx(alone, rel=0.5)
    assert max(together, alone) < 0.5 * min(curve[:5].mean() for curve in curves)


@pytest.mark.slow
def test_the_others_wait_while_the_first_evaluates(repository, folder):
    workers = [
        Worker(repository, folder, 'model', 1, 'multi_worker', 2, 11, 4, TF_CONFIG=config)
        for config in cluster(2)
    ]
    results = [finish(worker) for worker in workers]
    assert results[0]['weights'] == results[1]['weights']
    assert read_events(folder / 'model')['heldout/voi'] == {4: 1.5, 8: 1.5}
    steps = {int(path.stem.split('-')[1]) for path in (folder / 'model').glob('*.index')}
    assert {4, 8, 11} <= steps
    for step in steps:
        assert all(
            read_input_state(folder / 'model' / f'model.ckpt-{step}', worker, 2)
            for worker in (0, 1)
        )


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_all_go_on(repository, folder):
    configs = cluster(2)
    workers = [
        Worker(repository, folder, 'model', 1, 'multi_worker', 2, 10**6, TF_CONFIG=config)
        for config in configs
    ]
    end = time.monotonic() + 100
    while last_step(folder / 'model') < 10:
        assert time.monotonic() < end
        assert workers[0].process.poll() is None, workers[0].wait()
        time.sleep(0.05)
    workers[1].process.send_signal(signal.SIGKILL)
    status, _, errors = workers[0].wait()
    workers[1].wait()
    assert status == 1, errors[-3000:]
    assert 'start all of them again' in errors.splitlines()[-1]
    step = last_step(folder / 'model')
    assert step >= 10
    again = [
        Worker(repository, folder, 'model', 1, 'multi_worker', 2, step + 3, TF_CONFIG=config)
        for config in cluster(2)
    ]
    for worker in again:
        status, _, errors = worker.wait()
        assert status == 0, errors[-3000:]
        assert f'step {step}' in errors
        assert 'interrupted examples cannot be resumed' not in errors
    assert checkpoints.latest_checkpoint(folder / 'model').endswith(f'-{step + 3}')


def test_unknown_strategies_and_configurations(monkeypatch):
    with pytest.raises(UserError, match=r'--strategy is .tpu.*mirrored'):
        make_replicas('tpu')
    monkeypatch.setenv('TF_CONFIG', '{"cluster": 3}')
    with pytest.raises(UserError, match='TF_CONFIG is'):
        make_replicas('auto')
    monkeypatch.delenv('TF_CONFIG')
    with pytest.raises(UserError, match='TF_CONFIG, which is not set'):
        make_replicas('multi_worker')
    with pytest.raises(UserError, match='--strategy slurm'):
        make_replicas('slurm')


def test_one_device_is_the_default():
    replicas = make_replicas()
    assert (replicas.total, replicas.local, replicas.is_chief) == (1, 1, True)
    arrays = [np.arange(6.0, dtype=np.float32).reshape(3, 2)]
    np.testing.assert_array_equal(replicas.join(replicas.split(arrays)[0]), arrays[0])
