import subprocess
import sys

PROGRAM = """
import os, sys
from ffn.utils.startup import startup_messages_hidden
with startup_messages_hidden():
    os.write(2, b'while loading\\n')
    {what}
os.write(2, b'afterwards\\n')
"""


def stderr_of(repository, what: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, '-c', PROGRAM.format(what=what)], cwd=repository, env=environment,
        capture_output=True, text=True, check=False,
    ).stderr  # fmt: skip


def test_messages_are_hidden_until_it_is_loaded(repository):
    assert stderr_of(repository, 'pass') == 'afterwards\n'


def test_they_are_shown_when_loading_fails(repository):
    lines = stderr_of(repository, 'import no_such_module').splitlines()
    assert lines[0] == 'while loading'
    assert 'no_such_module' in lines[-1]


def test_they_are_shown_to_whoever_chooses_a_level(repository):
    shown = stderr_of(repository, 'pass', TF_CPP_MIN_LOG_LEVEL='0')
    assert shown == 'while loading\nafterwards\n'
