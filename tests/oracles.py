"""Runs programs with other people's libraries, each in an environment of its own, to compare with ours.

`FFN_TEST_ORACLES` names their Pythons, separated by colons: python -m venv oracles && oracles/bin/pip install zarr
cloud-volume, and likewise ome-zarr and webknossos, each in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
import textwrap
from pathlib import Path

import pytest

PYTHONS = list(filter(None, os.environ.get('FFN_TEST_ORACLES', '').split(':')))
needed = pytest.mark.skipif(not PYTHONS, reason='FFN_TEST_ORACLES names no Python')


def run(folder: Path, program: str) -> None:
    """Runs a program in a folder, in the first environment that has its library; skips where none has."""
    file = folder / 'program.py'
    file.write_text(textwrap.dedent(program))
    for python in PYTHONS:
        done = subprocess.run(
            [python, file.name], cwd=folder, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return
        lacks = 'No module named' in done.stderr or 'is not installed' in done.stderr
        assert lacks, done.stderr
    pytest.skip(done.stderr.splitlines()[-1])
