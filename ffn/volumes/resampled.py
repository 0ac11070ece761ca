"""Arrays read at another resolution: images as the means of blocks of voxels, labels with every voxel repeated.

Coarse voxel i covers the fine voxels i·factor … (i + 1)·factor − 1 along each axis, counted from voxel 0 of space. What
does not fill a block at either end of an image has no coarse voxel; labels have background there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ffn.utils.geometry import Box, Xyz
from ffn.volumes.downsample import Grid, downsample_image

Read = Callable[[Box], np.ndarray]


class Means:
    """An image at a coarser resolution, [z, y, x]; see `ffn.volumes.opened_array.VoxelArray`.

    Attributes:
      box: its voxels.
      scale: x, y, z, its voxels in voxels of what it is read from.
    """

    def __init__(self, read: Read, fine: Box, dtype: np.dtype, factors: Xyz):
        """Makes it.

        Args:
          read: reads a box of the image, [z, y, x].
          fine: all voxels of the image.
          dtype: of the image.
          factors: x, y, z voxels that become one.

        Raises:
          UserError: the image has fewer voxels than a block.
        """
        self._read, self.dtype, self.scale = read, dtype, factors
        self.box = Grid(fine, factors).coarse
        self.shape = tuple(self.box.size.zyx)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        coarse = _box_at(index, self.box)
        return downsample_image(self._read(Grid(coarse, self.scale).refine(coarse)), self.scale)


class Repeated:
    """Labels at a finer resolution, [z, y, x]; see `Means`."""

    def __init__(self, read: Read, coarse: Box, dtype: np.dtype, factors: Xyz):
        """Makes it; `factors`: x, y, z voxels that one becomes."""
        self._read, self._coarse, self.dtype, self._factors = read, coarse, dtype, factors
        self.box = Grid(coarse, factors).refine(coarse).grow(Xyz(*(f - 1 for f in factors)))
        self.scale = tuple(1 / f for f in factors)
        self.shape = tuple(self.box.size.zyx)

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        box = _box_at(index, self.box)
        labels = np.zeros(box.size.zyx, self.dtype)
        touched = touched_box(box, self._factors).intersection(self._coarse)
        if touched is None:
            return labels
        found = self._read(touched)
        for axis, factor in enumerate(self._factors.zyx):
            found = found.repeat(factor, axis)
        whole = Grid(touched, self._factors).refine(touched)
        if (there := whole.intersection(box)) is not None:
            part = found[there.relative_to(whole.start).slices_zyx]
            labels[there.relative_to(box.start).slices_zyx] = part
        return labels


def touched_box(box: Box, factors: Xyz) -> Box:
    """The coarse voxels that a box of fine ones touches; `factors`: x, y, z fine voxels that become one."""
    start = Xyz(*(a // f for a, f in zip(box.start, factors, strict=True)))
    end = (-(-b // f) for b, f in zip(box.end, factors, strict=True))
    return Box(start, Xyz(*(b - a for a, b in zip(start, end, strict=True))))


def _box_at(index: tuple[slice, ...], box: Box) -> Box:
    """The voxels at an index that counts from the first voxel of a box."""
    start = [part.start + first for part, first in zip(index, box.start.zyx, strict=True)]
    return Box.from_zyx(start, [part.stop - part.start for part in index])
