"""Parts that were cut off segments, at coarser scales: where a split is seen from afar.

A coarse voxel stands for one segment of those in it. If that one was cut there, the voxel becomes the part's: at the border
between both sides, it may be either's.
"""

from __future__ import annotations

import operator
from pathlib import Path

import numpy as np

from ffn.proofreading.editing.cut_masks import CutLabels, PartMask, load_mask
from ffn.utils.geometry import Box, Xyz
from ffn.utils.kept import Kept
from ffn.volumes.volume import Volume


def read_coarse(labels: CutLabels, volume: Volume, box: Box, factors: Xyz) -> np.ndarray:
    """Reads a box of a scale of the base volume, with the parts that were cut off.

    Args:
      labels: the parts.
      volume: the scale.
      box: inside it.
      factors: x, y, z voxels of the base volume that are one of it.

    Returns:
      uint64 [z, y, x].

    Raises:
      UserError: a volume or a mask that cannot be read.
    """
    if factors == Xyz(1, 1, 1):
        return labels.read(volume, box)
    read = labels.with_cuts(()).read(volume, box)
    start, size = (Xyz(*map(operator.mul, one, factors)) for one in (box.start, box.size))
    for cut in labels.near(Box(start, size)):
        mask = _coarse.get((labels.folder / cut.mask, factors))
        if (part := mask.box.intersection(box)) is not None:
            there = read[part.relative_to(box.start).slices_zyx]
            there[mask.within(part) & (there == np.uint64(cut.of))] = cut.new
    return read


def _make_coarse(of: tuple[Path, Xyz]) -> PartMask:
    """All coarse voxels in which there is a voxel of the part."""
    path, factors = of
    mask = load_mask(path)
    voxels, start = mask.voxels, []
    for axis, (first, factor) in enumerate(zip(mask.box.start.zyx, factors.zyx, strict=True)):
        coarse = np.arange(first, first + voxels.shape[axis]) // factor
        begins = np.flatnonzero(np.diff(coarse, prepend=coarse[0] - 1))
        voxels = np.logical_or.reduceat(voxels, begins, axis=axis)
        start.append(int(coarse[0]))
    return PartMask.of(Box.from_zyx(start, voxels.shape), voxels)


_coarse = Kept(_make_coarse, PartMask.bytes)
