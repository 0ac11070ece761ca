"""Being asked to stop: SIGTERM of a cluster, Ctrl-C of a person, SIGHUP of a terminal that is gone."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """Sets `stop` on SIGTERM, SIGINT and SIGHUP; a second signal acts as it usually does.

    Args:
      stop: checked by the work at places where it can be stopped.
    """
    before = {}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in (*_asked_to_end(), signal.SIGINT):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Has SIGTERM and SIGHUP raise SystemExit, so that contexts end; in the main thread only."""

    def leave(number: int, _frame: object) -> None:
        print('stopped; run again to go on', file=sys.stderr)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in _asked_to_end()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _asked_to_end() -> list[int]:
    """SIGTERM, and SIGHUP unless it is ignored, as nohup has it."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGHUP]
