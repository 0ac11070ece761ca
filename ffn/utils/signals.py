"""Stopping on request: SIGTERM from a cluster, Ctrl-C from a person, SIGHUP from a closed terminal."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from ffn.utils import event_log

# The main thread may wait so long at a time, in seconds: it handles signals, and does not wake up for those that the
# system gives to another thread.
WAKE_UP_S = 0.5


@contextlib.contextmanager
def stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """Sets `stop` on SIGTERM, SIGINT and SIGHUP; a second signal has its usual effect.

    The main thread must not wait for ever meanwhile, see `WAKE_UP_S`. In other threads, such as those of a service, signals
    are left to whoever they belong to.

    Args:
      stop: event that the work checks wherever it can stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    for number in (*_termination_signals(), signal.SIGINT):
        before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for_stop(stop: threading.Event) -> None:
    """Waits in the main thread until `stop` is set, as `stop_on_signal` does."""
    while not stop.wait(WAKE_UP_S):
        pass


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise SystemExit, so that context managers exit; in the main thread only."""

    def leave(number: int, _frame: object) -> None:
        event_log.say('stopped; run again to resume')
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in _termination_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def keep_ctrl_c() -> Iterator[None]:
    """Keeps what Ctrl-C does, whatever is imported within the block; in the main thread only."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _termination_signals() -> list[int]:
    """SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGHUP]
