"""Counters and timers of a run; their names are part of the result files."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Iterator, Mapping


class Calls:
    """How often something was called, and for how long; added to by one thread at a time."""

    __slots__ = ('nanoseconds', 'number')

    def __init__(self) -> None:
        self.number = self.nanoseconds = 0

    def add(self, nanoseconds: int) -> None:
        """Counts a call and adds its duration."""
        self.number += 1
        self.nanoseconds += nanoseconds


class Counters:
    """Named integers that several threads may add to.

    `calls('x')` and `timed('x')` add to x-calls and x-time-ms. Times are kept in nanoseconds internally, so
    that many short calls add up correctly.
    """

    def __init__(self, values: Mapping[str, int] | None = None):
        self._lock = threading.Lock()
        self._values: dict[str, int] = collections.defaultdict(int, values or {})
        self._nanoseconds: dict[str, int] = collections.defaultdict(int)
        self._calls: dict[str, Calls] = collections.defaultdict(Calls)
        # What is being timed now, and since when.
        self._running: set[tuple[str, int]] = set()

    def add(self, name: str, value: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._values[name] += value

    def add_time(self, name: str, seconds: float) -> None:
        """Adds a duration to the counter `name`, which is shown in milliseconds."""
        with self._lock:
            self._nanoseconds[name] += round(seconds * 1e9)

    def calls(self, name: str) -> Calls:
        """Where calls are counted that are so many that finding a counter by its name takes too long."""
        with self._lock:
            return self._calls[name]

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Counts a call and its duration; the time so far is counted while it lasts."""
        running = name, time.perf_counter_ns()
        with self._lock:
            self._values[f'{name}-calls'] += 1
            self._running.add(running)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(running)
                self._nanoseconds[f'{name}-time-ms'] += time.perf_counter_ns() - running[1]

    def merge(self, other: Mapping[str, int]) -> None:
        """Adds the values of another set of counters."""
        with self._lock:
            for name, value in other.items():
                self._values[name] += value

    def as_dict(self) -> dict[str, int]:
        """All counters, times rounded to milliseconds."""
        with self._lock:
            now = time.perf_counter_ns()
            values, nanoseconds = self._values.copy(), self._nanoseconds.copy()
            for name, calls in self._calls.items():
                if calls.number:
                    values[f'{name}-calls'] += calls.number
                    nanoseconds[f'{name}-time-ms'] += calls.nanoseconds
            for name, begin in self._running:
                nanoseconds[f'{name}-time-ms'] += now - begin
        for name, duration in nanoseconds.items():
            values[name] += round(duration / 1e6)
        return dict(values)

    def __getitem__(self, name: str) -> int:
        return self.as_dict().get(name, 0)
