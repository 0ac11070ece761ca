"""One command at a time in a folder."""

import subprocess
import sys

import pytest

from ffn.utils.errors import UserError
from ffn.utils.lock import only_one


def test_the_second_one_is_refused(tmp_path):
    with only_one(tmp_path / 'new'), only_one(tmp_path / 'other'):
        with (
            pytest.raises(UserError, match=r'another command works in .*new'),
            only_one(tmp_path / 'new'),
        ):
            pass
    with only_one(tmp_path / 'new'):
        pass


def test_a_lock_ends_with_its_process(tmp_path, repository):
    program = (
        'import sys, time; from ffn.utils.lock import only_one\n'
        'with only_one(sys.argv[1]):\n    print("locked", flush=True); time.sleep(600)'
    )
    other = subprocess.Popen(
        [sys.executable, '-c', program, tmp_path], cwd=repository, stdout=subprocess.PIPE
    )
    assert other.stdout.readline() == b'locked\n'
    with pytest.raises(UserError), only_one(tmp_path):
        pass
    other.kill()
    other.communicate()
    with only_one(tmp_path):
        pass


def test_a_lock_of_another_user(tmp_path):
    """One that may be read only."""
    with only_one(tmp_path):
        pass
    (tmp_path / '.lock').chmod(0o444)
    with only_one(tmp_path):
        pass
