"""How large the segments of a volume are, and which of them touch its faces; block by block, for any size."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import fastremap
import numpy as np

from ffn.distributed.blockwise import block_file, run_blocks
from ffn.distributed.pool import Pool
from ffn.proofreading.editing.cut_masks import NO_CUTS, CutLabels
from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.input_states import record_states, state_of, were_written_anew
from ffn.volumes.unlabelled import Met, Tally, met_by
from ffn.volumes.volume import VolumeSource

BLOCK = Xyz(256, 256, 256)
# Folder below that of the tables, for those of blocks in which segments were cut.
CUT = 'cut'


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
    segmentation: VolumeSource,
    folder: Path,
    pool: Pool,
    quiet: bool = False,
    block: Xyz = BLOCK,
    cuts: CutLabels = NO_CUTS,
) -> dict[int, Segment]:
    """Looks at all segments of a volume.

    Args:
      segmentation: the labels.
      folder: receives a table for each block; existing tables are reused.
      pool: runs the tasks.
      quiet: no progress bar.
      block: voxels that are read at a time.
      cuts: parts that were cut off segments, which count as segments of their own.

    Returns:
      Id → the segment.

    Raises:
      UserError: a volume or a mask that cannot be read, or a table that is damaged.
    """
    with segmentation.open() as volume:
        whole = volume.require_labels().box
    origin = whole.start
    if were_written_anew(folder, 'segments', states := state_of(segmentation)):
        shutil.rmtree(folder / CUT, ignore_errors=True)
        for part in blocks(whole, block):
            block_file(folder, part, '.npy').unlink(missing_ok=True)
    record_states(folder, 'segments', states)
    told = json.dumps([[cut.of, cut.new, cut.mask] for cut in cuts.cuts])
    folder_of_cuts = _only_folder(folder / CUT, told)
    folders: dict[Path, list[Box]] = {folder: [], folder_of_cuts: []}
    for part in blocks(whole, block):
        folders[folder_of_cuts if cuts.near(part) else folder].append(part)
    files, tally = [], Tally()
    for place, parts in folders.items():
        arguments, these = (segmentation, cuts), functools.partial(iter, parts)
        run_blocks(
            *(pool, survey_block, arguments, these, place, 'segments', quiet, '.npy', tally.add)
        )
        files += [block_file(place, part, '.npy') for part in parts]
    tally.tell()
    found: dict[int, Segment] = {}
    for file in files:
        table = read_checked_npy(file, 'remove it, and run again')
        for segment, voxels, at_face, x, y, z in table.tolist():
            point = Xyz(x + origin.x, y + origin.y, z + origin.z)
            before = found.get(segment, Segment(0, False, point))
            found[segment] = Segment(
                before.voxels + voxels, before.at_face or bool(at_face), before.point
            )
    return found


def _only_folder(parent: Path, made_of: str) -> Path:
    """The folder in another one of what is made of something; those of anything else are removed."""
    name = hashlib.sha256(made_of.encode()).hexdigest()
    for other in parent.glob('*'):
        if other.name != name:
            shutil.rmtree(other)
    return parent / name


def survey_block(segmentation: VolumeSource, cuts: CutLabels, block: Box, path: Path) -> Met | None:
    """Writes the table of a block: uint64 [n, 6]: id, voxels, whether at a face, and x, y, z from the volume's start.

    Returns:
      What has no label among its voxels.
    """
    with segmentation.open() as opened:
        volume = opened.require_labels()
        data, whole = cuts.read(volume, block), volume.box
    ids, first, counts = fastremap.unique(data, return_index=True, return_counts=True)
    at = np.stack(np.unravel_index(first, data.shape), axis=1)[:, ::-1]
    at += np.array(block.start) - np.array(whole.start)
    at_faces = {segment for face in _faces(data, block, whole) for segment in face.tolist()}
    faces = np.array([segment in at_faces for segment in ids.tolist()], np.uint64)
    columns = [ids, counts.astype(np.uint64), faces, *at.T.astype(np.uint64)]
    write_checked_npy(path, np.stack(columns, axis=1)[ids > 0])
    return met_by(volume.unlabelled)


def _faces(data: np.ndarray, block: Box, whole: Box) -> Iterable[np.ndarray]:
    """The ids on those faces of a block that are faces of the volume."""
    for axis, (begin, end) in enumerate(zip(block.start.zyx, block.end.zyx, strict=True)):
        if begin == whole.start.zyx[axis]:
            yield fastremap.unique(data.take(0, axis))
        if end == whole.end.zyx[axis]:
            yield fastremap.unique(data.take(-1, axis))


def total(segments: Mapping[int, Segment], members: Iterable[int]) -> int:
    """Voxels of an object."""
    return sum(segments[one].voxels for one in members if one in segments)
