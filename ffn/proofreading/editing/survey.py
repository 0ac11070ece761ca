"""How large the segments of a volume are, and which of them touch its faces; block by block, for any size."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import fastremap
import numpy as np

from ffn.distributed.blockwise import block_file, run_blocks
from ffn.distributed.pool import Pool
from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.volume import VolumeSource

BLOCK = Xyz(256, 256, 256)


class Segment(NamedTuple):
    """A segment.

    Attributes:
      voxels: its size.
      at_face: whether it touches a face of the volume.
      point: a voxel in it.
    """

    voxels: int
    at_face: bool
    point: Xyz


def survey(
    segmentation: VolumeSource, folder: Path, pool: Pool, quiet: bool = False, block: Xyz = BLOCK
) -> dict[int, Segment]:
    """Looks at all segments of a volume.

    Args:
      segmentation: the labels.
      folder: receives a table for each block; existing tables are reused.
      pool: runs the tasks.
      quiet: no progress bar.
      block: voxels that are read at a time.

    Returns:
      Id → the segment.

    Raises:
      UserError: a volume that cannot be read, or a table that is damaged.
    """
    with segmentation.open() as volume:
        whole = volume.require_labels().box
    origin = whole.start
    parts = functools.partial(blocks, whole, block)
    run_blocks(pool, survey_block, (segmentation,), parts, folder, 'segments', quiet, '.npy')
    found: dict[int, Segment] = {}
    for part in parts():
        table = read_checked_npy(block_file(folder, part, '.npy'), 'remove it, and run again')
        for segment, voxels, at_face, x, y, z in table.tolist():
            point = Xyz(x + origin.x, y + origin.y, z + origin.z)
            before = found.get(segment, Segment(0, False, point))
            found[segment] = Segment(
                before.voxels + voxels, before.at_face or bool(at_face), before.point
            )
    return found


def survey_block(segmentation: VolumeSource, block: Box, path: Path) -> None:
    """Writes the table of a block: uint64 [n, 6]: id, voxels, whether at a face, and x, y, z from the volume's start."""
    with segmentation.open() as volume:
        data, whole = volume.require_labels().read(block), volume.box
    data = (
        np.maximum(data, 0).astype(np.uint64) if data.dtype.kind == 'i' else data.astype(np.uint64)
    )
    ids, first, counts = fastremap.unique(data, return_index=True, return_counts=True)
    at = np.stack(np.unravel_index(first, data.shape), axis=1)[:, ::-1]
    at += np.array(block.start) - np.array(whole.start)
    at_faces = {segment for face in _faces(data, block, whole) for segment in face.tolist()}
    faces = np.array([segment in at_faces for segment in ids.tolist()], np.uint64)
    columns = [ids, counts.astype(np.uint64), faces, *at.T.astype(np.uint64)]
    write_checked_npy(path, np.stack(columns, axis=1)[ids > 0])


def _faces(data: np.ndarray, block: Box, whole: Box) -> Iterable[np.ndarray]:
    """The ids on those faces of a block that are faces of the volume."""
    for axis, (begin, end) in enumerate(zip(block.start.zyx, block.end.zyx, strict=True)):
        if begin == whole.start.zyx[axis]:
            yield fastremap.unique(data.take(0, axis))
        if end == whole.end.zyx[axis]:
            yield fastremap.unique(data.take(-1, axis))


def total(segments: Mapping[int, Segment], members: Iterable[int]) -> int:
    """Voxels of an object; parts that were cut off segments count with these."""
    return sum(segments[one].voxels for one in members if one in segments)
