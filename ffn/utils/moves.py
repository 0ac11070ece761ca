"""Which moves a step proposes: the maxima on the faces of the box around the centre of the field of view.

Inference and training move alike (Januszewski et al. 2018, Methods: field of view movement).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np

Offset = tuple[int, int, int]


def face_maxima(
    logits: np.ndarray, deltas_zyx: Sequence[int], threshold: float
) -> list[tuple[float, Offset]]:
    """Finds the best next position on each of the six faces at ±delta around the centre.

    Args:
      logits: see `all_maxima`.
      deltas_zyx: see `all_maxima`.
      threshold: least logit of a candidate.

    Returns:
      (logit, offset z, y, x from the centre) of distinct offsets, greatest logit first.
    """
    return best_first(all_maxima(logits, deltas_zyx), threshold)


def all_maxima(logits: np.ndarray, deltas_zyx: Sequence[int]) -> list[tuple[float, Offset]]:
    """Finds the voxel with the greatest logit on each of the six faces, the first in C order among equals.

    Args:
      logits: float array [z, y, x], network output around the current position.
      deltas_zyx: half the size of the box; axes with delta 0 have no faces.

    Returns:
      Logit, and offset z, y, x from the centre; NaN, which is no candidate, where any voxel of the face is.
    """
    voxels, offsets = _faces(logits.shape, tuple(deltas_zyx))
    if not offsets:
        return []
    values = logits.reshape(-1).take(voxels)
    best = values.argmax(axis=1).tolist()
    return [(values.item(face, i), offsets[face][i]) for face, i in enumerate(best)]


@functools.lru_cache(maxsize=16)
def _faces(
    shape_zyx: tuple[int, ...], deltas_zyx: tuple[int, ...]
) -> tuple[np.ndarray, list[list[Offset]]]:
    """Flat indices of the voxels of each face, see `face_indices`, and their offsets."""
    faces = face_indices(shape_zyx, deltas_zyx)
    return faces, [[offset_of(voxel, shape_zyx) for voxel in face] for face in faces.tolist()]


def best_first(
    maxima: Iterable[tuple[float, Offset]], threshold: float
) -> list[tuple[float, Offset]]:
    """Sorts the maxima of the faces, which may meet in an edge or a corner.

    Args:
      maxima: logit, and offset z, y, x from the centre.
      threshold: least logit of a candidate.

    Returns:
      Distinct offsets with their logits, greatest logit first.
    """
    return sorted({found for found in maxima if found[0] >= threshold}, reverse=True)


def offset_of(voxel: int, shape_zyx: Sequence[int]) -> Offset:
    """Offset z, y, x from the centre of an array, of the voxel with a flat index."""
    depth, height, width = shape_zyx
    z, within = divmod(voxel, height * width)
    y, x = divmod(within, width)
    return z - depth // 2, y - height // 2, x - width // 2


@functools.lru_cache(maxsize=16)
def face_indices(shape_zyx: tuple[int, ...], deltas_zyx: tuple[int, ...]) -> np.ndarray:
    """Flat indices of the voxels of each face, in C order: intp [faces, voxels].

    Smaller faces are padded with their first voxel, which does not change their maximum.
    """
    box = tuple(
        slice(n // 2 - d, n // 2 + d + 1) for n, d in zip(shape_zyx, deltas_zyx, strict=True)
    )
    indices = np.arange(math.prod(shape_zyx)).reshape(shape_zyx)[box]
    faces = [
        indices.take(end, axis=axis).ravel()
        for axis, delta in enumerate(deltas_zyx)
        if delta
        for end in (0, -1)
    ]
    largest = max((face.size for face in faces), default=0)
    filled = [np.pad(face, (0, largest - face.size), constant_values=face[0]) for face in faces]
    return np.array(filled, dtype=np.intp).reshape(len(faces), largest)


def quantize(
    position_zyx: Sequence[int], deltas_zyx: Sequence[int], start_zyx: Sequence[int] = (0, 0, 0)
) -> Offset:
    """Maps a position to its cell, counted from the start; the field of view visits each cell once."""
    (z, y, x), (dz, dy, dx), (z0, y0, x0) = position_zyx, deltas_zyx, start_zyx
    return (
        (z - z0 + dz // 2) // (dz or 1),
        (y - y0 + dy // 2) // (dy or 1),
        (x - x0 + dx // 2) // (dx or 1),
    )
