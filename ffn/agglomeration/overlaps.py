"""Counts the voxels of segments, and how many of them lie in each object of another volume."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ffn.distributed.pool import Pool, run_stage
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.labels import joint_histogram
from ffn.utils.running_sum import RunningSum
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.unlabelled import Met, Tally, met_by
from ffn.volumes.volume import VolumeSource

# Rows that are held before they are added up, see `RunningSum`.
_HELD = 1 << 20


def count_overlaps(
    labels: VolumeSource,
    other: VolumeSource | None,
    box: Box,
    block_size: Xyz,
    pool: Pool,
    what: str,
    quiet: bool = False,
) -> np.ndarray:
    """Counts the voxels that segments share with objects.

    Args:
      labels: the segments.
      other: the objects; None: none, so that voxels of segments are counted.
      box: part of the volumes.
      block_size: voxels that are read at a time.
      pool: runs the tasks.
      what: name of the stage, for the progress bar.
      quiet: no progress bar.

    Returns:
      uint64 [m, 3]: segment; object, 0 for none; number of voxels; ascending.

    Raises:
      UserError: a volume cannot be read, holds no labels, or does not cover the box.
    """
    if other is not None:
        check_covers(other, box)

    def tasks() -> Iterator[tuple[VolumeSource, VolumeSource | None, Box]]:
        return ((labels, other, block) for block in blocks(box, block_size))

    count = sum(1 for _ in tasks())
    found = RunningSum(_added_up, len, _HELD, [np.zeros((0, 3), np.uint64)])
    tally = Tally()
    for part, met in run_stage(pool, count_block, tasks(), count, what, quiet, unit='block'):
        found.add(part)
        tally.add(met)
    tally.tell()
    return found.total()


def check_covers(labels: VolumeSource, box: Box) -> None:
    """Checks that a volume has labels for all of a box.

    Raises:
      UserError: it cannot be read, is not complete, holds no labels, or does not cover the box.
    """
    read_input_stamp(labels)
    with labels.open() as volume:
        covered = volume.require_labels().box
    if covered.intersection(box) != box:
        raise UserError(f'{labels.name} covers {covered}, and not all of {box}')


def count_block(
    labels: VolumeSource, other: VolumeSource | None, block: Box
) -> tuple[np.ndarray, Met | None]:
    """Counts the voxels of a block, see `count_overlaps`; and those of the objects without a label."""
    met = None
    with labels.open() as volume:
        segments = volume.require_labels().read(block)
    if other is None:
        objects = np.zeros(segments.shape, np.uint8)
    else:
        with other.open() as opened:
            volume = opened.require_labels()
            objects, met = volume.read(block), met_by(volume.unlabelled)
    found = joint_histogram(segments, objects)
    return found[found[:, 0] > 0], met


def _added_up(parts: list[np.ndarray]) -> np.ndarray:
    rows = np.concatenate(parts)
    if not len(rows):
        return rows
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    begins = np.flatnonzero(np.r_[True, (np.diff(rows[:, :2], axis=0) != 0).any(axis=1)])
    result = rows[begins]
    result[:, 2] = np.add.reduceat(rows[:, 2], begins)
    return result
