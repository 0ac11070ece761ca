"""The end of a command whose batch system does not answer, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from ffn.distributed import batch_end
from ffn.distributed.cluster import open_client
from ffn.utils.errors import UserError


class Job:
    """What a batch system was asked for."""

    job_id, submit_command, cancel_command = '77', 'sbatch', 'scancel'


def until(met) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A line of a script that waits for the end of the test, when all jobs are cancelled after all."""
    monkeypatch.setattr(batch_end, 'TOLD_AFTER_S', 0.1)
    monkeypatch.setattr(batch_end, 'WAKE_UP_S', 0.05)
    yield f'while ! [ -e {tmp_path}/answer ]; do sleep 0.05; done'
    (tmp_path / 'answer').touch()
    cancelled = tmp_path / 'cancelled'
    until(lambda: cancelled.exists() and cancelled.read_text().split() == ['77', '77'])
    until(lambda: not [one for one in threading.enumerate() if one.name == 'end of jobs'])


@pytest.mark.parametrize(
    ('asked', 'jobs'),
    [
        (
            'sbatch',
            '2 for which sbatch has not answered (cancel those that the queue shows as dask-worker)',
        ),
        ('scancel', '77, 77 (cancel them: scancel 77 77)'),
    ],
)
def test_what_does_not_answer_is_waited_for_only_so_long(
    open_slurm, silent, tmp_path, monkeypatch, told, asked, jobs
):
    monkeypatch.setattr(batch_end, 'LIMIT_S', 1.0)
    scripts = {
        'sbatch': 'echo Submitted batch job 77',
        'scancel': f'echo $1 >>{tmp_path}/cancelled',
    }
    scripts[asked] = f'{silent}\n{scripts[asked]}'
    with open_slurm(**scripts):
        until((tmp_path / 'calls').exists)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    line = f'slurm: waiting up to 1 s for {asked} to answer; Ctrl-C or SIGTERM ends this at once'
    assert told()[-2:] == [line, f'slurm: jobs may still be in the queue: {jobs}']


def test_a_signal_ends_the_waiting(open_slurm, silent, tmp_path, monkeypatch, told):
    monkeypatch.setattr(batch_end, 'LIMIT_S', 600.0)
    sbatch = f'{silent}\necho Submitted batch job 77'
    terminate = threading.Timer(2, os.kill, [os.getpid(), signal.SIGTERM])

    def run() -> None:
        with open_slurm(sbatch, scancel=f'echo $1 >>{tmp_path}/cancelled'):
            until((tmp_path / 'calls').exists)
            terminate.start()

    with pytest.raises(SystemExit) as caught:
        run()
    terminate.join()
    assert caught.value.code == 143
    assert '2 for which sbatch has not answered' in told()[-1]


def test_as_long_as_there_are_answers_they_are_waited_for(monkeypatch, told):
    monkeypatch.setattr(batch_end, 'LIMIT_S', 0.5)
    monkeypatch.setattr(batch_end, 'WAKE_UP_S', 0.02)
    jobs = {Job() for _ in range(4)}

    def close() -> None:
        while jobs:
            time.sleep(0.2)
            jobs.pop()

    batch_end.close(SimpleNamespace(job_cls=SimpleNamespace(left=jobs), close=close), 'slurm')
    assert not jobs
    assert told() == []


def test_an_error_of_the_batch_system_is_told():
    def close() -> None:
        raise FileNotFoundError('scancel')

    with pytest.raises(FileNotFoundError, match='scancel'):
        batch_end.close(SimpleNamespace(job_cls=SimpleNamespace(left=set()), close=close), 'slurm')


def test_ctrl_c_stays_what_it_was(tmp_path):
    """dask-jobqueue makes it end the process with status 0."""
    code = (
        'import contextlib, signal\n'
        'from ffn.distributed.pool import open_pool\n'
        'from ffn.utils.errors import UserError\n'
        'with contextlib.suppress(UserError), open_pool("slurm"): pass\n'
        'import sys\n'
        'assert "dask_jobqueue" in sys.modules\n'
        'assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n'
    )
    environment = {**os.environ, 'PATH': str(tmp_path)}
    subprocess.run([sys.executable, '-c', code], check=True, env=environment)


def test_a_release_that_only_the_main_thread_may_load_is_told(tmp_path, monkeypatch):
    (tmp_path / 'dask_jobqueue.py').write_text(
        'raise ValueError("signal only works in main thread")'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, 'dask_jobqueue', raising=False)
    with (
        pytest.raises(UserError, match='main thread only; import dask_jobqueue there before'),
        open_client('slurm'),
    ):
        pass
