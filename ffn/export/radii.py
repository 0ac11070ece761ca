"""Distances to the surface of segments that reach beyond a block, wherever the grid of blocks lies.

A block is read with a margin, and a distance up to that margin is exact: what is nearer is seen. Greater ones, as in
cell bodies, are measured on coarser scales, where a margin of as many voxels reaches further.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffn.export.centre_lines import distances
from ffn.export.pyramid import Pyramid
from ffn.export.scales import Scale
from ffn.utils.geometry import Box, Xyz

# Voxels of the margin on the scale where lines are found, on coarser ones, and on the last one.
_MARGIN, _COARSE_MARGIN, _LAST_MARGIN = 16, 32, 64


@dataclass(frozen=True)
class Surroundings:
    """The labels in and around a block.

    Attributes:
      pyramid: all labels.
      level: the scale on which lines are found.
      block: voxels of that scale.
      box: the block with its margin, as far as the volume reaches.
      labels: those in the box, [z, y, x].
    """

    pyramid: Pyramid
    level: int
    block: Box
    box: Box
    labels: np.ndarray

    @classmethod
    def read(cls, pyramid: Pyramid, level: int, block: Box) -> Surroundings:
        """Reads them."""
        box = _grown(block, pyramid.scales[level], margin(pyramid.scales, level, level))
        return cls(pyramid, level, block, box, _read(pyramid, level, box))

    @property
    def inside(self) -> np.ndarray:
        """The labels in the block, [z, y, x]."""
        return self.labels[self.block.relative_to(self.box.start).slices_zyx]

    def radii(self, label: int, box: Box) -> np.ndarray:
        """Distances to the surface of a segment, its cavities filled.

        A cavity of which the box with its margin shows a part only is not filled, and its border is surface: a nucleus
        with a label of its own is no part of the body.

        Args:
          label: of the segment.
          box: a part of the block, with all voxels of the segment beside it, as far as these are in the block.

        Returns:
          float32 [z, y, x], nanometres. What lies beyond the volume is taken for the segment, though no distance is
          more than half the volume, nor than `greatest_radius` where the segment reaches farther.
        """
        scales = self.pyramid.scales
        seen, reach = self._seen(box), margin(scales, self.level, self.level)
        labels = self.labels[seen.relative_to(self.box.start).slices_zyx]
        found = _distances(labels == label, seen, box, scales[self.level])
        is_cut, factors = seen != box, np.ones(3, np.int64)
        for index in range(self.level + 1, len(scales)):
            deep = found >= reach
            if not is_cut or not deep.any():
                break
            scale = scales[index]
            factors *= scale.factors.zyx
            places = (np.argwhere(deep) + box.start.zyx) // factors
            low = places.min(axis=0)
            part = Box.from_zyx(low.tolist(), (places.max(axis=0) - low + 1).tolist())
            farther = margin(scales, self.level, index)
            seen = _grown(part, scale, farther)
            coarse = _distances(_read(self.pyramid, index, seen) == label, seen, part, scale)
            found[deep] = np.maximum(reach, coarse[tuple((places - low).T)])
            is_cut, reach = seen != scale.box, farther
        return np.minimum(found, np.float32(reach if is_cut else _half(scales[0])))

    def _seen(self, box: Box) -> Box:
        """The box with a margin where the block ends and the volume does not."""
        reach = margin(self.pyramid.scales, self.level, self.level)
        grown = _grown(box, self.pyramid.scales[self.level], reach)
        start, end = (
            [g if own == edge else own for own, g, edge in zip(*corners, strict=True)]
            for corners in (
                (box.start, grown.start, self.block.start),
                (box.end, grown.end, self.block.end),
            )
        )
        return Box(Xyz(*start), Xyz(*(b - a for a, b in zip(start, end, strict=True))))


def greatest_radius(scales: Sequence[Scale], level: int) -> float:
    """The radius up to which bodies are measured, nanometres; infinite if none in the volume is greater.

    Args:
      scales: all.
      level: the scale on which lines are found.
    """
    reach = margin(scales, level, len(scales) - 1)
    return reach if reach < _half(scales[0]) else math.inf


def margin(scales: Sequence[Scale], level: int, index: int) -> float:
    """The margin on a scale, nanometres.

    Args:
      scales: all.
      level: the scale on which lines are found.
      index: this one, or a coarser one.
    """
    voxels = _MARGIN if index == level else _COARSE_MARGIN
    return min(scales[index].voxel_size) * (_LAST_MARGIN if index == len(scales) - 1 else voxels)


def _half(scale: Scale) -> float:
    """Half of the longest side of the volume."""
    return max(n * s for n, s in zip(scale.box.size, scale.voxel_size, strict=True)) / 2


def _grown(box: Box, scale: Scale, reach: float) -> Box:
    grown = box.grow(Xyz(*(int(-(-reach // side)) for side in scale.voxel_size)))
    if (within := grown.intersection(scale.box)) is None:
        raise ValueError(f'{box} lies outside {scale.box}')
    return within


def _read(pyramid: Pyramid, index: int, box: Box) -> np.ndarray:
    return np.asarray(pyramid.open(index)[box.slices_zyx].read().result())


def _distances(mask: np.ndarray, seen: Box, box: Box, scale: Scale) -> np.ndarray:
    """Distances in a part of what is seen."""
    return distances(mask, scale.voxel_size[::-1])[box.relative_to(seen.start).slices_zyx]
