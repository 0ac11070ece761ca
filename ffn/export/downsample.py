"""Labels at half the resolution, such that thin objects stay.

A coarse voxel takes the label that most of its voxels have, background (0) not counted; of labels with as many
voxels, the least. It is background only where all of its voxels are. So an object of one voxel's width, such as
a thin neurite, stays connected at all scales and disappears only where other objects outnumber it. The
price is that objects at coarse scales cover every voxel that they touch, up to one coarse voxel more than
they fill, and that narrow gaps between them close.

TensorStore's `mode` counts background as a label like others: a line of one voxel's width, 2 of 8 voxels, is gone
after one step. It makes the coarse voxels; those that it leaves empty are looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ffn.utils.geometry import Box, Xyz, Zyx, blocks

# Coarse voxels that are made at a time, to bound memory: 128 MiB of labels are read for them.
_PART = Xyz(128, 128, 128)
_NONE = Zyx(0, 0, 0)


def downsample_labels(
    read: Callable[[Box], np.ndarray], finer: Box, factors: Xyz, block: Box
) -> np.ndarray:
    """Makes a block of the coarser scale.

    Args:
      read: reads a box of the finer scale as uint64 [z, y, x].
      finer: all voxels of the finer scale.
      factors: x, y, z voxels that become one.
      block: coarse voxels; coarse voxel i covers i·factor … (i + 1)·factor − 1, as far as these exist.

    Returns:
      uint64 [z, y, x].
    """
    coarse = np.empty(block.size.zyx, np.uint64)
    for part in blocks(block, _PART):
        start, size = (
            Xyz(*(n * f for n, f in zip(xyz, factors, strict=True)))
            for xyz in (part.start, part.size)
        )
        covered = Box(start, size).intersection(finer)
        if covered is None:
            raise ValueError(f'{part} lies outside {finer} by {factors}')
        before = Zyx(*(a - b for a, b in zip(covered.start.zyx, start.zyx, strict=True)))
        index = part.relative_to(block.start).slices_zyx
        coarse[index] = most_frequent(read(covered), factors.zyx, before)
    return coarse


def most_frequent(labels: np.ndarray, factors: Zyx, before: Zyx = _NONE) -> np.ndarray:
    """Downsamples labels; see the module.

    Args:
      labels: uint64 [z, y, x], 0 is background.
      factors: voxels that become one along each axis.
      before: voxels of the first coarse voxel that are missing before the labels, along each axis.

    Returns:
      uint64 [z, y, x].
    """
    import tensorstore as ts

    padding = [(b, -(b + n) % f) for b, n, f in zip(before, labels.shape, factors, strict=True)]
    if any(map(any, padding)):
        labels = np.pad(labels, padding)
    coarse = np.asarray(ts.downsample(ts.array(labels), list(factors), 'mode').read().result())
    empty = coarse == 0
    if empty.any():
        found = np.asarray(ts.downsample(ts.array(labels), list(factors), 'max').read().result())
        empty &= found != 0
        coarse[empty] = _most_frequent_at(labels, factors, np.nonzero(empty), found[empty])
    return coarse


def _most_frequent_at(
    labels: np.ndarray, factors: Zyx, places: tuple[np.ndarray, ...], greatest: np.ndarray
) -> np.ndarray:
    """The most frequent labels of some coarse voxels, of which the greatest are known: uint64 [n]."""
    shape = [n for side, f in zip(labels.shape, factors, strict=True) for n in (side // f, f)]
    cells = labels.reshape(shape).transpose(0, 2, 4, 1, 3, 5)
    values = cells[places].reshape(len(greatest), math.prod(factors))
    several = ((values != greatest[:, np.newaxis]) & (values != 0)).any(
        axis=1
    )  # most have one label
    most = greatest.copy()
    if several.any():
        most[several] = _most_frequent_in_rows(values[several])
    return most


def _most_frequent_in_rows(values: np.ndarray) -> np.ndarray:
    """The most frequent labels of rows that each hold some, the least of those with as many: uint64 [n]."""
    values.sort(axis=1)
    starts = np.ones(values.shape, bool)  # of each run of equal labels
    np.not_equal(values[:, 1:], values[:, :-1], out=starts[:, 1:])
    begins = np.flatnonzero(starts)
    runs, row = values.reshape(-1)[begins], begins // values.shape[1]
    lengths = np.where(runs == 0, 0, np.diff(begins, append=values.size))
    longest = np.maximum.reduceat(lengths, np.flatnonzero(np.diff(row, prepend=-1)))
    winners = np.flatnonzero(lengths == longest[row])
    least: np.ndarray = runs[winners[np.diff(row[winners], prepend=-1) > 0]]
    return least
