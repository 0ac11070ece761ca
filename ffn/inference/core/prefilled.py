"""Objects that join one of the segments that a canvas was prefilled with, and the gaps beside those segments.

A pass at a coarser resolution leaves both: an object whose end it did not fill, which a new object then continues, and
free space of a voxel or two along its surface, which holds nothing but would cost steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from ffn.utils.rounding import reach


def number(labels: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Gives the labels of a segmentation the ids 1 … n; see `ffn.utils.labels.compact`.

    Raises:
      ValueError: they do not have this shape.
    """
    if np.shape(labels) != tuple(shape):
        raise ValueError(f'labels have shape {np.shape(labels)}; expected {tuple(shape)}')
    # Here, since what grows objects needs no more than NumPy and SciPy.
    from ffn.utils.labels import compact

    return compact(labels)


def checksum(segments: np.ndarray, given: np.ndarray) -> int:
    """Identifies what a canvas was filled with; 0 where that is nothing.

    Args:
      segments: int32 [z, y, x], before anything grows.
      given: uint64 [n + 1], what segments 0 … n were called before.
    """
    if len(given) == 1:
        return 0
    return zlib.crc32(np.ascontiguousarray(segments).data, zlib.crc32(given.tobytes()))


def about_prefilled(
    to_given_id: Mapping[int, int], joined_seeds: Sequence[tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """What a result says of the segments that a canvas was filled with.

    Args:
      to_given_id: segment 0, 1, … n → what it was called before.
      joined_seeds: see `ffn.inference.core.canvas.Canvas`.

    Returns:
      uint64 [n + 1] `given_ids` and int64 [m, 5] `joined_seeds`, each only where there is any.
    """
    given, joined = (
        np.array(list(to_given_id.values()), np.uint64),
        np.array(joined_seeds, np.int64),
    )
    members = {'given_ids': given} if len(given) > 1 else {}
    return {**members, 'joined_seeds': joined} if len(joined) else members


def most_covered(
    segments: np.ndarray, logits: np.ndarray, mask: np.ndarray, prefilled: int, fraction: float
) -> int:
    """Finds the prefilled segment that an object belongs to.

    Args:
      segments: int32 [z, y, x], of which 1 … prefilled were there before growing started.
      logits: float32 [z, y, x] of the object, NaN where none of its fields of view was.
      mask: bool [z, y, x], where they make it the object, also within segments.
      prefilled: number of segments that it may join.
      fraction: of what was seen of a segment, the least that the object must cover; 0: it joins none.

    Returns:
      The segment of which it covers most, among those of which it covers enough; 0 where there is none.
    """
    if not fraction or not prefilled:
        return 0
    given = np.where((segments > 0) & (segments <= prefilled) & ~np.isnan(logits), segments, 0)
    visible = np.bincount(given.ravel(), minlength=2)
    covered = np.bincount(given[mask], minlength=len(visible))
    covered[0] = 0
    covered[covered / np.maximum(visible, 1) < fraction] = 0
    return int(covered.argmax())


def find_gaps(labels: np.ndarray, radius: int, voxel_size_zyx: tuple[float, ...]) -> np.ndarray:
    """Finds segments and the free space beside them that a ball does not fit into.

    Args:
      labels: integer [z, y, x], 0 or less is free.
      radius: of the ball, in units of the shortest edge of a voxel.
      voxel_size_zyx: physical size of a voxel, in any unit.

    Returns:
      bool [z, y, x]; the border of the array is no obstacle.
    """
    # Here, since what grows objects needs no more than NumPy and SciPy.
    import edt

    size = tuple(n / min(voxel_size_zyx) for n in voxel_size_zyx)
    free = np.ascontiguousarray(labels <= 0)
    centres: np.ndarray = edt.edt(free, anisotropy=size, black_border=False) > reach(radius)
    if not centres.any():
        return ~centres
    beyond: np.ndarray = edt.edt(~centres, anisotropy=size, black_border=False) > reach(radius)
    return beyond
