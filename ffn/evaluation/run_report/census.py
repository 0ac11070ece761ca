"""Sizes and extents of all objects of a volume, and a coarse copy of it: one pass, block by block.

How long an object is, is told by its span: the diagonal of the box around it, in physical units. It is exact whatever
the blocks are, takes one pass, and is at most the length of a path along the object from end to end; of one that winds
or branches it is much less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ffn.distributed.pool import Pool, run_stage
from ffn.export.downsample import most_frequent
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.labels import compact
from ffn.utils.running_sum import RunningSum
from ffn.volumes.unlabelled import tell_unlabelled
from ffn.volumes.volume import VolumeSource

# Cells of the coarse copy along its longest axis, and voxels along an edge of a block, about.
COARSE, _BLOCK = 200, 256
# Tables of blocks are added up once they hold this many rows in total, see `RunningSum`.
_MAX_ROWS = 4_000_000


@dataclass(frozen=True)
class Objects:
    """Objects of a volume, in the order of their ids.

    Attributes:
      ids: uint64 [n].
      voxels: int64 [n].
      low: int64 [n, 3], x, y, z, first voxel of the box around each.
      high: int64 [n, 3], first voxel behind it.
    """

    ids: np.ndarray
    voxels: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def spans(self, voxel_size_xyz: Sequence[float]) -> np.ndarray:
        """Diagonals of the boxes, float64 [n], in the unit of the voxel size."""
        lengths = (self.high - self.low) * np.array(voxel_size_xyz, np.float64)
        spans: np.ndarray = np.linalg.norm(lengths, axis=1)
        return spans

    @classmethod
    def of(cls, parts: Sequence[Objects]) -> Objects:
        """Adds the tables of parts of a volume."""
        ids, group = np.unique(np.concatenate([p.ids for p in parts]), return_inverse=True)
        voxels = np.zeros(len(ids), np.int64)
        np.add.at(voxels, group, np.concatenate([p.voxels for p in parts]))
        low = np.full((len(ids), 3), np.iinfo(np.int64).max)
        high = np.full((len(ids), 3), np.iinfo(np.int64).min)
        np.minimum.at(low, group, np.concatenate([p.low for p in parts]))
        np.maximum.at(high, group, np.concatenate([p.high for p in parts]))
        return cls(ids, voxels, low, high)


_NO_BOXES = np.zeros((0, 3), np.int64)
_NO_OBJECTS = Objects(np.zeros(0, np.uint64), np.zeros(0, np.int64), _NO_BOXES, _NO_BOXES)


@dataclass(frozen=True)
class Census:
    """What one pass over a volume finds.

    Attributes:
      box: the volume.
      objects: all of them.
      coarse: uint64 [z, y, x], the volume at a resolution for pictures; thin objects stay.
      factors: voxels that became one there.
      block: voxels of a block.
      filled: float64 [z, y, x], share of the voxels of each block that have a label.
    """

    box: Box
    objects: Objects
    coarse: np.ndarray
    factors: Xyz
    block: Xyz
    filled: np.ndarray


def take_census(
    source: VolumeSource, box: Box, voxel_size_xyz: Sequence[float], pool: Pool, quiet: bool
) -> Census:
    """Reads a volume once; how many of its voxels are not labelled is told.

    Args:
      source: labels.
      box: what is read of it.
      voxel_size_xyz: physical size of a voxel.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: it cannot be read.
    """
    edge = max(n * size for n, size in zip(box.size, voxel_size_xyz, strict=True)) / COARSE
    factors = Xyz(*(max(round(edge / size), 1) for size in voxel_size_xyz))
    # Blocks hold whole cells.
    block = Xyz(*(f * max(_BLOCK // f, 1) for f in factors))
    shape = [-(-n // f) for n, f in zip(box.size.zyx, factors.zyx, strict=True)]
    coarse = np.zeros(shape, np.uint64)
    filled = np.zeros([-(-n // b) for n, b in zip(box.size.zyx, block.zyx, strict=True)])
    tables = RunningSum(Objects.of, lambda table: len(table.ids), _MAX_ROWS, [_NO_OBJECTS])

    def tasks() -> Iterator[tuple[Any, ...]]:
        return ((source, part, factors) for part in blocks(box, block))

    unlabelled = 0
    for part, objects, small, without in run_stage(
        pool, count_block, tasks(), filled.size, 'objects', quiet, unit='block'
    ):
        tables.add(objects)
        unlabelled += without
        place = part.relative_to(box.start).start.zyx
        first = [p // f for p, f in zip(place, factors.zyx, strict=True)]
        coarse[tuple(slice(f, f + n) for f, n in zip(first, small.shape, strict=True))] = small
        number = tuple(p // b for p, b in zip(place, block.zyx, strict=True))
        filled[number] = objects.voxels.sum() / math.prod(part.size)
    tell_unlabelled(source.name, unlabelled, math.prod(box.size))
    return Census(box, tables.total(), coarse, factors, block, filled)


def count_block(
    source: VolumeSource, block: Box, factors: Xyz
) -> tuple[Box, Objects, np.ndarray, int]:
    """Counts the objects of a block.

    Args:
      source: labels.
      block: what is read.
      factors: voxels that become one in the coarse copy.

    Returns:
      The block, its objects, its coarse copy, uint64 [z, y, x], and how many of its voxels are not labelled.
    """
    with source.open() as opened:
        volume = opened.require_labels()
        labels = volume.read(block)
        unlabelled = volume.unlabelled.count if volume.unlabelled else 0
    numbers, ids = compact(labels)
    voxels = np.bincount(numbers.reshape(-1), minlength=len(ids))[1:]
    found = ndimage.find_objects(numbers)
    corners = (
        np.array(
            [[(s.start, s.stop) for s in reversed(index)] for index in found], np.int64
        ).reshape(-1, 3, 2)
        + np.array(block.start, np.int64)[:, np.newaxis]
    )
    objects = Objects(ids[1:], voxels.astype(np.int64), corners[..., 0], corners[..., 1])
    return block, objects, most_frequent(labels.astype(np.uint64), factors.zyx), unlabelled
