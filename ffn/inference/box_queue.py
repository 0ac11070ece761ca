"""The boxes of a command, some of which other processes may be at."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from absl import logging

from ffn.utils.geometry import Box
from ffn.utils.locks import LONGEST_PAUSE_S, InUseError, longer_pause

# Between two looks, however many boxes others are at.
_MANY_PAUSE_S = 1.0


class BoxQueue:
    """Gives boxes to threads, each of which takes one after the other.

    A box that another process is at is put off until no others are left. Then one of these is looked at at a time: at
    once, and ever more rarely while all are in use, since a look asks a good deal of storage that many share. In the end,
    each is looked at every 10 seconds, but no more than one a second.
    """

    def __init__(self, boxes: Sequence[Box], stop: threading.Event):
        """Makes a queue.

        Args:
          boxes: what there is to do.
          stop: once it is set, nothing waits.
        """
        self._left, self._in_use = deque(boxes), deque[Box]()
        self._put_off: set[Box] = set()
        self._stop, self._turn = stop, threading.Lock()
        self._pause_s, self._told = 0.0, False

    def take(self) -> Box | None:
        """Returns the next box, perhaps after a pause; None where other threads have all that are left."""
        with self._turn:
            if self._left:
                return self._left.popleft()
            if not self._in_use:
                return None
            if self._pause_s:
                self._stop.wait(self._pause_s)
            return self._in_use.popleft()

    def put_off(self, box: Box, error: InUseError) -> None:
        """Takes a box back that another process is at."""
        if box in self._put_off:
            if not self._told:
                logging.warning(
                    'waiting for another command that writes to %s (%s)', error.path, error.holder
                )
            self._told = True
            most = max(LONGEST_PAUSE_S / (1 + len(self._in_use)), _MANY_PAUSE_S)
            self._pause_s = longer_pause(self._pause_s, most)
        self._put_off.add(box)
        self._in_use.append(box)

    def ended(self) -> None:
        """Says that a box was not in use, as others may be now."""
        self._pause_s = 0.0
