"""Inference where the disk does not do as it should: one line, and nothing is lost."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ffn.inference import box_run, storage
from ffn.inference.core import checkpoint
from ffn.inference.core.canvas import Interrupted
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.utils import npz
from tests.calls import check_one_line, run_python
from tests.inference import flood
from tests.inference.results import check_same, whole_result

CORNER, SIZE = (1, 0, 2), (18, 25, 36)  # z, y, x
BOX = 'start { x: 2 y: 0 z: 1 } size { x: 36 y: 25 z: 18 }'
ANOTHER = 'start { x: 3 y: 1 z: 4 } size { x: 18 y: 11 z: 9 }'
# Linux only.
PRCTL = getattr(ctypes.CDLL(None), 'prctl', lambda *arguments: None)
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def write_request(folder: Path, more: str = '') -> str:
    path = Path(flood.write_request(folder))
    path.write_text(path.read_text() + 'movement_policy_args: \'{"deltas": [2, 2, 2]}\'\n' + more)
    return str(path)


@pytest.fixture
def folder(flood_folder):
    write_request(flood_folder)
    return flood_folder


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, flood_network):
    """The result where nothing goes wrong."""
    folder = tmp_path_factory.mktemp('undisturbed')
    flood.fill_folder(folder, flood_network)
    box_run.segment(write_request(folder), BOX, quiet=True)
    return whole_result(folder / 'results', CORNER)


def stop_after(folder: Path, steps: int) -> Path:
    """Leaves the checkpoint of a run that was stopped after so many steps; returns its path."""
    with Runner() as runner:
        runner.start(read_request(str(folder / 'request.pbtxt')))
        predict, left = runner.executor._predict, steps

        def counted(images, seeds):
            nonlocal left
            left -= 1
            if left == 0:
                runner.stop.set()
            return predict(images, seeds)

        runner.executor._predict = counted
        with pytest.raises(Interrupted):
            runner.run(CORNER, SIZE)
    return storage.subvolume_path(folder / 'results', CORNER, 'cpoint')


def run(repository: Path, folder: Path, *arguments: str, before=None):
    """Calls the script; `before` is called in the new process."""
    return run_python(
        folder,
        str(repository / 'run_inference.py'),
        '--inference_request=request.pbtxt',
        *arguments,
        preexec_fn=before,
    )


def files(folder: Path) -> dict[str, bytes]:
    """What is in the folder of results, temporary files too."""
    found = (folder / 'results').rglob('*')
    return {path.name: path.read_bytes() for path in found if path.is_file()}


def without_privileges() -> None:
    """Has permissions hold for root as well."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        PRCTL(PR_CAPBSET_DROP, capability, 0, 0, 0)


def may_write(folder: Path) -> bool:
    """Whether a process without privileges may write to a folder."""
    code = 'import os, sys; print(os.access(sys.argv[1], os.W_OK))'
    done = subprocess.run(
        [sys.executable, '-c', code, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=without_privileges,
    )
    return done.stdout.strip() == 'True'


@pytest.fixture
def locked():
    """Takes the permission to write from folders, until the test ends."""
    changed = []

    def lock(folder: Path) -> None:
        changed.append(folder)
        folder.chmod(0o555)
        if may_write(folder):
            pytest.skip('permissions do not hold for this user')

    yield lock
    for folder in changed:
        folder.chmod(0o755)


def test_a_folder_of_results_that_may_not_be_written(repository, folder, locked):
    """The other boxes' results and the checkpoint stay as they are."""
    stop_after(folder, 30)
    box_run.segment(str(folder / 'request.pbtxt'), ANOTHER, quiet=True)
    before = files(folder)
    assert len(before) == 4
    locked(folder / 'results')
    done = run(repository, folder, f'--bounding_box={BOX}', before=without_privileges)
    check_one_line(done.returncode, done.stderr, 'results', 'may not be written')
    assert files(folder) == before


def test_a_folder_of_one_box_that_may_not_be_written(repository, folder, locked, undisturbed):
    """The others are done, and with permission, this one goes on from its checkpoint."""
    saved = stop_after(folder, 30)
    before = saved.read_bytes()
    locked(saved.parent)
    boxes = f'box {{ {BOX} }} box {{ {ANOTHER} }}'
    done = run(repository, folder, f'--bounding_boxes={boxes}', before=without_privileges)
    check_one_line(done.returncode, done.stderr, '1 of 2 boxes', str(saved.parent))
    assert saved.read_bytes() == before
    assert [path.name for path in folder.rglob('*.npz')] == ['seg-3_1_4.npz']
    saved.parent.chmod(0o755)
    box_run.segment(str(folder / 'request.pbtxt'), BOX, quiet=True)
    check_same(whole_result(folder / 'results', CORNER), undisturbed)


def full_disk() -> None:
    """No file may become longer than a result is."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))


def test_a_disk_that_is_full_when_the_result_is_written(repository, folder, undisturbed):
    """Nothing half-written is left, and with room again, the rest is quickly done."""
    saved = stop_after(folder, 60)
    before = files(folder)
    assert list(before) == [saved.name]
    done = run(repository, folder, f'--bounding_box={BOX}', before=full_disk)
    check_one_line(done.returncode, done.stderr, 'File too large')
    assert files(folder) == before
    report = folder / 'report.json'
    box_run.segment(str(folder / 'request.pbtxt'), BOX, quiet=True, report_path=str(report))
    assert '"resumed_steps": 60' in report.read_text()
    check_same(whole_result(folder / 'results', CORNER), undisturbed)
    assert not saved.exists()


@pytest.mark.parametrize('ending', ['prob', 'npz'])
def test_a_disk_that_fills_up_between_files(folder, undisturbed, monkeypatch, ending):
    """The result counts as there only with its npz."""
    save = npz.write_compressed

    def full(file, **members):
        if f'.{ending}.' in file.name:
            file.write(b'PK\3\4 half of it')
            raise OSError(28, 'No space left on device')
        save(file, **members)

    saved = stop_after(folder, 60)
    with monkeypatch.context() as patched:
        patched.setattr(npz, 'write_compressed', full)
        with pytest.raises(ValueError, match='No space left'):
            box_run.segment(str(folder / 'request.pbtxt'), BOX, quiet=True)
    left = {path.name for path in (folder / 'results').rglob('*') if path.is_file()}
    assert left == {saved.name} | ({'seg-2_0_1.prob'} if ending == 'npz' else set())
    box_run.segment(str(folder / 'request.pbtxt'), BOX, quiet=True)
    check_same(whole_result(folder / 'results', CORNER), undisturbed)
    assert set(files(folder)) == {'seg-2_0_1.npz', 'seg-2_0_1.prob', 'counters.txt'}


class Unsafe:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch unsafe',)


def replace_member(path: Path, name: str, array: np.ndarray) -> None:
    """Puts another array into an npz file."""
    with np.load(path, allow_pickle=False) as stored:
        names = stored.files
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(f'{name}.npy') for name in names}
    with zipfile.ZipFile(path, 'w') as archive:
        for other, data in members.items():
            if other != name:
                archive.writestr(f'{other}.npy', data)
        with archive.open(f'{name}.npy', 'w') as file:
            np.lib.format.write_array(file, array, allow_pickle=True)


def spoil(path: Path, how: str) -> None:
    """Damages a checkpoint."""
    whole = path.read_bytes()
    if how == 'truncated':
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif how == 'empty':
        path.write_bytes(b'')
    elif how == 'random bytes':
        path.write_bytes(np.random.default_rng(3).bytes(len(whole)))
    elif how == 'a bit':
        path.write_bytes(whole[:200] + bytes([whole[200] ^ 16]) + whole[201:])
    elif how == 'unsafe member':
        replace_member(path, 'origins', np.array(Unsafe(), dtype=object))
    elif how == 'unsafe pickle':
        path.write_bytes(pickle.dumps(Unsafe()))
    elif how == 'another shape':
        with np.load(path) as stored:
            larger = np.pad(stored['segmentation'], ((0, 0), (0, 1), (0, 0)))
        replace_member(path, 'segmentation', larger)
    elif how == 'another state':
        replace_member(path, 'state', np.array(b'{"growing": null, "seed_index": "x"'))


@pytest.mark.parametrize(
    'how',
    [
        'truncated',
        'empty',
        'random bytes',
        'a bit',
        'unsafe member',
        'unsafe pickle',
        'another shape',
        'another state',
    ],
)
def test_a_checkpoint_that_is_no_good(folder, undisturbed, caplog, monkeypatch, how):
    """Moved aside with a warning, not executed, and the subvolume is begun afresh."""
    monkeypatch.chdir(folder)
    saved = stop_after(folder, 60)
    spoil(saved, how)
    spoilt = saved.read_bytes()
    with caplog.at_level(logging.WARNING):
        box_run.segment(str(folder / 'request.pbtxt'), BOX, quiet=True)
    assert 'starts afresh' in caplog.text
    assert str(saved) in caplog.text
    assert not (folder / 'unsafe').exists()
    assert not saved.exists()
    aside = saved.with_suffix('.cpoint.aside')
    assert aside.read_bytes() == spoilt
    check_same(whole_result(folder / 'results', CORNER), undisturbed)


def test_the_unsafe_files_would_run_a_command(tmp_path, monkeypatch):
    """Otherwise the test above shows nothing."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / 'a.npz', origins=np.zeros(3), other=np.ones(2))
    replace_member(tmp_path / 'a.npz', 'origins', np.array(Unsafe(), dtype=object))
    with np.load('a.npz', allow_pickle=True) as stored:
        assert stored['other'].sum() == 2
        assert stored['origins'] is not None
    assert (tmp_path / 'unsafe').exists()


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(
    folder, undisturbed, caplog, monkeypatch
):
    """The disk may have room again when the result is there."""

    def full(*_):
        raise OSError(28, 'No space left on device')

    saver = checkpoint.Checkpointer
    monkeypatch.setattr(checkpoint, 'save_checkpoint', full)
    monkeypatch.setattr(checkpoint, 'Checkpointer', lambda path, _, *rest: saver(path, 0.01, *rest))
    with caplog.at_level(logging.WARNING):
        box_run.segment(str(folder / 'request.pbtxt'), BOX, quiet=True)
    assert caplog.text.count('No space left') > 1
    check_same(whole_result(folder / 'results', CORNER), undisturbed)
