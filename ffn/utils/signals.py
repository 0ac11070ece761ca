"""Stopping on request: SIGTERM from a cluster, Ctrl-C from a person, SIGHUP from a closed terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ffn.utils import event_log


@contextlib.contextmanager
def stop_on_signal(stop: threading.Event) -> Iterator[None]:
    """Sets `stop` on SIGTERM, SIGINT and SIGHUP; a second signal has its usual effect.

    Also while the main thread waits: it would not wake up for a signal that another thread receives.

    Args:
      stop: event that the work checks wherever it can stop.
    """
    before: dict[int, Any] = {}

    def handle(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[number])

    with contextlib.ExitStack() as stack:
        for number in (*_termination_signals(), signal.SIGINT):
            before[number] = signal.signal(number, handle)
            stack.callback(signal.signal, number, before[number])
        stack.enter_context(_each_signal(lambda number: stop.set() if number in before else None))
        yield


@contextlib.contextmanager
def _each_signal(tell: Callable[[int], object]) -> Iterator[None]:
    """Calls a function with the number of each signal that has a handler in Python, from a thread, at once."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def read() -> None:
        while number := os.read(reading, 1):
            tell(number[0])

    thread = threading.Thread(target=read, name='signals', daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)


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


def _termination_signals() -> list[int]:
    """SIGTERM, and SIGHUP unless it is ignored, as under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGHUP]
