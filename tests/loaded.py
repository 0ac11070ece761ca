"""Python in processes of their own that begin with TensorFlow loaded, which otherwise takes each of them seconds.

They are forked from a process that has loaded tests.preloaded and done nothing else. Tests of what happens while a
command starts call a new interpreter instead, with tests.calls.run_python; so does one test of each script.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path


def context() -> multiprocessing.context.ForkServerContext:
    """What begins such processes; the one that they are forked from is started unless it is there."""
    found = multiprocessing.get_context('forkserver')
    found.set_forkserver_preload(['tests.preloaded'])  # Dask sets others
    forkserver.ensure_running()
    return found


@contextlib.contextmanager
def loaded_workers() -> Iterator[None]:
    """Local workers of Dask are forked in the same way."""
    import dask

    context()
    with dask.config.set({'distributed.worker.multiprocessing-method': 'forkserver'}):
        yield


def run_loaded(
    folder: Path,
    *arguments: object,
    timeout: float = 300,
    env: Mapping[str, str] | None = None,
    input: str = '',  # as subprocess.run has it
) -> subprocess.CompletedProcess[str]:
    """Runs Python, and keeps what it prints.

    Args:
      folder: where it runs.
      *arguments: the interpreter's command line: -m MODULE, -c CODE or a script, and what it is given.
      timeout: seconds that it may take.
      env: its environment; default: that of the tests.
      input: what it reads from standard input.
    """
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as name:
        streams = [Path(name, stream) for stream in ('stdin', 'stdout', 'stderr')]
        streams[0].write_text(input)
        environment = dict(os.environ if env is None else env)
        process = context().Process(target=_run, args=(command, folder, environment, streams))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout, stderr=streams[2].read_text())
        printed = (stream.read_text() for stream in streams[1:])
        return subprocess.CompletedProcess([sys.executable, *command], process.exitcode, *printed)


def _run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    streams: Sequence[Path],
) -> None:
    for number, path in enumerate(streams):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    first, *rest = command
    if first == '-m':
        sys.argv = rest
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    elif first == '-c':
        sys.argv = ['-c', *rest[1:]]
        exec(rest[0], {'__name__': '__main__'})
    else:
        sys.argv = command
        runpy.run_path(first, run_name='__main__')
