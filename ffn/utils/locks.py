"""Locks between processes: one command at a time in a folder, one writer at a time of a file.

A lock is a file that is locked (`flock`) and says who holds it. The kernel ends the lock of a process that is
killed. Other hosts may not see it, as some shared file systems lock within a host only or not at all; to these,
the holder shows that it lives by touching the file, and is taken for dead two minutes after it last did so.

The `filelock` package (4.3) is not used because it promises less: it opens lock files for writing only,
and so fails at one that another user made, it raises an error on file systems without locks, such as NFS
without a lock daemon, and it knows no other hosts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from absl import logging

from ffn.utils.atomic import make_folder
from ffn.utils.errors import UserError
from ffn.utils.processes import Process, beating

EXPIRY_S = 120.0
# Between two looks at what others have: the longer it takes, the longer.
_SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
# Where file locks do not decide: how long after taking a lock another taker would have shown itself.
_SETTLED_S = 1.0


class Holder(NamedTuple):
    """What a lock file says.

    Attributes:
      process: who holds the lock.
      hostname: for messages.
      since: the same, local time.
      token: differs between any two that take a lock.
    """

    process: Process
    hostname: str
    since: str
    token: str

    @classmethod
    def this(cls) -> Holder:
        """A holder in the calling process."""
        since = time.strftime('%Y-%m-%d %H:%M:%S')
        return cls(Process.this(), socket.gethostname(), since, uuid.uuid4().hex)

    @classmethod
    def read(cls, file: IO[str]) -> Holder | None:
        """Reads a lock file; None if nobody holds it, or an earlier version does."""
        file.seek(0)
        try:
            found = json.loads(file.read())
            process = Process(found['host'], int(found['pid']))
            return cls(process, found['hostname'], found['since'], found['token'])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None

    def write(self, file: IO[str]) -> None:
        """Writes a lock file."""
        rest = {'hostname': self.hostname, 'since': self.since, 'token': self.token}
        file.seek(0)
        file.truncate()
        file.write(json.dumps({**self.process._asdict(), **rest}) + '\n')
        file.flush()

    def __str__(self) -> str:
        known = '' if self.process.is_local else f'; if it is dead, try again in {EXPIRY_S:g} s'
        return f'process {self.process.pid} on {self.hostname}, since {self.since}{known}'


class InUseError(UserError):
    """Another process has a file.

    Attributes:
      path: the file.
      holder: who has it, in words; '' where that is not known.
    """

    def __init__(self, path: Path, holder: str):
        who = f' ({holder})' if holder else ''
        super().__init__(f'another command writes to {path}{who}; wait until it has ended')
        self.path, self.holder = path, holder


class Lock:
    """A lock that this process holds, or tries to take.

    Attributes:
      decided: once it is taken, whether the file system has locks, so that there is no doubt.
    """

    decided = False

    def __init__(self, path: Path, file: IO[str], what: str):
        """Makes a lock that is not held.

        Args:
          path: the lock file.
          file: the same, open.
          what: what it is for, to end a warning with.
        """
        self._path, self._file, self._what = path, file, what
        self._holder: Holder | None = None

    def take(self) -> str | None:
        """Tries to take the lock.

        Returns:
          None if it is taken, or who holds it, '' where that is not known.
        """
        missing = _flock(self._file)
        there = Holder.read(self._file)
        if isinstance(missing, BlockingIOError):
            return str(there or '')
        if not _is_same_file(self._file, self._path):
            return ''  # the previous holder has removed it in the meantime
        if there is not None and there.process.is_local and missing is None:
            there = None  # the kernel has ended its lock
        if there is not None and not there.process.is_dead(self._path, EXPIRY_S):
            return str(there)
        self.decided = missing is None
        if missing is not None:
            logging.warning('no lock (%s) for %s', missing, self._what)
        if self._file.writable():  # not another user's
            self._holder = Holder.this()
            self._holder.write(self._file)
        if there is not None or missing is not None:
            time.sleep(_SETTLED_S)
        now = self._taken_by()
        return None if now is None else str(now)

    def check(self) -> None:
        """Checks that no other process has taken the lock, as it may from one that was suspended.

        Raises:
          UserError: one has.
        """
        if (other := self._taken_by()) is not None:
            raise UserError(
                f'{self._path} was taken over by {other}, as this process did not show that it lives '
                f'for {EXPIRY_S:g} s; this one ends'
            )

    @contextlib.contextmanager
    def held(self, remove: bool) -> Iterator[None]:
        """Keeps others informed that the holder lives; gives the lock back in the end.

        Args:
          remove: remove the lock file.
        """
        with beating(self._beat):
            try:
                yield
            finally:
                if self._taken_by() is None:
                    if remove:
                        self._path.unlink(missing_ok=True)
                    elif self._holder is not None:
                        self._file.truncate(0)

    def _beat(self) -> None:
        if (other := self._taken_by()) is not None:
            logging.error('another command has begun although this one lives: %s', other)
        elif self._holder is not None:
            os.utime(self._path)

    def _taken_by(self) -> Holder | None:
        """Who has written to the lock file after this process; None if nobody has."""
        try:
            with self._path.open() as file:
                there = Holder.read(file)
        except OSError:
            return None
        return there if self._holder is not None and there not in (None, self._holder) else None


@contextlib.contextmanager
def exclusive_directory(folder: str | Path) -> Iterator[Lock]:
    """Keeps a second command out of a folder for as long as the context lasts.

    The lock ends with the process, however that ends; see the module about other hosts. File systems without
    locks get a warning as well.

    Args:
      folder: created if it is missing.

    Yields:
      The lock.

    Raises:
      UserError: another command is working there, or it is no folder.
    """
    make_folder(folder)
    path = Path(folder, '.lock')
    with _open(path) as file:
        lock = Lock(path, file, f'{folder}; start one command in it only')
        if (holder := lock.take()) is not None:
            who = f' ({holder})' if holder else ''
            raise UserError(
                f'another command works in {folder}{who}; wait until it has ended, or stop it'
            )
        with lock.held(remove=False):
            yield lock


@contextlib.contextmanager
def exclusive_file(path: str | Path) -> Iterator[Lock]:
    """Keeps other processes from writing a file for as long as the context lasts; see `exclusive_directory`.

    Args:
      path: the file; it need not exist. The lock is `.NAME.lock` beside it, which is removed in the end.

    Yields:
      The lock.

    Raises:
      InUseError: another process has it.
    """
    path = Path(os.path.realpath(path))
    make_folder(path.parent)
    place = _beside(path)
    with _open(place) as file:
        lock = Lock(place, file, f'{path}; let one command write to it only')
        if (holder := lock.take()) is not None:
            raise InUseError(path, holder)
        with lock.held(remove=True):
            yield lock


@contextlib.contextmanager
def one_writer(path: str | Path, pause: Callable[[float], object] = time.sleep) -> Iterator[bool]:
    """Waits until no other process writes a file, and keeps others waiting.

    Args:
      path: the file; it need not exist. The lock is `.NAME.lock` beside it, which is removed in the end.
      pause: called between attempts with seconds, from 0.2 to 10, ever more as long as the same process has the file;
        may raise an exception to give up.

    Yields:
      Whether the file could be locked; file systems without locks get a warning.
    """
    path, seconds, before = Path(os.path.realpath(path)), 0.0, ''
    make_folder(path.parent)
    place = _beside(path)
    while True:
        with _open(place) as file:
            lock = Lock(place, file, f'{path}; let one command write to it only')
            if (holder := lock.take()) is None:
                with lock.held(remove=True):
                    yield lock.decided
                return
        if not seconds:
            logging.warning('waiting for another command that writes to %s (%s)', path, holder)
        # Where one takes it after the other, it is free soon.
        seconds = longer_pause(seconds if holder == before else 0)
        before = holder
        pause(seconds)


def longer_pause(before_s: float, most_s: float = LONGEST_PAUSE_S) -> float:
    """Seconds until what others have is looked at again, given how long the last pause was, 0 for none."""
    return min(max(2 * before_s, _SHORTEST_PAUSE_S), most_s)


def is_claimed(path: Path) -> bool:
    """Whether there is a lock beside a file, see `one_writer`, that of a dead process perhaps."""
    return _beside(path).exists()


def _beside(path: Path) -> Path:
    return path.with_name(f'.{path.name}.lock')


def _open(path: Path) -> IO[str]:
    try:
        # NFS locks for writing only what may be written.
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), 'r+')
    except PermissionError:  # another user's
        return path.open()


def _flock(file: IO[str]) -> OSError | None:
    """Locks a file; returns why that was not possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error
    return None


def _is_same_file(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
