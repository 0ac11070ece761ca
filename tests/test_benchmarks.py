"""Benchmarks: they tell what they are, and mistakes in one line. What they measure takes long and is not run here."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks import measure
from benchmarks.scale_plan import exported_files
from ffn.distributed.local_pools import InProcess
from ffn.export.neuroglancer import export
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.shards import Sharding
from tests.calls import check_one_line, run_python
from tests.conftest import ROOT

MAIN = "if __name__ == '__main__':\n"
PROGRAMS = [
    path.stem for path in sorted(ROOT.glob('benchmarks/*.py')) if MAIN in path.read_text('utf-8')
]
# Their processes: one runs with an older ffn, the other without any.
WORKERS = ('train_in_turns', 'flax_oracle')
# Its status says whether the backends agree.
OWN_STATUS = ('import_flax',)


@pytest.mark.parametrize('name', PROGRAMS)
def test_every_one_has_flags_and_the_same_entry(name):
    text = (ROOT / 'benchmarks' / f'{name}.py').read_text('utf-8')
    assert name == 'train_in_turns' or re.search(r'ArgumentParser\(|measure\.parser\(', text)
    if name not in (*WORKERS, *OWN_STATUS):
        assert text.endswith('    measure.run_bench(main)\n')
        assert 'sys.argv' not in text


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in PROGRAMS if name not in WORKERS])
def test_help(name):
    done = run_python(ROOT, '-m', f'benchmarks.{name}', '--help')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: ')


def status_of(call, capsys) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        call()
    code = ended.value.code
    return (1, f'{code}\n') if isinstance(code, str) else (code, capsys.readouterr().err)


@pytest.mark.parametrize(
    ('error', 'told'),
    [
        (UserError('a is 3'), 'error: a is 3\n'),
        (FileNotFoundError(2, 'absent', 'a'), "error: [Errno 2] absent: 'a'\n"),
        (
            subprocess.CalledProcessError(2, ['git', 'a b']),
            "error: git 'a b' ended with status 2\n",
        ),
        (
            subprocess.CalledProcessError(1, [Path('a')], stderr='more\nerror: why\n'),
            'error: a ended with status 1: error: why\n',
        ),
    ],
)
def test_mistakes_are_one_line(capsys, error, told):
    def main():
        raise error

    assert status_of(lambda: measure.run_bench(main), capsys) == (1, told)


@pytest.mark.parametrize(
    ('command', 'told'),
    [
        ('whole_volume --results nowhere', 'no segmentation at nowhere'),
        ('serial_sections --data nowhere', 'nowhere/vnc/stack1/raw/'),
        ('proofreading_real --data nowhere', 'no nowhere/fib25/'),
        ('bench_flood --case demo --demo nowhere', 'nowhere/request.pbtxt'),
    ],
)
def test_data_that_are_not_there(monkeypatch, tmp_path, capsys, command, told):
    monkeypatch.chdir(tmp_path)
    name, *arguments = command.split()
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    main = importlib.import_module(f'benchmarks.{name}').main
    check_one_line(*status_of(lambda: measure.run_bench(main), capsys), told)


@pytest.mark.parametrize(
    ('command', 'told'),
    [
        # Python would find the installed ffn in its place.
        ('bench_training_time --against nowhere', 'nowhere is no checkout'),
        ('bench_training_time --against . --flag=--seed=2', 'not allowed with'),
        ('bench_flood --way face', '--way is face; expected face or coarse, a colon'),
    ],
)
def test_flags_that_make_no_sense(monkeypatch, tmp_path, capsys, command, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('benchmarks.bench_training_time.write_data', None)  # never gets there
    name, *arguments = command.split()
    monkeypatch.setattr(sys, 'argv', [name, *arguments])
    status, shown = status_of(importlib.import_module(f'benchmarks.{name}').main, capsys)
    assert status == 2
    assert told in shown


def test_an_earlier_commit_without_ffn_is_refused(monkeypatch, tmp_path, capsys):
    from benchmarks import before_after

    tree = subprocess.run(
        ['git', 'rev-parse', 'HEAD:configs'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tree.returncode:
        pytest.skip('not a git checkout')
    monkeypatch.setattr(before_after, 'prepare', None)  # never gets there
    monkeypatch.setattr(sys, 'argv', ['before_after', tree.stdout.strip()])
    status, shown = status_of(before_after.main, capsys)
    assert status == 2
    assert 'is no checkout: there is no ffn/__init__.py' in shown


@pytest.mark.parametrize('side', [64, 512])
def test_files_of_an_export_are_as_many_as_planned(tmp_path, side):
    shape = Xyz(270, 70, 130)
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['v'] = np.ones(shape.zyx, np.uint8)
    sharding = Sharding(Xyz(side, side, side)) if side > 64 else None
    volumes = {'labels': f'{tmp_path}/v.h5:v'}
    export(tmp_path / 'view', volumes, (8.0, 8.0, 8.0), InProcess(), quiet=True, sharding=sharding)
    files = [path for path in (tmp_path / 'view/labels').rglob('*') if path.is_file()]
    others = {'info', 'export.json', 'ffn.json', '.lock'}
    assert sum(path.name not in others for path in files) == exported_files(shape, side)
