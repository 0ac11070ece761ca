"""Partition volumes: how much of the box around each labelled voxel its own object fills.

Training samples every class of that fraction equally often, because most voxels of a volume lie inside
thick objects and few in the thin ones that are hard to follow (Januszewski et al., arXiv:1611.00421,
section on training).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import fastremap
import numpy as np
from absl import logging

from ffn.training.sampling.box_counts import box_sums, classify_objects
from ffn.training.sampling.label_blocks import kept_labels, read_labels, split
from ffn.training.sampling.partition_config import EXCLUDED, PartitionConfig, format_numbers
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.utils.labels import compact
from ffn.utils.progress import progress
from ffn.volumes.hdf5 import replaced_dataset, split_output
from ffn.volumes.hdf5_links import plain_name
from ffn.volumes.masks import MaskBuilder
from ffn.volumes.missing import OnMissing
from ffn.volumes.provenance import open_complete
from ffn.volumes.specs import split_channel, split_spec
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import Volume

BLOCK_VOXELS = 2**25
_MAX_THREADS = 4


def write_partitions(
    input_volume: str,
    output_volume: str,
    config: PartitionConfig,
    quiet: bool = False,
    missing: OnMissing = 'tell',
) -> np.ndarray:
    """Computes the partitions of a label volume and writes them to an HDF5 dataset.

    The dataset is uint8 [z, y, x] of the input's shape. Its attributes: `bounding_boxes` (int64
    [n, 2, 3], start and size of the computed boxes, x, y, z), `partition_counts` (int64 [2, m], values
    and how many voxels of the computed part have them), if the volume does not start at 0,0,0 `origin_xyz`,
    and if it states a voxel size `resolution` (z, y, x nanometres).

    Args:
      input_volume: labels, any integer type; 0 is background. Voxels that are not labelled, see
        `ffn.volumes.unlabelled`, belong to no object and are excluded: no training begins there.
      output_volume: 'path:dataset' to write; other datasets of an existing file are kept.
      config: what to compute.
      quiet: no progress bar.
      missing: what is done about chunks of the labels, or of a mask, that do not exist.

    Returns:
      int64 [2, m]: the partition_counts.

    Raises:
      UserError: no such volume, no labels, or a volume too small for lom_radius.
    """
    _check_not_same(input_volume, output_volume)
    with open_complete(input_volume, missing) as opened:
        volume = opened.require_labels(config.unlabelled)
        computed_box(volume, config.lom_radius)
        bounding_boxes = _bounding_boxes(volume, config.lom_radius)
        _tell_what_has_no_effect(config, volume)
        with replaced_dataset(output_volume, '--output_volume') as (file, name):
            dataset = file.create_dataset(
                name,
                shape=volume.shape_zyx,
                dtype=np.uint8,
                fillvalue=EXCLUDED,
                chunks=tuple(min(64, n) for n in volume.shape_zyx),
                compression='gzip',
                compression_opts=1,
            )
            counts = np.zeros(256, np.int64)
            if missing == 'error':
                masks = tuple(mask.refusing_missing() for mask in config.masks)
                config = dataclasses.replace(config, masks=masks)
            for box, partitions in compute_partitions(volume, config, quiet=quiet):
                dataset[box.relative_to(volume.box.start).slices_zyx] = partitions
                counts += count_values(partitions)
            values = np.flatnonzero(counts)
            partition_counts = np.stack([values, counts[values]])
            dataset.attrs['bounding_boxes'] = bounding_boxes
            dataset.attrs['partition_counts'] = partition_counts
            if any(volume.box.start):
                dataset.attrs['origin_xyz'] = volume.box.start
            if volume.voxel_size is not None:
                dataset.attrs['resolution'] = volume.voxel_size.xyz[::-1]
    return partition_counts


def compute_partitions(
    volume: Volume, config: PartitionConfig, block_voxels: int = BLOCK_VOXELS, quiet: bool = False
) -> Iterator[tuple[Box, np.ndarray]]:
    """Computes partitions block by block; a volume of at most block_voxels is one block.

    Args:
      volume: labels, integer.
      config: what to compute.
      block_voxels: maximum number of voxels of labels in memory at a time, borders included.
      quiet: no progress bar.

    Yields:
      A box (absolute) and its partitions, uint8 [z, y, x]. The boxes tile the part of the volume that
      is at least lom_radius from every face.

    Raises:
      UserError: the volume is too small for lom_radius, or a mask does not cover it.
    """
    core = computed_box(volume, config.lom_radius)
    stored, rule = volume.as_stored(), volume.label_rule(config.unlabelled)
    whole = read_labels(stored, volume.box) if np.prod(volume.shape_zyx) <= block_voxels else None

    def read(box: Box) -> np.ndarray:
        if whole is None:
            return read_labels(stored, box)
        return whole[box.relative_to(volume.box.start).slices_zyx]

    sizing = [volume.box] if whole is not None else split(volume.box, Xyz(0, 0, 0), block_voxels)
    bar = progress(sizing, desc='sizes', unit='block', quiet=quiet)
    with counted(rule):
        sizes = (rule.clear(read(box)) for box in bar)
        labels = kept_labels(sizes, config.min_size, config.id_whitelist)
    limits, threads = config.count_limits, min(_MAX_THREADS, os.cpu_count() or 1)
    size = None if volume.voxel_size is None else volume.voxel_size.of(volume.name)
    with MaskBuilder(size) as masks:
        blocks = split(core, config.lom_radius, block_voxels)
        for box in progress(blocks, desc='partitions', unit='block', quiet=quiet):
            outer = box.grow(config.lom_radius)
            found = read(outer)
            partitions = classify_objects(
                compact(rule.clear(found), labels)[0], config.lom_radius, limits, threads
            )
            unlabelled = rule.find(found[box.relative_to(outer.start).slices_zyx])
            if unlabelled is not None:
                partitions[unlabelled] = EXCLUDED
            mask = masks.build(config.masks, outer)
            if mask is not None:
                near = box_sums(mask, config.lom_radius, config.lom_radius.zyx, box.size.zyx)
                partitions[near > 0] = EXCLUDED
            _exclude_spheres(partitions, box, config.exclusion_regions)
            yield box, partitions


def count_values(partitions: np.ndarray) -> np.ndarray:
    """Counts the voxels (uint8, any shape) of each value: int64 [256]."""
    counts = np.zeros(256, np.int64)
    values, numbers = fastremap.unique(partitions, return_counts=True)  # bincount copies to int64
    counts[values] = numbers
    return counts


def computed_box(volume: Volume, radius: Xyz) -> Box:
    """The box of voxels that are at least `radius` from every face.

    Raises:
      UserError: it is empty.
    """
    box = volume.box.shrink(radius)
    if box.empty:
        raise UserError(
            f'--lom_radius {both_orders(radius)} is too large for {volume.name} of size '
            f'{both_orders(volume.shape_zyx)}; each side must be at least 2 * radius + 1'
        )
    return box


def _check_not_same(input_volume: str, output_volume: str) -> None:
    path, dataset = split_output(output_volume, '--output_volume')
    input_path, input_dataset = split_spec(split_channel(input_volume)[0])
    same_file = Path(path).exists() and Path(path).resolve() == Path(input_path).resolve()
    if same_file and dataset == plain_name(input_dataset):
        raise UserError(
            f'--output_volume is the input, {input_volume}; name another dataset or file'
        )


def _tell_what_has_no_effect(config: PartitionConfig, volume: Volume) -> None:
    above = [threshold for threshold in config.thresholds if threshold > 1]
    if above:
        logging.warning(
            '--thresholds holds %s, but a fraction of the box is at most 1: no voxel reaches that',
            format_numbers(above),
        )
    last = np.array(volume.box.end) - 1
    for *center, radius in config.exclusion_regions:
        nearest = np.clip(np.rint(center), volume.box.start, last)
        if np.sum((nearest - center) ** 2) > radius * radius:
            logging.warning(
                '--exclusion_regions: the sphere %s holds no voxel of %s, %s; x,y,z and the radius are in voxels',
                *(format_numbers((*center, radius)), volume.name, volume.box),
            )


def _exclude_spheres(partitions: np.ndarray, box: Box, spheres: Sequence[Sequence[float]]) -> None:
    """Excludes the voxels of a box that lie in a sphere or on its surface."""
    for *center, radius in spheres:
        low = Xyz(*(int(np.floor(c - radius)) for c in center))
        high = Xyz(*(int(np.ceil(c + radius)) + 1 for c in center))
        near = box.intersection(Box(low, Xyz(*(b - a for a, b in zip(low, high, strict=True)))))
        if near is None:
            continue
        z, y, x = np.ogrid[near.slices_zyx]
        squared = (x - center[0]) ** 2 + (y - center[1]) ** 2 + (z - center[2]) ** 2
        partitions[near.relative_to(box.start).slices_zyx][squared <= radius * radius] = EXCLUDED


def _bounding_boxes(volume: Volume, radius: Xyz) -> np.ndarray:
    """The bounding boxes in the volume's attributes, or its box, shrunk: int64 [n, 2, 3], x, y, z."""
    names = sorted(name for name in volume.attrs if name.startswith('bounding_boxes'))
    boxes = [volume.box]
    if names:
        try:
            rows = [np.asarray(volume.attrs[name], np.int64).reshape(-1, 2, 3) for name in names]
        except ValueError as error:
            raise UserError(
                f'{volume.name}: the attribute {names[0]} does not hold boxes; expected integers '
                '[n, 2, 3], start and size, x,y,z'
            ) from error
        boxes = [Box(Xyz(*start), Xyz(*size)) for start, size in np.concatenate(rows).tolist()]
    shrunk = [box.shrink(radius) for box in boxes]
    rows_shrunk = [(box.start, box.size) for box in shrunk if not box.empty]
    return np.array(rows_shrunk, np.int64).reshape(-1, 2, 3)
