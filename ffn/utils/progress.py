"""Progress with an ETA: a bar on a terminal, and a line in the log now and then where there is none."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

from ffn.utils import event_log

T = TypeVar('T')
# The first line comes after this time, and the next ones after so much of the time that has passed.
FIRST_LINE_S, SHARE = 60.0, 0.1


def has_terminal() -> bool:
    """Whether bars are shown; logs are not, be they text or JSON."""
    return sys.stderr.isatty() and not event_log.is_on()


class _Lines(tqdm):
    """Tells in the log what a bar would show."""

    # No thread that looks after the bars.
    monitor_interval = 0

    def __init__(self, *args: Any, **kwargs: Any):
        self._begin = time.monotonic()
        self._next = self._begin + FIRST_LINE_S
        # Without that thread, fast tasks must not make it look at the clock more rarely: slow ones may follow.
        super().__init__(*args, file=io.StringIO(), ncols=0, **{'miniters': 1} | kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Logs a line where one is due."""
        now = time.monotonic()
        if msg is None and now >= self._next:
            # Here, since what grows objects needs no absl.
            from absl import logging

            self._next = now + max(FIRST_LINE_S, SHARE * (now - self._begin))
            logging.info('%s', self)


def progress(
    iterable: Iterable[T] | None = None,
    *,
    total: int | None = None,
    desc: str = '',
    unit: str = 'it',
    quiet: bool = False,
    initial: int = 0,
    **kwargs: Any,
) -> tqdm[T]:
    """Returns a tqdm bar on stderr, or, when that is no terminal or the log is JSON, one whose state is logged instead.

    Args:
      iterable: what to iterate over, or None to call `.update()` by hand.
      total: number of units; None to take the length of the iterable.
      desc: what is being done.
      unit: what is counted.
      quiet: disables either.
      initial: units that an earlier run has already done.
      **kwargs: further arguments of tqdm.
    """
    kwargs |= {'total': total, 'desc': desc, 'unit': unit, 'initial': initial, 'disable': quiet}
    return (
        tqdm(iterable, dynamic_ncols=True, **kwargs)
        if has_terminal()
        else _Lines(iterable, **kwargs)
    )
