"""What a few voxels of a volume say: good contrast, and a place that is not empty."""

from __future__ import annotations

import math

import numpy as np

from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import Volume

_BLOCK, _BLOCKS = 48, 3
_PERCENTILES = 0.5, 99.5
# Voxels that are looked at to find one that is not empty.
_LOOKED_AT = 2**24


def find_contrast(volume: Volume) -> tuple[float, float] | None:
    """Finds which values of an image to show as black and white, from a few small blocks of it.

    Args:
      volume: [z, y, x].

    Returns:
      Two values, the first one lower; None if what was looked at says nothing.
    """
    if volume.dtype.kind == 'b':
        return 0.0, 1.0
    values = np.concatenate([volume.read(box).ravel() for box in _spread(volume.box)])
    values = values[np.isfinite(values)]
    inside = values[values != 0]  # images that do not fill their volume are surrounded by 0
    if not len(inside):
        return None
    low, high = (float(v) for v in np.percentile(inside, _PERCENTILES))
    return (low, high) if high > low else None


def _spread(box: Box) -> list[Box]:
    """Small blocks that are spread over a box."""
    size = Xyz(*(min(_BLOCK, n) for n in box.size))
    axes = [
        sorted({s + round((n - b) * (2 * i + 1) / (2 * _BLOCKS)) for i in range(_BLOCKS)})
        for s, n, b in zip(box.start, box.size, size, strict=True)
    ]
    return [Box(Xyz(x, y, z), size) for x in axes[0] for y in axes[1] for z in axes[2]]


def find_place(coarse: Volume, whole: Box) -> Xyz | None:
    """Finds a voxel that is not 0, close to the middle of all that are not.

    Args:
      coarse: [z, y, x], the volume at a coarse scale, which is read if it is small.
      whole: the box of the volume at the scale in which the voxel is given.

    Returns:
      The voxel; None if the volume is large, or 0 everywhere.
    """
    if math.prod(coarse.box.size) > _LOOKED_AT:
        return None
    filled = np.argwhere(coarse.read(coarse.box))
    if not len(filled):
        return None
    middle = filled[((filled - filled.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    place = [
        s + min(int((m + 0.5) * n / c), n - 1)
        for m, s, n, c in zip(
            middle, whole.start.zyx, whole.size.zyx, coarse.shape_zyx, strict=True
        )
    ]
    return Zyx.of(place).xyz
