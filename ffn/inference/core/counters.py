"""Counters and timers of a run; their names are part of the result files."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping


class Counters:
    """Named integers that several threads may add to.

    `timed('x')` adds to x-calls and x-time-ms. Times are kept in nanoseconds internally, so that many
    short calls add up correctly.
    """

    def __init__(self, values: Mapping[str, int] | None = None):
        self._lock = threading.Lock()
        self._values: dict[str, int] = collections.defaultdict(int, values or {})
        self._nanoseconds: dict[str, int] = collections.defaultdict(int)

    def add(self, name: str, value: int = 1) -> None:
        """Adds to a counter."""
        with self._lock:
            self._values[name] += value

    def add_time(self, name: str, seconds: float) -> None:
        """Adds a duration to the counter `name`, which is shown in milliseconds."""
        with self._lock:
            self._nanoseconds[name] += round(seconds * 1e9)

    def lap_timer(self, name: str) -> Callable[[], None]:
        """Returns a function that adds the time since it was last called, or made, to name-time-ms.

        Unlike with `timed`, the time so far is visible while the timed work continues.
        """
        last = time.perf_counter_ns()

        def lap() -> None:
            nonlocal last
            now = time.perf_counter_ns()
            with self._lock:
                self._nanoseconds[f'{name}-time-ms'] += now - last
            last = now

        return lap

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Counts a call and its duration."""
        begin = time.perf_counter_ns()
        try:
            yield
        finally:
            self.count_call(name, time.perf_counter_ns() - begin)

    def count_call(self, name: str, nanoseconds: int) -> None:
        """Counts a call and adds its duration."""
        with self._lock:
            self._values[f'{name}-calls'] += 1
            self._nanoseconds[f'{name}-time-ms'] += nanoseconds

    def merge(self, other: Mapping[str, int]) -> None:
        """Adds the values of another set of counters."""
        with self._lock:
            for name, value in other.items():
                self._values[name] += value

    def as_dict(self) -> dict[str, int]:
        """All counters, times rounded to milliseconds."""
        with self._lock:
            values = dict(self._values)
            for name, nanoseconds in self._nanoseconds.items():
                values[name] = values.get(name, 0) + round(nanoseconds / 1e6)
        return values

    def __getitem__(self, name: str) -> int:
        return self.as_dict().get(name, 0)
