"""Calling Python, scripts and commands in processes of their own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.loaded import run_loaded

_DRIVER = """
import contextlib, importlib, io, json, sys
from ffn.utils import errors
script = importlib.import_module(sys.argv[1])
results = []
for arguments in json.load(sys.stdin):
    script.FLAGS.unparse_flags()
    for flag in script.FLAGS.flags_by_module_dict()[script.__name__]:
        flag.unparse()
    sys.argv[2:] = arguments
    script.FLAGS(sys.argv[1:])
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()) as shown,
    ):
        status = errors.exit_status(script.main)
    results.append((status, shown.getvalue()))
json.dump(results, sys.stdout)
"""


class Unread(io.StringIO):
    """Standard output that nobody reads any more; for monkeypatch."""

    def flush(self) -> None:
        raise BrokenPipeError(32, 'Broken pipe')


def run_python(
    folder: Path, *arguments: object, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs the interpreter of the tests, and keeps what it prints.

    Args:
      folder: where it runs.
      *arguments: its command line.
      timeout: seconds that it may take.
      **options: of subprocess.run.
    """
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )


def call_many(
    repository: Path, folder: Path, script: str, cases: Sequence[Sequence[str]]
) -> list[tuple[int, str]]:
    """Calls a script with many command lines in one process: loading TensorFlow takes seconds.

    Args:
      repository: where it is.
      folder: where it runs.
      script: its name without .py.
      cases: command-line arguments.

    Returns:
      Exit status and what was written to standard error, for each case.
    """
    done = run_loaded(
        folder,
        '-c',
        _DRIVER,
        script,
        input=json.dumps(list(cases)),
        env={'PYTHONPATH': str(repository)},
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return [(status, errors) for status, errors in json.loads(done.stdout)]


def check_one_line(status: int, errors: str, *words: str, what: object = '') -> None:
    """Checks that a call failed as it should: one line that says what is wrong, and status 1."""
    assert status == 1, (what, errors)
    assert 'Traceback' not in errors, (what, errors)
    lines = [line for line in errors.splitlines() if line.startswith('error: ')]
    assert len(lines) == 1, (what, errors)
    for word in words:
        assert word in lines[0], (what, word, lines[0])
