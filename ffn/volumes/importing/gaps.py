"""Sections that are missing, by the numbers in the names of their files."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from absl import logging

_NAMED = 5
# Names that span more than this many times their count do not number a stack.
_MOST = 10


def missing_numbers(paths: Sequence[Path]) -> list[str]:
    """Numbers that files of a stack leave out, written as in their names; [] also where numbers are not what orders them.

    Names have to differ in one number only, which goes up by the same step from most files to the next, and by a multiple of
    that elsewhere; and not far more are missing than there are.

    Args:
      paths: in the order of the stack.
    """
    parts = [re.split(r'(\d+)', str(path)) for path in paths]
    if len({len(one) for one in parts}) != 1:
        return []
    varying = [column for column in zip(*parts, strict=True) if len(set(column)) > 1]
    if len(varying) != 1 or not varying[0][0].isdecimal():
        return []
    (texts,) = varying
    numbers = list(map(int, texts))
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    step = min(steps)
    if step < 1 or any(n % step for n in steps) or 2 * steps.count(step) < len(steps):
        return []
    if sum(steps) > _MOST * step * len(numbers):
        return []
    width = len(texts[0]) if len(set(map(len, texts))) == 1 else 0
    return [
        f'{number:0{width}d}'
        for before, after in itertools.pairwise(numbers)
        for number in range(before + step, after, step)
    ]


def warn_of_gaps(paths: Sequence[Path], counts: Sequence[int]) -> None:
    """Warns of numbers that are left out: what follows is moved towards what was before.

    Args:
      paths: in the order of the stack.
      counts: sections of each file.
    """
    missing = missing_numbers(paths)
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
