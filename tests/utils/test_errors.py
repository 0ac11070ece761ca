"""What the shell sees of a mistake: one line and a status, by run_tool and by run_script."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ffn.utils.errors import UserError, damage_told
from tests.calls import run_python

PROGRAM = """
import errno, sys
from ffn.utils.errors import UserError, {run}

def main(argv=None):
    print('called with', argv)
    {body}

{run}(main)
"""


def run(repository, name: str, body: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a small command whose main does what `body` says."""
    return run_python(repository, '-c', PROGRAM.format(run=name, body=body), *arguments)


@pytest.mark.parametrize('name', ['run_tool', 'run_script'])
@pytest.mark.parametrize(
    ('body', 'status', 'stderr'),
    [
        ('return 7', 0, ''),
        ('raise UserError("a is 3;\\n   expected 4")', 1, 'error: a is 3; expected 4\n'),
        ('open("absent/a.h5")', 1, "error: [Errno 2] No such file or directory: 'absent/a.h5'\n"),
        (
            'raise MemoryError("Unable to allocate 2 TiB")',
            1,
            'error: there is not enough memory (Unable to allocate 2 TiB); '
            'choose a smaller box, or a machine with more\n',
        ),
        ('raise KeyboardInterrupt', 130, 'interrupted\n'),
    ],
)
def test_one_line_and_a_status(repository, name, body, status, stderr):
    shown = run(repository, name, body)
    assert (shown.returncode, shown.stderr) == (status, stderr)
    assert shown.stdout == 'called with None\n'


def run_unread(repository, body: str, *options: str) -> tuple[int, str]:
    """Runs a command whose output nobody reads; returns its status and standard error."""
    program = PROGRAM.format(run='run_tool', body=body)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as unread:
        done = subprocess.run(
            [sys.executable, *options, '-c', program], cwd=repository,
            stdout=unread, stderr=subprocess.PIPE, text=True, check=False,
            env={k: v for k, v in os.environ.items() if k != 'PYTHONUNBUFFERED'},
        )  # fmt: skip
    return done.returncode, done.stderr


ELSEWHERE = 'import socket; a, b = socket.socketpair(); b.close(); a.send(b"x")'


@pytest.mark.parametrize(
    ('body', 'options', 'status', 'stderr'),
    [
        ('return 7', (), 0, ''),  # what it prints is written out in the end
        ('sys.exit(3)', (), 3, ''),
        ('print("a" * 10**6); open("absent")', (), 141, ''),  # more than a buffer holds
        ('return 7', ('-u',), 141, ''),
        ('raise UserError("a is 3")', (), 1, 'error: a is 3\n'),
    ],
)
def test_nobody_reads_what_is_printed(repository, body, options, status, stderr):
    assert run_unread(repository, body, *options) == (status, stderr)


def test_another_pipe_that_is_broken_is_an_error(repository):
    shown = run(repository, 'run_tool', ELSEWHERE)
    assert (shown.returncode, shown.stderr) == (1, 'error: [Errno 32] Broken pipe\n')


def test_a_full_disk_under_the_output_is_one_line(repository):
    program = PROGRAM.format(run='run_tool', body='return 7')
    with open('/dev/full', 'w') as full:
        done = subprocess.run(
            [sys.executable, '-c', program], cwd=repository,
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, 'error: [Errno 28] No space left on device\n')


@pytest.mark.parametrize('name', ['run_tool', 'run_script'])
def test_mistakes_of_the_program_keep_their_traceback(repository, name):
    shown = run(repository, name, 'raise ValueError("inner")')
    assert shown.returncode == 1
    assert 'Traceback' in shown.stderr
    assert shown.stderr.rstrip().endswith('ValueError: inner')


def test_script_refuses_positional_arguments(repository):
    shown = run(repository, 'run_script', 'pass', 'labels.h5:raw', 'more')
    assert (shown.returncode, shown.stdout) == (1, '')
    assert shown.stderr == (
        "error: unexpected argument 'labels.h5:raw': everything is given as --flag=value\n"
    )


def test_script_refuses_unknown_flags(repository):
    shown = run(repository, 'run_script', 'pass', '--no_such_flag=3')
    assert (shown.returncode, shown.stdout) == (1, '')
    assert "Unknown command line flag 'no_such_flag'" in shown.stderr
    assert 'Traceback' not in shown.stderr


def read_with(error: Exception) -> str:
    with pytest.raises(UserError) as caught, damage_told('a.h5', 'copy it again'):
        raise error
    return str(caught.value)


@pytest.mark.parametrize(
    ('error', 'what'),
    [
        (OSError('bad header\nand more'), 'bad header'),
        (KeyError('x'), "KeyError 'x'"),
        (RuntimeError('Object visitation failed'), 'RuntimeError Object visitation failed'),
        (ZeroDivisionError(), 'ZeroDivisionError'),
    ],
)
def test_damage_is_told_in_one_line(error, what):
    assert read_with(error) == f'a.h5 is damaged or of another kind ({what}); copy it again'


@pytest.mark.parametrize(
    'error', [UserError('another line'), MemoryError(), FileNotFoundError(2, 'absent', 'a.h5')]
)
def test_what_is_no_damage_passes(error):
    with pytest.raises(type(error)) as caught, damage_told('a.h5', 'copy it again'):
        raise error
    assert caught.value is error
