"""Writing what changes all the time: in a thread, and seldom enough to leave the machine to the network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# After writing, nothing is written for so many times as long as that took.
_REST = 9


class BackgroundWriter:
    """Writes in a thread of its own what has changed; `close` writes what is left."""

    def __init__(self, write: Callable[[], None], fail: Callable[[Exception], None]):
        """Starts the thread.

        Args:
          write: writes all there is.
          fail: told what `write` raises in the thread; it is tried again after the next change.
        """
        self._write, self._fail = write, fail
        self._changed, self._closing = threading.Event(), threading.Event()
        self._is_written = True
        self._thread = threading.Thread(target=self._run, name='writer', daemon=True)
        self._thread.start()

    def change(self) -> None:
        """Says that something has changed."""
        self._is_written = False
        self._changed.set()

    def _run(self) -> None:
        while self._changed.wait() and not self._closing.is_set():
            self._changed.clear()
            begin = time.monotonic()
            try:
                self._write_all()
            except Exception as error:  # noqa: BLE001 - whatever it is, it must be told
                self._fail(error)
            self._closing.wait(_REST * (time.monotonic() - begin))

    def _write_all(self) -> None:
        self._is_written = True  # what changes from here on is not
        try:
            self._write()
        except BaseException:
            self._is_written = False
            raise

    def close(self) -> None:
        """Ends the thread and writes what has changed since it last did.

        Raises:
          Exception: whatever `write` raises.
        """
        self._closing.set()
        self._changed.set()
        self._thread.join()
        if not self._is_written:
            self._write_all()
