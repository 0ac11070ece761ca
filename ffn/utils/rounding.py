"""Numbers of 32 bits beside limits that somebody typed: what equals the limit must count as equal."""

from __future__ import annotations

import numpy as np

# Distance transforms add up the edges of voxels in 32 bits: over 700 voxels, they are off by less than this fraction.
_OF_DISTANCES = 1e-5


def typed(value: float) -> float:
    """Returns the number that was typed into a 32-bit field: 0.6, where the field holds 0.60000002.

    Args:
      value: of the field; of all numbers that it would hold as this value, the shortest is returned. Integers stay, as
        the shortest among large ones is another integer.
    """
    return value if value.is_integer() else float(str(np.float32(value)))


def reach(limit: float) -> float:
    """Returns the greatest 32-bit distance that counts as no more than a limit.

    Args:
      limit: in the unit of the distances, which come from a distance transform.
    """
    return limit * (1 + _OF_DISTANCES)
