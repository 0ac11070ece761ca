"""Comparing volumes larger than memory: block by block, in a few threads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool

import numpy as np

from ffn.evaluation.contingency import Contingency, add_up, count_block
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.progress import progress
from ffn.utils.volumes import Volume

BLOCK_ZYX = Zyx(64, 512, 512)
# Tables of blocks are added up once they have this many rows together.
_MAX_ROWS = 4_000_000
_MAX_THREADS = 4


def blocks_of(box: Box, block_zyx: Zyx = BLOCK_ZYX) -> Iterator[Box]:
    """Cuts a box into blocks, z slowest."""
    starts = (
        range(a, b, step)
        for a, b, step in zip(box.start.zyx, box.end.zyx, block_zyx, strict=True)
    )  # fmt: skip
    for start in itertools.product(*starts):
        block = Box.from_zyx(start, block_zyx).intersection(box)
        if block is not None:
            yield block


def boundary_band(labels: np.ndarray, width: int) -> np.ndarray:
    """Finds the voxels that are near to another label.

    Args:
      labels: integer [z, y, x]; background is a label like any other.
      width: how near: steps to a face neighbour.

    Returns:
      bool [z, y, x].
    """
    band = np.zeros(labels.shape, bool)
    sides = [(_cut(axis, slice(1, None)), _cut(axis, slice(None, -1))) for axis in range(3)]
    for high, low in sides:
        differs = labels[high] != labels[low]
        band[high] |= differs
        band[low] |= differs
    for _ in range(width - 1):
        grown = band.copy()
        for high, low in sides:
            grown[high] |= band[low]
            grown[low] |= band[high]
        band = grown
    return band


def _cut(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def compare_volumes(
    truth: Volume, segmentation: Volume, box: Box, *, boundary: int = 0,
    block_zyx: Zyx = BLOCK_ZYX, quiet: bool = True,
) -> Contingency:  # fmt: skip
    """Makes the table of two volumes. Memory is that of a few blocks and of the table.

    Args:
      truth: labels.
      segmentation: labels, in the same coordinates.
      box: what to compare, inside of both.
      boundary: width of the band around changes of the truth's label that `inner` leaves out,
        voxels; 0: none.
      block_zyx: size of the blocks.
      quiet: no progress bar.

    Raises:
      UserError: a volume cannot be read.
    """
    blocks = list(blocks_of(box, block_zyx))

    def count(block: Box) -> Contingency:
        labels, band = truth_and_band(truth, block, boundary)
        return count_block(labels, segmentation.read(block), block, box, band)

    tables: list[Contingency] = []
    threads = min(os.cpu_count() or 1, _MAX_THREADS, len(blocks))
    with ThreadPool(threads) as pool:
        found = pool.imap_unordered(count, blocks)
        for table in progress(
            found, total=len(blocks), desc='comparing', unit='block', quiet=quiet
        ):
            tables.append(table)
            if sum(len(t.truth) for t in tables) > _MAX_ROWS:
                tables = [add_up(tables)]
    return add_up(tables)


def truth_and_band(
    truth: Volume, block: Box, boundary: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads a block of the truth, and the boundary band in it, which what is around it tells.

    Returns:
      Integer [z, y, x], and bool [z, y, x] or None.
    """
    if not boundary:
        return truth.read(block), None
    around = block.grow(Xyz(boundary, boundary, boundary)).intersection(truth.box)
    labels = truth.read(around)
    inside = block.relative_to(around.start).slices_zyx
    return labels[inside], np.ascontiguousarray(boundary_band(labels, boundary)[inside])
