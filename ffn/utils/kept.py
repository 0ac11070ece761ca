"""What was read last stays in memory, up to so many bytes: of things that differ much in size, a number says little."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar('Key', bound=Hashable)
Value = TypeVar('Value')
# Little enough for each of many processes.
MOST_BYTES = 2**28


class Kept(Generic[Key, Value]):
    """Values by their keys, of which those that were used last are kept; threads that want the same one wait for the first."""

    def __init__(
        self,
        read: Callable[[Key], Value],
        size: Callable[[Value], int],
        most_bytes: int = MOST_BYTES,
        least: int = 1,
    ):
        """Nothing yet.

        Args:
          read: returns the value of a key.
          size: returns bytes of a value.
          most_bytes: of all values that are kept.
          least: so many are kept, whatever their size.
        """
        self._read, self._size = read, size
        self._most_bytes, self._least = most_bytes, least
        self._reading: collections.defaultdict[Key, threading.Lock]
        self._reading = collections.defaultdict(threading.Lock)
        self._changing = threading.Lock()
        self._kept: collections.OrderedDict[Key, Value] = collections.OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> Value:
        """Returns a value, which is read unless it is kept."""
        with self._changing:
            reading = self._reading[key]
        with reading:
            with self._changing:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            value = self._read(key)
            with self._changing:
                self._kept[key] = value
                self._bytes += self._size(value)
                while len(self._kept) > self._least and self._bytes > self._most_bytes:
                    self._bytes -= self._size(self._kept.popitem(last=False)[1])
        return value
