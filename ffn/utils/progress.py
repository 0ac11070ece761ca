"""Progress bars with an ETA, silent when stderr is not a terminal or the log is JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

from ffn.utils import event_log

T = TypeVar('T')


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
    """Returns a tqdm bar on stderr, disabled when stderr is not a terminal, `quiet` is set, or the log is JSON.

    Args:
      iterable: what to iterate over, or None to call `.update()` by hand.
      total: number of units; None to take the length of the iterable.
      desc: what is being done.
      unit: what is counted.
      quiet: disables the bar.
      initial: units that an earlier run has already done.
      **kwargs: further arguments of tqdm.
    """
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        disable=quiet or event_log.is_on() or not sys.stderr.isatty(),
        dynamic_ncols=True,
        **kwargs,
    )
