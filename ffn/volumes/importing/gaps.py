"""Sections that are missing, by the numbers in the names of their files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from absl import logging

_NAMED = 5
# Names that span more than this many times their count do not number a stack.
_MOST = 10
# How times are written, in how many digits, and how often they must go up as only times do: where 0100 follows 0059 once,
# 40 sections may as well be lost.
_TIMES = [
    ('%M%S', 4, 2),  # also hours and minutes
    ('%H%M%S', 6, 2),
    ('%y%m%d', 6, 1),
    ('%Y%m%d', 8, 1),
    ('%Y%m%d%H', 10, 1),
    ('%Y%m%d%H%M', 12, 1),
    ('%Y%m%d%H%M%S', 14, 1),
]


def missing_numbers(paths: Sequence[Path], counts: Sequence[int]) -> list[str]:
    """Numbers that files of a stack leave out, written as in their names; [] also where no number counts the files.

    Names may hold other numbers, such as times. Of several numbers that count the files, the one that leaves out the fewest
    is believed.

    Args:
      paths: in the order of the stack.
      counts: sections of each file.
    """
    parts = [re.split(r'(\d+)', str(path)) for path in paths]
    if len({len(one) for one in parts}) != 1:
        return []
    left_out = [
        _left_out(texts, counts) for texts in zip(*parts, strict=True) if texts[0].isdecimal()
    ]
    return min((found for found in left_out if found is not None), key=len, default=[])


def _left_out(texts: Sequence[str], counts: Sequence[int]) -> list[str] | None:
    """Numbers that those of one place in the names leave out; None where they do not count the files.

    Those that do are the first or last section of each file; or go up by the same step from most files to the next, and by a
    multiple of that elsewhere. Not far more are missing than there are. Times, which carry at 60, do not.
    """
    numbers = list(map(int, texts))
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    if steps in (list(counts[:-1]), list(counts[1:])):
        return []
    step = min(steps, default=0)
    if step != 1 and len(set(counts[:-1])) > 1:
        return None
    if step < 1 or any(n % step for n in steps) or 2 * steps.count(step) < len(steps):
        return None
    if sum(steps) > _MOST * step * len(numbers) or _are_times(numbers, steps):
        return None
    width = len(texts[0]) if len(set(map(len, texts))) == 1 else 0
    return [
        f'{number:0{width}d}'
        for before, after in itertools.pairwise(numbers)
        for number in range(before + step, after, step)
    ]


def _are_times(numbers: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether numbers go up more evenly if they are read as times, as 0950, 1000, 1010 do by 10 minutes."""
    for form, digits, carries in _TIMES:
        try:
            times = [datetime.strptime(f'{number:0{digits}d}', form) for number in numbers]
        except ValueError:
            continue
        apart = [after - before for before, after in itertools.pairwise(times)]
        if apart.count(min(apart)) >= steps.count(min(steps)) + carries:
            return True
    return False


def warn_of_gaps(paths: Sequence[Path], counts: Sequence[int]) -> None:
    """Warns of numbers that are left out: what follows is moved towards what was before.

    Args:
      paths: in the order of the stack.
      counts: sections of each file.
    """
    missing = missing_numbers(paths, counts)
    if not missing:
        return
    named = ', '.join(missing[:_NAMED])
    if len(missing) > _NAMED:
        named += f', … ({len(missing)} in all)'
    moved = ''
    if len(set(counts)) == 1:
        number = len(missing) * counts[0]
        moved = f' by {number} section{"s" if number > 1 else ""} in the end'
    logging.warning(
        '%s … %s: the numbers of the files leave out %s; what follows moves up%s. If sections were lost, put a '
        'file in the place of each, such as a copy of its neighbour',
        paths[0],
        paths[-1].name,
        named,
        moved,
    )
