"""Jobs of a batch system that are refused, end before they are of use, or wait."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import dask
import dask_jobqueue
import pytest

from ffn.distributed import batch_jobs, watch
from ffn.distributed.batch_jobs import Jobs, with_mark
from ffn.utils.errors import UserError

REFUSAL = 'sbatch: error: invalid partition specified: gpu'


def test_jobs_that_are_refused_end_the_command(open_slurm, tmp_path, capfd, told):
    with pytest.raises(UserError) as caught:
        with (
            open_slurm(f'echo "{REFUSAL}" >&2; exit 1') as pool,
            pool.share(SimpleNamespace()) as known,
        ):
            known.call(abs)
    assert str(caught.value) == (
        f'--scheduler slurm: no worker has come in 4 tries: {REFUSAL} (2 jobs); correct what jobs ask for and run, '
        'in the file that DASK_CONFIG names'
    )
    assert len((tmp_path / 'calls').read_text().split()) == 8
    again = f'slurm: {REFUSAL} (2 jobs); trying again in 0 s'
    assert [line for line in told() if 'dashboard' not in line] == 3 * [again]
    assert 'Traceback' not in capfd.readouterr().err


def test_jobs_that_end_before_their_workers_connect_end_the_command(open_slurm, tmp_path, capfd):
    fails = r'sed "s/^.*dask_worker[^)]*/exit 7/" "$1" | sh; echo Submitted batch job 77'
    with pytest.raises(UserError, match=r'job 77 ended with exit status 7 before .*log in logs'):
        with open_slurm(fails) as pool:
            pool.call(abs, -1)
    assert 'Traceback' not in capfd.readouterr().err
    assert list((tmp_path / 'logs').iterdir()) == []


def test_a_passing_failure_is_one_line_and_a_queue_is_waited_for(
    open_slurm, tmp_path, monkeypatch, told
):
    monkeypatch.setattr(watch, 'FIRST_LINE_S', 0.4)
    once = (
        f'[ $(wc -l <{tmp_path}/calls) -gt 2 ] || {{ echo Socket timed out >&2; exit 1; }}\n'
        'echo Submitted batch job 77'
    )
    with open_slurm(once):
        deadline = time.monotonic() + 60
        while not (waits := [line for line in told() if line.startswith('no worker')]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert len((tmp_path / 'calls').read_text().split()) == 4
    assert [line for line in told() if 'again' in line] == [
        'slurm: Socket timed out (2 jobs); trying again in 0 s'
    ]
    assert 'min: 2 jobs are in the queue or starting (77, 77)' in waits[0]


@pytest.mark.parametrize('logs', [None, 'file/logs'])
def test_without_a_folder_for_marks_the_line_names_the_setting(
    open_slurm, tmp_path, monkeypatch, logs
):
    (tmp_path / 'file').touch()

    def refuse(*arguments, **options):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(tempfile, 'mkdtemp', refuse)
    with pytest.raises(UserError, match=r'^--scheduler slurm: jobs cannot .*set log-directory'):
        with open_slurm('exit 1', logs):
            pass


class Cluster:
    """A cluster of three jobs without Dask; a test says what becomes of them."""

    def __init__(self, folder: Path):
        self.job_cls = SimpleNamespace(folder=folder)
        self.workers, self.scheduler_info, self.cancelled = {}, {'workers': {}}, []
        self.worker_spec, self.new_spec, self.asked = {}, {}, 0
        self.scheduler = SimpleNamespace(workers={}, add_plugin=self._add_plugin)

    def _add_plugin(self, plugin) -> None:
        self.plugin = plugin

    def sync(self, function, *arguments):
        async def run():
            result = await function(*arguments)
            await asyncio.sleep(0)  # what it started
            return result

        return asyncio.run(run())

    def scale(self, jobs: int) -> None:
        assert len(self.worker_spec) == jobs
        for name in set(self.worker_spec) - set(self.workers):
            self.asked += 1
            self.workers[name] = SimpleNamespace(
                job_id=self.asked,
                mark=name,
                refusal='',
                failure=lambda: 'it fails',
                close=functools.partial(self._cancel, name),
            )

    async def _cancel(self, name: str) -> None:
        self.cancelled.append(name)

    def connect(self, *names: str) -> None:
        self.scheduler_info['workers'] = {name: {'name': name} for name in names}
        for name in names:
            self.scheduler.workers[name] = SimpleNamespace(name=name)
            self.plugin.add_worker(self.scheduler, name)

    def end(self, *numbers: int) -> None:
        for number in numbers:
            (self.job_cls.folder / f'slurm-{number}').touch()


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """It, with a clock that a test sets."""
    made = Cluster(tmp_path)
    made.now = 1000.0
    monkeypatch.setattr(batch_jobs, 'time', SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_a_job_of_several_processes_is_replaced_when_it_ends(cluster):
    jobs = Jobs(cluster, 'slurm', 3)
    cluster.connect('slurm-0-0', 'slurm-0-1', 'slurm-1-0')
    jobs.look()
    cluster.end(0, 1)
    jobs.look()
    assert set(cluster.workers) == {'slurm-0', 'slurm-1', 'slurm-2'}
    cluster.connect('slurm-1-0')
    jobs.look()
    assert set(cluster.workers) == {'slurm-1', 'slurm-2'}
    cluster.now += batch_jobs.FIRST_PAUSE_S
    jobs.look()
    assert set(cluster.workers) == {'slurm-1', 'slurm-2', 'slurm-3'}
    assert cluster.asked == 4


def test_a_job_that_ended_is_cancelled_and_one_of_another_name_replaces_it(cluster):
    """The batch system may start it again; Dask cancels, a while later, whatever has the name that vanished."""
    jobs = Jobs(cluster, 'slurm', 3)
    cluster.end(2)
    jobs.look()
    assert cluster.cancelled == ['slurm-2']
    cluster.now += batch_jobs.FIRST_PAUSE_S
    jobs.look()
    assert set(cluster.workers) == set(cluster.worker_spec) == {'slurm-0', 'slurm-1', 'slurm-3'}
    del cluster.workers['slurm-0']  # by Dask
    jobs.look()
    assert set(cluster.workers) == set(cluster.worker_spec) == {'slurm-1', 'slurm-3', 'slurm-4'}
    assert cluster.cancelled == ['slurm-2']


def test_a_job_that_worked_and_ended_between_two_looks_has_not_failed(cluster, told):
    jobs = Jobs(cluster, 'slurm', 3)
    for number in range(2 * batch_jobs.TRIES):
        cluster.connect(*(f'slurm-{number + k}' for k in range(3)))
        cluster.connect()
        cluster.end(number)
        jobs.look()
        cluster.now += batch_jobs.FIRST_PAUSE_S
        jobs.look()
    assert cluster.asked == 3 + 2 * batch_jobs.TRIES
    assert told() == []


def test_marks_are_left_again_once_their_folder_was_removed(cluster, tmp_path):
    cluster.job_cls.folder = tmp_path / 'logs' / 'ended'
    jobs = Jobs(cluster, 'slurm', 3)
    jobs.look()
    shutil.rmtree(tmp_path / 'logs')
    jobs.look()
    cluster.end(1)
    jobs.look()
    assert set(cluster.workers) == {'slurm-0', 'slurm-2'}


def test_pauses_grow_up_to_a_limit_and_a_job_in_the_queue_keeps_hope(cluster, told):
    jobs, tried = Jobs(cluster, 'slurm', 3), []
    for _ in range(2000):
        asked = cluster.asked
        cluster.end(*(n for n in range(asked) if n != 2))
        jobs.look()
        cluster.now += 1
        if cluster.asked > asked:
            tried.append(cluster.now)
    pauses = [b - a for a, b in itertools.pairwise(tried)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(20, abs=2)
    assert pauses[-1] == pytest.approx(300, abs=2)
    assert told()[:2] == [
        f'slurm: it fails (2 jobs); trying again in {seconds} s' for seconds in (10, 20)
    ]
    # That one has a worker at last: jobs that fail from now on are replaced soon again.
    cluster.connect('slurm-2')
    jobs.look()
    cluster.now += 300
    jobs.look()
    cluster.end(cluster.asked - 1)
    jobs.look()
    assert told()[-1] == 'slurm: it fails; trying again in 10 s'


def test_what_is_refused_for_days_is_asked_for_at_the_same_pace(cluster):
    jobs = Jobs(cluster, 'slurm', 3)
    cluster.connect('slurm-2')
    jobs.look()
    for number in range(1100):
        for name in set(cluster.workers) - {'slurm-2'}:
            cluster.workers[name].refusal = REFUSAL
        jobs.look()
        cluster.now += batch_jobs.MOST_PAUSE_S
        jobs.look()
        assert cluster.asked == 3 + 2 * (number + 1)


def test_jobs_that_fail_one_by_one_leave_no_hope(cluster):
    jobs = Jobs(cluster, 'slurm', 3)

    def fail() -> None:
        for _ in range(300):
            if cluster.workers:
                cluster.end(int(min(cluster.workers, key=len).partition('-')[2]))
            jobs.look()
            cluster.now += 1

    with pytest.raises(UserError, match=r'no worker has come in 4 tries: it fails; correct'):
        fail()


@pytest.mark.filterwarnings('ignore:env_extra', 'ignore:OAR Job memory')
@pytest.mark.parametrize('former', [False, True])
@pytest.mark.parametrize('system', ['SLURM', 'LSF', 'PBS', 'SGE', 'HTCondor', 'OAR'])
def test_jobs_of_every_batch_system_tell_their_end(tmp_path, monkeypatch, system, former):
    """Each runs the lines of the user, and has a folder with a blank in its name."""
    monkeypatch.chdir(tmp_path)
    (folder := tmp_path / 'a b').mkdir()
    made, name = getattr(dask_jobqueue, f'{system}Cluster'), system.lower()
    settings = {
        'cores': 1,
        'memory': '1GB',
        'processes': 1,
        'disk': '1GB',
        'env-extra' if former else 'job-script-prologue': ['export KEPT=1'],
        'python': 'exit $((2 + KEPT));',
    }
    kind = with_mark(made.job_cls, folder)
    assert kind.__name__ == f'{system}Job'
    with dask.config.set({f'jobqueue.{name}.{key}': value for key, value in settings.items()}):
        options = {'use_stdin': True, 'lsf_units': 'mb'} if system == 'LSF' else {}
        job = kind('tcp://127.0.0.1:1', 'name', **options)
    script = job.job_script()
    if (
        system == 'HTCondor'
    ):  # of the arguments, what is between single quotes, each of which is doubled
        line = next(line for line in script.splitlines() if line.startswith('Arguments'))
        script = line.partition("'")[2].rpartition("'")[0].replace("''", "'").replace('""', '"')
    subprocess.run(['sh', '-c', script], check=False)
    assert (folder / job.mark).read_text() == '3\n'
    assert 'exit status 3 before its worker connected' in job.failure()
    (folder / job.mark).unlink()
    assert 'exit status ? before' in job.failure()


def made_script(folder: Path, python: str, *prologue: str) -> tuple[str, Path]:
    """Script of a job of SLURM, and its mark."""
    kind = with_mark(dask_jobqueue.SLURMCluster.job_cls, folder)
    with dask.config.set({'jobqueue.slurm.job-script-prologue': list(prologue)}):
        job = kind('tcp://127.0.0.1:1', 'name', cores=1, memory='1GB', processes=1, python=python)
    return job.job_script(), folder / job.mark


@pytest.mark.parametrize('shell', ['bash', 'sh'])
@pytest.mark.parametrize(
    ('lines', 'status'),
    [(['trap "touch theirs" EXIT'], 7), (['trap "touch theirs" EXIT', 'set -e', 'false'], 1)],
)
def test_lines_of_the_user_may_trap_and_leave(tmp_path, shell, lines, status):
    script, mark = made_script(tmp_path, 'exit 7;', *lines)
    subprocess.run([shell, '-c', script], check=False, cwd=tmp_path)
    assert mark.read_text() == f'{status}\n'
    assert (tmp_path / 'theirs').exists()


@pytest.mark.parametrize('shell', ['bash', 'sh'])
def test_a_job_that_is_asked_to_stop_waits_for_its_worker_and_tells_its_end(tmp_path, shell):
    worker = 'sh -c \'trap "sleep 0.2; touch saved; exit 0" TERM; touch at_work; while :; do sleep 0.05; done\''
    script, mark = made_script(tmp_path, f'{worker};')
    with subprocess.Popen(
        [shell, '-c', script], cwd=tmp_path, start_new_session=True, stderr=subprocess.DEVNULL
    ) as job:
        deadline = time.monotonic() + 60
        while not (tmp_path / 'at_work').exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(job.pid, signal.SIGTERM)
        job.wait(60)
    assert (tmp_path / 'saved').exists()
    assert mark.read_text() == '143\n'
