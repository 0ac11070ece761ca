"""Labels of other programs to HDF5, one block in memory at a time.

The input is any volume, an image stack, or NeuroProof's pair (see `ffn.volumes.importing.neuroproof`). Labels are
stored in the smallest unsigned type that holds the greatest.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from absl import logging
from tqdm import tqdm

from ffn.utils.atomic import check_writable
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.progress import progress
from ffn.utils.running_sum import RunningSum
from ffn.volumes.downsample import NO_FACTORS, Grid, downsample_labels
from ffn.volumes.hdf5 import replaced_dataset, split_output
from ffn.volumes.importing.imported import VoxelSize, decide_voxel_size, store_voxels
from ffn.volumes.importing.instances import InstanceRule, find_instances, label_slab
from ffn.volumes.importing.label_sources import LabelSource, open_labels
from ffn.volumes.unlabelled import counted

_CHUNK = 64
_SLAB_VOXELS = 2**23
# Ids of parts are added up once there are this many in total, see `RunningSum`.
_MAX_IDS = 2**20


@dataclass(frozen=True)
class Imported:
    """Labels that were written.

    Attributes:
      ids: distinct labels, uint64, ascending, including 0 if there is background.
      dtype: of the dataset.
      size: of the dataset.
      voxel_size: x, y, z nanometres; None if it is unknown.
      story: what objects were made of, '' if labels were taken as they are.
    """

    ids: np.ndarray
    dtype: np.dtype
    size: Xyz
    voxel_size: VoxelSize | None
    story: str = ''


def import_labels(
    source: str | Path,
    output: str,
    *,
    dataset: str | None = None,
    unlabelled: int | None = None,
    voxel_size: VoxelSize | None = None,
    channel: int | None = None,
    downsample: Xyz = NO_FACTORS,
    instances: InstanceRule | None = None,
    quiet: bool = False,
) -> Imported:
    """Writes labels of another program as an HDF5 dataset, chunked and gzipped.

    Voxels that are not labelled, see `ffn.volumes.unlabelled`, become background.

    Args:
      source: see `open_labels`.
      output: 'path:dataset'; other datasets of the file are kept.
      dataset: see `open_labels`.
      unlabelled: see `open_labels`.
      voxel_size: x, y, z nanometres, before downsampling; None: as the source says.
      channel: of several, the one to take.
      downsample: x, y, z, voxels of which the most frequent label is taken.
      instances: make objects of a mask, after downsampling.
      quiet: no progress bar.

    Raises:
      UserError: a file or dataset is missing or holds no labels, the transforms do not fit, or nothing is
        left after downsampling.
    """
    path = split_output(output, '--output')[0]
    check_writable(path, '--output')
    folder = Path(path).absolute().parent
    with contextlib.ExitStack() as stack:
        labels = stack.enter_context(open_labels(str(source), dataset, channel, unlabelled, folder))
        grid = Grid(labels.box, downsample)
        box = grid.coarse
        grid.tell_cut(labels.name)
        size = decide_voxel_size(voxel_size, labels.stated_size, labels.name)
        size = None if size is None else grid.scale_size(size)
        parts = list(blocks(box, _part_size(labels, grid, instances is not None)))
        bar = stack.enter_context(
            progress(total=2 * len(parts), desc='labels', unit='block', quiet=quiet)
        )
        with counted(labels.rule):
            read, ids, story = _prepare(labels, grid, parts, instances, bar)
        dtype = np.min_scalar_type(int(ids.max(initial=0)))
        target, name = stack.enter_context(replaced_dataset(output, '--output'))
        written = target.create_dataset(
            name,
            box.size.zyx,
            dtype,
            chunks=tuple(min(_CHUNK, n) for n in box.size.zyx),
            compression='gzip',
            shuffle=True,
        )
        store_voxels(written.attrs, size, None if labels.start is None else box.start)
        for number, part in enumerate(parts):
            written[part.relative_to(box.start).slices_zyx] = read(number, part).astype(dtype)
            bar.update()
    return Imported(ids, dtype, box.size, size, story)


def _distinct(ids: Sequence[np.ndarray]) -> np.ndarray:
    found: np.ndarray = fastremap.unique(np.concatenate(ids))
    return found


def _part_size(labels: LabelSource, grid: Grid, whole_sections: bool) -> Xyz:
    """Coarse voxels that are read at a time."""
    if not whole_sections:
        return grid.coarsen(labels.block)
    section = grid.refine(Box(Xyz(0, 0, 0), grid.coarse.size._replace(z=1))).size
    depth = max(1, _SLAB_VOXELS // (section.x * section.y * section.z))
    return grid.coarse.size._replace(z=depth)


def _prepare(
    labels: LabelSource,
    grid: Grid,
    parts: Sequence[Box],
    instances: InstanceRule | None,
    bar: tqdm[Any],
) -> tuple[Callable[[int, Box], np.ndarray], np.ndarray, str]:
    """Reads all parts once, since the type must be known before the first voxel is written.

    Returns:
      What reads a part, given its number and box, as unsigned [z, y, x]; all ids of the result; what objects
      were made of.
    """
    outside, outside_voxels = 0 if instances is None else instances.outside, 0

    def read(part: Box) -> np.ndarray:
        nonlocal outside_voxels
        fine = labels.read(grid.refine(part), outside)
        outside_voxels += int(np.count_nonzero(fine == outside))
        return downsample_labels(fine, grid.factors)

    def first_read(part: Box) -> np.ndarray:
        bar.update()
        return read(part)

    if instances is None:
        distinct, story = RunningSum(_distinct, len, _MAX_IDS, [np.zeros(0, np.uint64)]), ''
        for part in parts:
            distinct.add(fastremap.unique(first_read(part)).astype(np.uint64))
        ids = distinct.total()
    else:
        found = find_instances(
            parts,
            first_read,
            instances,
            lambda: outside_voxels > labels.rule.count or outside in labels.rule.values,
        )
        story = found.describe(instances)
        has_background = int(found.sizes.sum()) < math.prod(grid.coarse.size)
        ids = np.arange(0 if has_background else 1, len(found.sizes) + 1, dtype=np.uint64)
        if found.is_doubtful:
            logging.warning(
                '%s: one object holds more than half of all: gaps in membranes%s join neighbours; look at it '
                'before you train with it',
                labels.name,
                ', or their shift from section to section (see --link overlap),'
                if instances.link == 'faces'
                else '',
            )
    if instances is None:
        return lambda _, part: read(part), ids, story
    rule = instances
    return lambda number, part: found.numbers[number][label_slab(read(part), rule)], ids, story
