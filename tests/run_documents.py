"""Runs the blocks of a document that begin with ```sh, as a reader would type them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from tests import documents
from tests.conftest import ROOT

# What serves a page until Ctrl+C: the page is fetched once, then it gets its Ctrl+C.
_FFN = f"""#!{sys.executable}
import os, re, signal, subprocess, sys, urllib.request
command = [sys.executable, '-m', 'ffn', *sys.argv[1:]]
if sys.argv[1] not in ('view', 'seed', 'proofread', 'serve') or '--screenshot' in sys.argv:
    os.execv(sys.executable, command)
serving = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
opened = False
for line in serving.stdout:
    print(line, end='', flush=True)
    if not opened and (address := re.search(r'http://[^ ]+', line)):
        urllib.request.urlopen(address[0].partition('#')[0].strip(), timeout=60).read()
        serving.send_signal(signal.SIGINT)
        opened = True
sys.exit(serving.wait() or (not opened and 'it did not say where to open it'))
"""


def read_jobs(document: str) -> dict[str, str]:
    """The blocks that are run, joined for each heading of the second level: heading → shell script."""
    text = (ROOT / document).read_text(encoding='utf-8')
    blocks = [block for block in documents.read_blocks(text) if block.language == 'sh']
    return {
        job: ''.join(block.text for block in found)
        for job, found in groupby(blocks, lambda block: block.job)
    }


def make_folder(folder: Path) -> None:
    """Brings what a checkout has: its networks and settings, and `ffn` and `python` in bin/."""
    for name in ('models', 'configs'):
        (folder / name).mkdir()
        for path in (ROOT / name).iterdir():
            (folder / name / path.name).symlink_to(path)
    (folder / 'bin').mkdir()
    for name, text in (('ffn', _FFN), ('python', f'#!/bin/sh\nexec {sys.executable} "$@"\n')):
        (folder / 'bin' / name).write_text(text)
        (folder / 'bin' / name).chmod(0o755)


def run_job(folder: Path, script: str, replaced: Mapping[str, str], timeout: float) -> str:
    """Runs the blocks of a job.

    Args:
      folder: see `make_folder`.
      script: the blocks.
      replaced: text that a reader types → what stands for it here; each must occur.
      timeout: seconds that it may take.

    Returns:
      What was printed.

    Raises:
      AssertionError: a command failed, or text to be replaced does not occur any more.
    """
    for typed, stand_in in replaced.items():
        assert typed in script, f'{typed} is not in the document any more'
        script = script.replace(typed, stand_in)
    done = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', script],
        cwd=folder,
        env={
            **os.environ,
            'PATH': f'{folder / "bin"}{os.pathsep}{os.environ["PATH"]}',
            'PYTHONPATH': str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not done.returncode, done.stdout[-4000:]
    return done.stdout
