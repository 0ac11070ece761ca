"""Files appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffn.utils import atomic, processes
from ffn.utils.atomic import atomic_path, check_writable, make_folder, remove_abandoned
from ffn.utils.errors import UserError


class Interrupted(BaseException):
    """Neither Exception nor OSError, as KeyboardInterrupt is."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_there_when_the_block_is_left(tmp_path):
    path = tmp_path / 'a' / 'b' / 'file.npz'
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent  # a rename cannot leave the file system
        assert temporary.read_bytes() == b''
        temporary.write_bytes(b'new')
        assert not path.exists()
    assert path.read_bytes() == b'new'
    assert names(path.parent) == ['file.npz']
    with atomic_path(str(path)) as temporary:
        temporary.write_bytes(b'newer')
        assert path.read_bytes() == b'new'
    assert path.read_bytes() == b'newer'
    assert names(path.parent) == ['file.npz']


def fail_in_block(path: Path, error: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b'half')
        raise error


@pytest.mark.parametrize('error', [ValueError, OSError, KeyboardInterrupt, Interrupted])
@pytest.mark.parametrize('there', [True, False])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, there):
    path = tmp_path / 'file'
    if there:
        path.write_bytes(b'old')
    with pytest.raises(error):
        fail_in_block(path, error)
    assert names(tmp_path) == (['file'] if there else [])
    if there:
        assert path.read_bytes() == b'old'


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / 'file'
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        first.write_bytes(b'first')
        second.write_bytes(b'second')
    assert path.read_bytes() == b'first'  # the outer block ends last
    assert names(tmp_path) == ['file']


def test_links_are_followed(tmp_path):
    (tmp_path / 'here').mkdir()
    (tmp_path / 'file').write_text('old')
    (tmp_path / 'here' / 'link').symlink_to('../file')
    with atomic_path(tmp_path / 'here' / 'link') as temporary:
        temporary.write_text('new')
    assert (tmp_path / 'file').read_text() == 'new'
    assert (tmp_path / 'here' / 'link').is_symlink()


def test_a_file_that_may_not_be_written_stays(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_text('old')
    # What os.access tells whoever is not root of a file of mode 444.
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match=r'may not be written'), atomic_path(path):
        pytest.fail('the block is entered')
    assert path.read_text() == 'old'


@pytest.mark.parametrize(('mask', 'mode'), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / 'file'):
            pass
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize('below', ['file/new', 'file/folder/new'])
def test_a_place_where_no_file_can_be(tmp_path, below):
    (tmp_path / 'file').write_bytes(b'old')
    told = rf'cannot be written: {tmp_path}/file is not a folder$'
    with pytest.raises(UserError, match=told), atomic_path(tmp_path / below):
        pytest.fail('entered')
    with pytest.raises(
        UserError, match=f'{below} cannot be made: {tmp_path}/file is not a folder$'
    ):
        make_folder(tmp_path / below)
    with pytest.raises(UserError, match=r'file cannot be made: .*/file is not a folder$'):
        make_folder(tmp_path / 'file')
    assert names(tmp_path) == ['file']
    assert (tmp_path / 'file').read_bytes() == b'old'


@pytest.mark.parametrize('kind', [str, Path])
def test_a_url_makes_no_folder(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(
            UserError, match=r'^gs://bucket/a\.json is a URL; expected a file of this machine'
        ),
        atomic_path(kind('gs://bucket/a.json')),
    ):
        pass
    assert not list(tmp_path.iterdir())
    with atomic_path('a:/b') as temporary:  # no scheme has one letter
        temporary.write_text('there')
    assert Path('a:', 'b').read_text() == 'there'


def test_a_folder_in_the_way_stays(tmp_path):
    (tmp_path / 'folder' / 'inside').mkdir(parents=True)
    with (
        pytest.raises(UserError, match=r'folder is a folder; expected a file$'),
        atomic_path(tmp_path / 'folder'),
    ):
        pytest.fail('entered')
    assert names(tmp_path) == ['folder']
    assert names(tmp_path / 'folder') == ['inside']


def test_looking_whether_a_file_can_be_written_makes_nothing(tmp_path):
    (tmp_path / 'file').write_text('there')
    for free in ('file', 'new', 'a/b/new'):
        check_writable(tmp_path / free, '--json')
    assert names(tmp_path) == ['file']
    with pytest.raises(UserError, match=r'^--json gs://bucket/a\.json is a URL'):
        check_writable('gs://bucket/a.json', '--json')


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match=f"may not be written: '{tmp_path}'"):
        check_writable(tmp_path / 'a' / 'new')


@pytest.mark.parametrize('mode', [os.W_OK, os.X_OK])
def test_a_file_in_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch, mode):
    """A file is replaced by one that is made beside it."""
    (tmp_path / 'file').write_text('old')
    monkeypatch.setattr(os, 'access', lambda path, asked: path != tmp_path or not asked & mode)
    for name in ('file', 'new'):
        with pytest.raises(PermissionError, match=f"may not be written: '{tmp_path}'"):
            check_writable(tmp_path / name)


def test_a_pipe_or_a_device_stays(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    (tmp_path / 'link').symlink_to('pipe')
    for path in (tmp_path / 'pipe', tmp_path / 'link', Path(os.devnull)):
        with pytest.raises(UserError, match=f'^--json {path} is a device or a pipe; expected a'):
            check_writable(path, '--json')
    with pytest.raises(UserError, match='is a device or a pipe'), atomic_path(tmp_path / 'pipe'):
        pytest.fail('entered')
    assert stat.S_ISFIFO((tmp_path / 'pipe').stat().st_mode)


def test_a_pipe_without_a_path(tmp_path):
    """What /dev/stdout leads to has no name that exists."""
    reader, writer = os.pipe()
    try:
        with pytest.raises(UserError, match='is a device or a pipe'):
            check_writable(f'/dev/fd/{writer}')
    finally:
        os.close(reader)
        os.close(writer)


# Temporary files of killed processes.

KILLED = """
import sys, time
from ffn.utils import atomic, processes
from ffn.utils.atomic import atomic_path, remove_abandoned
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b'half')
    print(temporary, flush=True)
    time.sleep(600)
"""


@contextlib.contextmanager
def writing(path: Path, repository: Path) -> Iterator[Path]:
    """The temporary file of a process that is in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, '-c', KILLED, str(path)],
        cwd=path.parent,
        env={'PYTHONPATH': str(repository)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_the_next_write_removes_what_a_killed_process_left(tmp_path, repository):
    """But nothing that a living process writes, and nothing of others."""
    kept = ['.other.tmp', '.file.abcdefgh.tmp', 'file.0123abcd-99-abcdefgh.tmp']
    for name in kept:
        (tmp_path / name).touch()
    with writing(tmp_path / 'other', repository) as used:
        with writing(tmp_path / 'file', repository) as left:
            pass
        assert {left.name, used.name} <= set(names(tmp_path))
        with atomic_path(tmp_path / 'a third') as temporary:
            assert names(tmp_path) == sorted([*kept, used.name, temporary.name])
    assert left.name.startswith('.file.')
    remove_abandoned(tmp_path)
    assert names(tmp_path) == sorted([*kept, 'a third'])


@pytest.mark.parametrize(('seconds_ago', 'stays'), [(3500, True), (3700, False)])
def test_temporary_files_of_other_hosts(tmp_path, seconds_ago, stays):
    """They are touched for as long as they are written."""
    path = tmp_path / '.file.0123abcd-99-abcdefgh.tmp'
    path.touch()
    at = path.stat().st_mtime - seconds_ago
    os.utime(path, (at, at))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == ([path.name] if stays else [])


def test_a_writer_touches_its_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, '_heart', processes._Heart(0.01))
    with atomic_path(tmp_path / 'file') as temporary:
        os.utime(temporary, (0, 0))
        end = time.monotonic() + 60
        while temporary.stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.005)
    assert names(tmp_path) == ['file']


def test_a_directory_is_cleared_once(tmp_path, monkeypatch):
    """As it may hold millions of files."""
    cleared = []
    monkeypatch.setattr(atomic, 'remove_abandoned', cleared.append)
    for name in ('a', 'b', 'a'):
        with atomic_path(tmp_path / name):
            pass
    assert cleared == [tmp_path]


# A full disk: no file may grow beyond a limit, in a process of its own.

FULL = """
import resource, signal
from ffn.utils import atomic, processes
from ffn.utils.atomic import atomic_path, remove_abandoned
from ffn.utils.errors import run_tool

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

def write(argv):
    with atomic_path('v.h5') as temporary:
        temporary.write_bytes(bytes(800_000))

run_tool(write)
"""


def test_full_disk(tmp_path, repository):
    (tmp_path / 'v.h5').write_bytes(b'old')
    shown = subprocess.run(
        [sys.executable, '-c', FULL],
        cwd=tmp_path,
        env={'PYTHONPATH': str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / 'v.h5').read_bytes() == b'old'
    assert names(tmp_path) == ['v.h5']
    assert shown.returncode == 1, shown.stderr
    assert shown.stderr.startswith('error: ')
    assert 'File too large' in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
