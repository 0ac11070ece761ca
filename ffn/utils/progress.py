"""Progress bars with an ETA, silent where nobody looks."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress(iterable=None, *, total=None, desc='', unit='it', quiet=False, initial=0, **kwargs):
    """Returns a tqdm bar on stderr, disabled when stderr is no terminal or `quiet` is set.

    Args:
      iterable: what to iterate over, or None to call `.update()` by hand.
      total: number of units, where it cannot be read off the iterable.
      desc: what is being done.
      unit: what is counted.
      quiet: disables the bar.
      initial: units that an earlier run has done already.
      **kwargs: further arguments of tqdm.
    """
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        disable=quiet or not sys.stderr.isatty(),
        dynamic_ncols=True,
        **kwargs,
    )
