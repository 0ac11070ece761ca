"""Files with one bit flipped, for tests of what is read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ffn.utils.errors import UserError


def refusals(
    path: Path,
    read: Callable[[], object],
    count: int = 60,
    begin: int = 0,
    end: int | None = None,
    advice: str = '',
) -> int:
    """Flips one bit at a time; what is read is what was there, or the file is refused.

    Args:
      path: the file; it is as before in the end.
      read: reads it; returns what `repr` tells apart.
      count: at how many places.
      begin: first byte that may be flipped.
      end: behind the last one.
      advice: what each refusal says is to be done.

    Returns:
      How often it was refused.
    """
    whole, expected = path.read_bytes(), repr(read())
    rng, told = np.random.default_rng(len(whole)), []
    for at in rng.integers(begin, len(whole) if end is None else end, count):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            assert repr(read()) == expected, f'byte {at} of {path.name}'
        except UserError as error:
            told.append(str(error))
    path.write_bytes(whole)
    assert [one for one in told if advice not in one] == []
    return len(told)
