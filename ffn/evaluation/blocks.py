"""Compares volumes larger than memory: block by block, in a few threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool

import numpy as np

from ffn.evaluation.contingency import Contingency, add_up, count_block
from ffn.utils.geometry import Box, Xyz, Zyx, blocks
from ffn.utils.progress import progress
from ffn.utils.running_sum import RunningSum
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import Volume

BLOCK_ZYX = Zyx(64, 512, 512)
# Tables of blocks are added up once they hold this many rows in total, see `RunningSum`.
_MAX_ROWS = 4_000_000
_MAX_THREADS = 4


def cut_columns(box: Box, block_zyx: Zyx = BLOCK_ZYX) -> Iterator[list[Box]]:
    """Cuts a box into columns along z, and each column into blocks of ascending z."""
    size = block_zyx.xyz
    for column in blocks(box, Xyz(size.x, size.y, box.size.z)):
        yield list(blocks(column, size))


def boundary_band(labels: np.ndarray, width: int | Xyz) -> np.ndarray:
    """Finds the voxels that lie close to another label.

    Args:
      labels: integer [z, y, x]; background counts as a label.
      width: maximum distance, in steps between face neighbours. Of three numbers, the band grows from the borders
        step by step, in step n along the axes with n or more; borders across an axis with 0 do not count.

    Returns:
      bool [z, y, x].
    """
    band = np.zeros(labels.shape, bool)
    widths = band_widths(width).zyx
    sides = [
        (_slice_axis(axis, slice(1, None)), _slice_axis(axis, slice(None, -1))) for axis in range(3)
    ]
    for (high, low), steps in zip(sides, widths, strict=True):
        if not steps:
            continue
        differs = labels[high] != labels[low]
        band[high] |= differs
        band[low] |= differs
    for step in range(1, max(widths)):
        grown = band.copy()
        for (high, low), steps in zip(sides, widths, strict=True):
            if step < steps:
                grown[high] |= band[low]
                grown[low] |= band[high]
        band = grown
    return band


def band_widths(width: int | Xyz) -> Xyz:
    """Width of a boundary band along each axis."""
    return Xyz(width, width, width) if isinstance(width, int) else width


def _slice_axis(axis: int, part: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (part,)


def compare_volumes(
    truth: Volume,
    segmentation: Volume,
    box: Box,
    *,
    boundary: int | Xyz = 0,
    block_zyx: Zyx = BLOCK_ZYX,
    quiet: bool = True,
) -> Contingency:
    """Counts the table of two volumes, holding a few blocks and the table in memory.

    Args:
      truth: labels.
      segmentation: labels, in the same coordinates.
      box: region to compare, inside both.
      boundary: width in voxels of the band around label changes in the truth that `inner` excludes, see
        `boundary_band`; 0: none.
      block_zyx: size of the blocks.
      quiet: no progress bar.

    Raises:
      UserError: a volume cannot be read.
    """
    columns = list(cut_columns(box, block_zyx))
    bar = progress(total=sum(map(len, columns)), desc='comparing', unit='block', quiet=quiet)

    def count(column: list[Box]) -> Contingency:
        tables = _no_tables()
        for block, labels, band in truth_in_blocks(truth, column, boundary):
            tables.add(count_block(labels, segmentation.read(block), block, box, band))
            del labels, band  # not kept while the next ones are read
            bar.update()
        return tables.total()

    threads = min(os.cpu_count() or 1, _MAX_THREADS, len(columns))
    tables = _no_tables()
    with bar, counted(truth.unlabelled, segmentation.unlabelled), ThreadPool(threads) as pool:
        for table in pool.imap_unordered(count, columns):
            tables.add(table)
    return tables.total()


def _no_tables() -> RunningSum[Contingency]:
    return RunningSum(add_up, lambda table: len(table.truth), _MAX_ROWS)


def truth_in_blocks(
    truth: Volume, column: list[Box], boundary: int | Xyz
) -> Iterator[tuple[Box, np.ndarray, np.ndarray | None]]:
    """Reads the truth block by block, with the boundary band, which also depends on the surroundings.

    No section is read twice: the part shared with the next block is kept.

    Args:
      truth: labels.
      column: consecutive blocks along z.
      boundary: width of the band; 0: none.

    Yields:
      Block, integer [z, y, x], and bool [z, y, x] or None.
    """
    widths = band_widths(boundary)
    if not any(widths):
        yield from ((block, truth.read(block), None) for block in column)
        return
    grown = (block.grow(widths) for block in column)
    around = [part for block in grown if (part := block.intersection(truth.box)) is not None]
    ends = sorted({*(block.end.z for block in column[:-1]), around[-1].end.z})
    part = around[0]
    sections = np.zeros((0, part.size.y, part.size.x), truth.dtype)
    first = last = part.start.z
    for block, wide in zip(column, around, strict=True):
        read = [sections]
        del sections  # freed as soon as it is not needed
        while last < wide.end.z:
            end = next(end for end in ends if end > last)
            piece = Box(
                Xyz(part.start.x, part.start.y, last), Xyz(part.size.x, part.size.y, end - last)
            )
            read.append(truth.read(piece))
            last = end
        sections = np.concatenate(read)
        del read
        inside = block.relative_to(Xyz(part.start.x, part.start.y, first)).slices_zyx
        near = boundary_band(sections[: wide.end.z - first], boundary)
        labels, band = (np.ascontiguousarray(a[inside]) for a in (sections, near))
        next_first = max(block.end.z - widths.z, first)
        sections, first = sections[next_first - first :].copy(), next_first
        yield block, labels, band
        del labels, band, near
