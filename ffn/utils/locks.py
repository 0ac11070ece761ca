"""Locks between processes: one command at a time in a folder, one writer at a time of a file.

The `filelock` package (4.3) is not used because it promises less: it opens lock files for writing only,
and so fails at one that another user made, and it raises an error on file systems without locks, such as NFS
without a lock daemon, where the functions here warn and carry on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from absl import logging

from ffn.utils.errors import UserError


@contextlib.contextmanager
def exclusive_directory(folder: str | Path) -> Iterator[None]:
    """Keeps a second command out of a folder for as long as the context lasts.

    The lock ends with the process, however that ends. File systems without locks get a warning instead.

    Args:
      folder: created if it is missing.

    Raises:
      UserError: another command is working there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with _open(Path(folder, '.lock')) as file:
        try:
            _lock(file, f'{folder}; start one command in it only')
        except BlockingIOError as error:
            raise UserError(
                f'another command works in {folder}; wait until it has ended, or stop it'
            ) from error
        yield


@contextlib.contextmanager
def one_writer(path: str | Path) -> Iterator[bool]:
    """Waits until no other process writes a file, and keeps others waiting.

    Args:
      path: the file; it need not exist. The lock is `.NAME.lock` beside it, which is removed in the end.

    Yields:
      Whether the file could be locked; file systems without locks get a warning.
    """
    path, warned = Path(os.path.realpath(path)), False
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f'.{path.name}.lock')
    while True:
        with _open(lock) as file:
            try:
                locked = _lock(file, f'{path}; let one command write to it only')
                # The previous holder may have removed the lock file in the meantime.
                if not locked or _is_same_file(file, lock):
                    try:
                        yield locked
                    finally:
                        lock.unlink(missing_ok=True)
                    return
            except BlockingIOError:
                if not warned:
                    logging.warning('waiting for another command that writes to %s', path)
                warned = True
        time.sleep(0.2)


def _open(path: Path) -> IO[str]:
    if not path.exists():
        path.touch()
    try:
        return path.open('r+')  # NFS locks for writing only what may be written
    except PermissionError:  # another user's
        return path.open()


def _lock(file: IO[str], what: str) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        logging.warning('no lock (%s) for %s', error, what)
        return False
    return True


def _is_same_file(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
