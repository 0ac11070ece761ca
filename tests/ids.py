"""Types and ranges of ids in which a volume must mean what it means with ids 1, 2, 3.

Ids straddle the borders at which some types and floats end, down to the highest id, 2^64-2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MANY = 6
_BORDERS = (2**8, 2**16, 2**31, 2**32, 2**53, 2**63, 2**64 - 1)


class Stored(NamedTuple):
    """How a volume of objects 1 … MANY is stored.

    Attributes:
      dtype: integer type, with byte order.
      ids: what objects 0 … MANY are called; 0 is background.
    """

    dtype: str
    ids: tuple[int, ...]

    def of(self, objects: np.ndarray) -> np.ndarray:
        """The volume whose voxels hold objects 0 … MANY."""
        return np.array(self.ids, self.dtype)[objects]


def _stored(dtype: str) -> list[Stored]:
    top = min(int(np.iinfo(dtype).max), 2**64 - 2)
    firsts = {1, top - MANY + 1, *(border - MANY // 2 for border in _BORDERS)}
    return [
        Stored(dtype, (0, *range(first, first + MANY)))
        for first in sorted(firsts)
        if first + MANY - 1 <= top
    ]


CASES = [
    case
    for order in '<>'
    for kind in 'iu'
    for size in '1248'
    for case in _stored(order + kind + size)
]


def same_objects(found: np.ndarray, objects: np.ndarray) -> None:
    """Checks that two volumes label the same voxels, with ids that correspond one to one."""
    assert found.shape == objects.shape
    pairs = set(zip(found.ravel().tolist(), objects.ravel().tolist(), strict=True))
    assert all((a == 0) == (b == 0) for a, b in pairs)
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
