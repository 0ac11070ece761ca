"""Assembling on Dask: a scheduler that runs already, and jobs of a batch system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import dask_jobqueue
import pytest
import yaml

from ffn.assembly.tiling import Tiling
from ffn.distributed.cluster import open_client
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.assembly.cut import blobs, check_same_objects, cut
from tests.assembly.test_assemble import read
from tests.calls import check_one_line

SHAPE = (20, 40, 50)
TILING = Tiling(Box.of_shape(SHAPE), Xyz(20, 24, 20), Xyz(8, 8, 8))


@pytest.fixture
def labels(tmp_path):
    """Labels whose subvolumes are in `results`."""
    made = blobs(SHAPE, 9, 2)
    cut(tmp_path / 'results', made, TILING)
    return made


def assemble(repository: Path, folder: Path, scheduler: str, **environment: str) -> str:
    """Calls the command; returns what it logged."""
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'ffn.assembly.assemble',
            '--segmentation',
            'results',
            '--bounding_box',
            str(TILING.box.to_proto()),
            '--subvolume_size',
            '20,24,20',
            '--overlap',
            '8,8,8',
            '--output',
            'precomputed://whole',
            '--voxel_size',
            '8,9,30',
            '--scheduler',
            scheduler,
            '--min_overlap_voxels',
            '1',
            '--min_fraction_smaller',
            '0',
            '--conflicts',
            'join',
        ],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(repository), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_scheduler_that_runs_already(repository, tmp_path, labels):
    file, environment = tmp_path / 'scheduler.json', {**os.environ, 'PYTHONPATH': str(repository)}
    dask_command = [sys.executable, '-m', 'dask']
    own = ('--scheduler-file', str(file), '--dashboard-address', ':0')
    processes = [
        subprocess.Popen(
            [*dask_command, *command, *own],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in (('scheduler', '--port', '0'), ('worker', '--nthreads', '2'))
    ]
    try:
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "Dask's dashboard" in assemble(repository, tmp_path, str(file))
        check_same_objects(read(f'precomputed://{tmp_path}/whole', TILING.box), labels)
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(60)


def batch_system(folder: Path) -> None:
    """Makes folder/bin with an sbatch that starts the script of a job at once."""
    programs = folder / 'bin'
    programs.mkdir()
    (programs / 'sbatch').write_text(
        '#!/bin/sh\nfor script; do :; done\n'  # the last argument
        f'cp "$script" {folder}/job\nsetsid bash {folder}/job >>{folder}/log 2>&1 &\n'
        f'echo $! | tee -a {folder}/jobs\n'
    )
    (programs / 'scancel').write_text('#!/bin/sh\nkill -- -"$1"\n')
    for program in programs.iterdir():
        program.chmod(0o755)


def test_jobs_of_slurm(repository, tmp_path, labels):
    """The recipe of the manual."""
    batch_system(tmp_path)
    assemble(
        repository,
        tmp_path,
        'slurm',
        PATH=f'{tmp_path}/bin:{os.environ["PATH"]}',
        DASK_CONFIG=str(repository / 'configs' / 'jobqueue.yaml'),
    )
    check_same_objects(read(f'precomputed://{tmp_path}/whole', TILING.box), labels)
    script = (tmp_path / 'job').read_text()
    assert '#SBATCH --gres=gpu:1' in script


@pytest.mark.slow
def test_a_job_that_ends_is_replaced(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batch_system(tmp_path)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    recipe = yaml.safe_load((repository / 'configs' / 'jobqueue.yaml').read_text())
    recipe['jobqueue']['slurm']['scheduler-options'] = {'dashboard_address': ':0'}
    with dask.config.set(dask.config.merge(dask.config.config, recipe)):
        with open_client('slurm', 1) as client:
            assert client.submit(abs, -1).result(60) == 1
            [job] = (tmp_path / 'jobs').read_text().split()
            os.killpg(int(job), signal.SIGKILL)
            assert client.submit(abs, -2).result(60) == 2
            assert len((tmp_path / 'jobs').read_text().split()) == 2


@pytest.mark.slow
def test_jobs_talk_through_tls_where_that_is_required(repository, tmp_path, monkeypatch):
    """The recipe of the manual: temporary certificates in a folder that the jobs can see."""
    pytest.importorskip('cryptography')
    monkeypatch.chdir(tmp_path)
    batch_system(tmp_path)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    monkeypatch.setenv('DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION', 'True')
    recipe = yaml.safe_load((repository / 'configs' / 'jobqueue.yaml').read_text())
    recipe['jobqueue']['slurm']['shared-temp-directory'] = str(tmp_path)
    recipe['jobqueue']['slurm']['scheduler-options'] = {'dashboard_address': ':0'}
    recipe['distributed'] = {'comm': {'require-encryption': True}}
    with dask.config.set(dask.config.merge(dask.config.config, recipe)):
        with open_client('slurm', 1) as client:
            assert client.scheduler.address.startswith('tls://')
            assert client.submit(abs, -1).result(60) == 1
            [worker] = client.scheduler_info()['workers']
            assert worker.startswith('tls://')


def test_a_batch_system_that_is_not_there_or_not_set_up(tmp_path, monkeypatch):
    with pytest.raises(UserError, match='there is no sbatch on this machine'), open_client('slurm'):
        pass
    batch_system(tmp_path)
    monkeypatch.setenv('PATH', f'{tmp_path}/bin:{os.environ["PATH"]}')
    with pytest.raises(UserError, match=r'how much cores .*configs/jobqueue.yaml'):
        with open_client('slurm'):
            pass


@pytest.mark.parametrize(
    ('name', 'lines'),
    [
        (
            'SLURMCluster',
            ('#SBATCH --gres=gpu:1', '#SBATCH --cpus-per-task=8', '#SBATCH -t 24:00:00'),
        ),
        ('LSFCluster', ('#BSUB -gpu "num=1"', '#BSUB -n 8', '#BSUB -W 24:00', '#BSUB -M 64000')),
    ],
)
def test_job_scripts_of_the_recipe(repository, tmp_path, monkeypatch, name, lines):
    monkeypatch.chdir(tmp_path)
    recipe = yaml.safe_load((repository / 'configs' / 'jobqueue.yaml').read_text())
    merged = dask.config.merge(dask.config.config, recipe)
    with (
        dask.config.set(merged),
        getattr(dask_jobqueue, name)(scheduler_options={'dashboard_address': ':0'}) as cluster,
    ):
        script = cluster.job_script()
    for line in lines:
        assert line in script.splitlines()
    assert '--nthreads 4' in script
    assert '--lifetime 23h' in script


def test_without_dask(repository, tmp_path, labels):
    """Dask is an extra: all but --scheduler works without."""
    program = (
        'import sys; sys.modules.update(dict.fromkeys(("dask", "distributed", "dask_jobqueue")))\n'
        'from ffn.cli.assemble import main; from ffn.utils.errors import run_tool\n'
        'run_tool(lambda _: main(sys.argv[1:]))'
    )
    command = [
        sys.executable,
        '-c',
        program,
        '--segmentation',
        'results',
        '--quiet',
        '--bounding_box',
        str(TILING.box.to_proto()),
        '--subvolume_size',
        '20,24,20',
        '--overlap',
        '8,8,8',
        '--output',
        'n5://whole',
        '--scheduler',
    ]
    done = [
        subprocess.run(
            [*command, scheduler],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, 'PYTHONPATH': str(repository)},
            check=False,
        )
        for scheduler in ('none', 'local')
    ]
    assert done[0].returncode == 0, done[0].stderr
    check_one_line(done[1].returncode, done[1].stderr, 'needs Dask', '[cluster]')
