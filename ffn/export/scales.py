"""The resolutions of an export: each halves the axes along which voxels are smallest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ffn.utils.geometry import Box, Xyz

CHUNK = Xyz(64, 64, 64)


@dataclass(frozen=True)
class Scale:
    """One resolution.

    Attributes:
      box: the voxels.
      voxel_size: x, y, z nanometres.
      factors: x, y, z voxels of the scale before that become one.
    """

    box: Box
    voxel_size: tuple[float, float, float]
    factors: Xyz

    @property
    def key(self) -> str:
        """Name of the folder."""
        return '_'.join(f'{size:g}' for size in self.voxel_size)

    def coarsen(self) -> Scale:
        """Returns the next coarser scale: halves the axes along which voxels are smallest."""
        least = min(self.voxel_size)
        factors = Xyz(*(2 if size < 2 * least else 1 for size in self.voxel_size))
        start, end = (
            Xyz(*(rounded(v / f) for v, f in zip(corner, factors, strict=True)))
            for rounded, corner in ((math.floor, self.box.start), (math.ceil, self.box.end))
        )
        size = Xyz(*(b - a for a, b in zip(start, end, strict=True)))
        x, y, z = (s * f for s, f in zip(self.voxel_size, factors, strict=True))
        return Scale(Box(start, size), (x, y, z), factors)


def plan_scales(box: Box, voxel_size: Sequence[float], max_scales: int = 0) -> list[Scale]:
    """Plans the scales of a volume, until one chunk holds it.

    Args:
      box: the voxels.
      voxel_size: x, y, z nanometres.
      max_scales: number of scales at most; 0: no limit.
    """
    x, y, z = map(float, voxel_size)
    scales = [Scale(box, (x, y, z), Xyz(1, 1, 1))]
    while any(n > c for n, c in zip(scales[-1].box.size, CHUNK, strict=True)):
        if len(scales) == max_scales:
            break
        scales.append(scales[-1].coarsen())
    return scales
