"""Whether the process that writes a file still lives, on this host or on another that shares the storage.

A process of this host is looked up by its number. One of another host shows that it lives by touching its
file every 15 seconds; how long ago that was is told by the clock that dates files, which on shared storage is
the file server's, so that the clocks of hosts need not agree.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

BEAT_S = 15.0
# By path, until when by the monotonic clock the process that touches a file cannot be taken for dead, so that those that
# wait for it need not ask each time.
_lives_until: dict[Path, float] = {}
_MOST_KNOWN = 4096


class Process(NamedTuple):
    """A process.

    Attributes:
      host: 8 digits for a running kernel and a set of process numbers (containers have their own).
      pid: its number there.
    """

    host: str
    pid: int

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        return cls(_host(), os.getpid())

    @property
    def is_local(self) -> bool:
        """Whether it belongs to the host of the calling process."""
        return self.host == _host()

    def is_dead(self, path: Path, expiry_s: float) -> bool:
        """Whether it has ended; not before its number is free, if another process of this host has that now.

        Args:
          path: the file that it touches, see `beating`; if there is none any more, the answer is no.
          expiry_s: a process of another host that has not touched the file for so long is taken for dead.
        """
        if not self.is_local:
            return _is_older(path, expiry_s)
        try:
            os.kill(self.pid, 0)
        except OSError as error:
            return isinstance(error, ProcessLookupError)
        return False


def age_s(path: Path) -> float:
    """Seconds since a file was written or touched, by the clock of its file system.

    Raises:
      OSError: there is no such file, or its folder may not be written to.
    """
    with open(path, 'rb') as file:  # NFS then asks the server rather than its cache
        touched = os.fstat(file.fileno()).st_mtime
    with tempfile.TemporaryFile(dir=path.parent) as now:
        return os.fstat(now.fileno()).st_mtime - touched


def _is_older(path: Path, expiry_s: float) -> bool:
    """Whether a file was touched so long ago; not where there is none."""
    now, path = time.monotonic(), path.absolute()
    if now < _lives_until.get(path, now):
        return False
    try:
        left_s = expiry_s - max(age_s(path), 0)
    except FileNotFoundError:
        return False
    if len(_lives_until) >= _MOST_KNOWN:
        _lives_until.clear()
    _lives_until[path] = now + left_s
    return left_s < 0


class _Heart:
    """Calls functions every so many seconds, in one thread, which lives as long as the process once it has begun.

    A thread for each function would take longer to start than many a small file takes to write.
    """

    def __init__(self, every_s: float):
        self._every_s, self._start = every_s, threading.Lock()
        self._beats: dict[object, Callable[[], object]] = {}
        self._thread: threading.Thread | None = None

    def add(self, token: object, beat: Callable[[], object]) -> None:
        self._beats[token] = beat
        with self._start:
            if (
                self._thread is None or not self._thread.is_alive()
            ):  # as in a process that was forked off
                self._thread = threading.Thread(target=self._run, name='heartbeat', daemon=True)
                self._thread.start()

    def remove(self, token: object) -> None:
        del self._beats[token]

    def _run(self) -> None:
        while True:
            time.sleep(self._every_s)
            for beat in list(self._beats.values()):
                with contextlib.suppress(OSError):
                    beat()


_heart = _Heart(BEAT_S)


@contextlib.contextmanager
def beating(beat: Callable[[], object]) -> Iterator[None]:
    """Calls a function every 15 seconds, in another thread, for as long as the context lasts.

    Args:
      beat: touches a file; an OSError is ignored, as there may be no network for a while.
    """
    token, heart = object(), _heart
    heart.add(token, beat)
    try:
        yield
    finally:
        heart.remove(token)


@functools.cache
def _host() -> str:
    known = [socket.gethostname()]
    with contextlib.suppress(OSError):  # systems without /proc
        known.append(Path('/proc/sys/kernel/random/boot_id').read_text())
        known.append(os.readlink('/proc/self/ns/pid'))
    return hashlib.sha256('\n'.join(known).encode()).hexdigest()[:8]
