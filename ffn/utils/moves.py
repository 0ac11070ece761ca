"""Where the field of view goes next: maxima on the faces of the box around its centre.

Inference and training move alike (Januszewski et al. 2018, Methods: field of view movement).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Offset = tuple[int, int, int]


def face_maxima(
    logits: np.ndarray, deltas_zyx: Sequence[int], threshold: float
) -> list[tuple[float, Offset]]:
    """Finds the best next position on each of the six faces at ±delta around the centre.

    On every face the voxel with the greatest logit counts, the first in C order among equals.

    Args:
      logits: float array [z, y, x], network output around the current position.
      deltas_zyx: half the size of the box; faces of an axis with delta 0 are left out.
      threshold: least logit of a candidate.

    Returns:
      (logit, offset from the centre z, y, x) of distinct offsets, greatest first.
    """
    center = [n // 2 for n in logits.shape]
    box = logits[tuple(slice(c - d, c + d + 1) for c, d in zip(center, deltas_zyx, strict=True))]
    found: dict[Offset, float] = {}
    for axis, delta in enumerate(deltas_zyx):
        if delta == 0:
            continue
        others = [other for other in range(3) if other != axis]
        for sign in (-1, 1):
            face = box[(slice(None),) * axis + (0 if sign < 0 else -1,)]
            row, column = divmod(int(face.argmax()), face.shape[1])
            score = float(face[row, column])
            if not score >= threshold:
                continue
            offset = [0, 0, 0]
            offset[axis] = sign * delta
            offset[others[0]] = row - deltas_zyx[others[0]]
            offset[others[1]] = column - deltas_zyx[others[1]]
            found[tuple(offset)] = score
    return sorted(((score, offset) for offset, score in found.items()), reverse=True)


def quantize(offset_zyx: Sequence[int], deltas_zyx: Sequence[int]) -> Offset:
    """Maps an offset from the start to its cell: one step of the field of view is made per cell."""
    z, y, x = (
        (offset + delta // 2) // max(delta, 1)
        for offset, delta in zip(offset_zyx, deltas_zyx, strict=True)
    )
    return z, y, x
