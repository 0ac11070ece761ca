"""One command at a time in a folder."""

import errno
import subprocess
import sys
import threading

import pytest

from ffn.utils import locks
from ffn.utils.errors import UserError
from ffn.utils.locks import exclusive_directory, one_writer


def test_the_second_one_is_refused(tmp_path):
    with exclusive_directory(tmp_path / 'new'), exclusive_directory(tmp_path / 'other'):
        with (
            pytest.raises(UserError, match=r'another command works in .*new'),
            exclusive_directory(tmp_path / 'new'),
        ):
            pass
    with exclusive_directory(tmp_path / 'new'):
        pass


def test_a_lock_ends_with_its_process(tmp_path, repository):
    program = (
        'import sys, time; from ffn.utils.locks import one_writer, exclusive_directory\n'
        'with exclusive_directory(sys.argv[1]):\n    print("locked", flush=True); time.sleep(600)'
    )
    other = subprocess.Popen(
        [sys.executable, '-c', program, tmp_path], cwd=repository, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b'locked\n'
    with pytest.raises(UserError), exclusive_directory(tmp_path):
        pass
    other.kill()
    other.communicate()
    with exclusive_directory(tmp_path):
        pass


def test_a_lock_of_another_user(tmp_path):
    """One that may be read only."""
    with exclusive_directory(tmp_path):
        pass
    (tmp_path / '.lock').chmod(0o444)
    with exclusive_directory(tmp_path):
        pass


def test_writers_wait_for_each_other(tmp_path, caplog):
    path, inside, order = tmp_path / 'new' / 'a.h5', threading.Event(), []

    def first():
        with one_writer(path) as locked:
            assert locked
            inside.set()
            while 'waiting for another command that writes to' not in caplog.text:
                pass
            order.append(1)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with one_writer(path):
        order.append(2)
    thread.join()
    assert order == [1, 2]
    assert not list(path.parent.iterdir())


def test_locks_are_open_for_writing(tmp_path, monkeypatch):
    """As NFS wants it."""
    modes = []
    monkeypatch.setattr(locks.fcntl, 'flock', lambda file, how: modes.append(file.mode))
    with exclusive_directory(tmp_path), one_writer(tmp_path / 'a'):
        pass
    assert modes == ['r+', 'r+']


def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(locks.fcntl, 'flock', flock)
    with exclusive_directory(tmp_path), one_writer(tmp_path / 'a') as locked:
        assert not locked
    assert caplog.text.count('No locks available') == 2
