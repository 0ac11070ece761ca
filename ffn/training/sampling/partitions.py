"""Partition volumes: how much of the box around each labelled voxel its own object fills.

Training takes equally many examples from every class of that fraction, because most voxels of a
volume lie inside thick objects and few on the thin ones that are hard to follow (Januszewski et al.,
arXiv:1611.00421, section on training).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import fastremap
import numpy as np

from ffn.inference import inference_pb2
from ffn.training.sampling.box_counts import box_sums, classify_objects
from ffn.training.sampling.label_blocks import kept_labels, number_kept, read_labels, split
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.utils.progress import progress
from ffn.utils.settings import setting
from ffn.volumes.hdf5_output import replaced_dataset, split_output
from ffn.volumes.masks import MaskBuilder
from ffn.volumes.volume import Volume, open_volume, split_spec

N = TypeVar('N', int, float)

BACKGROUND, EXCLUDED = 0, 255
MAX_THRESHOLDS = EXCLUDED - 2
BLOCK_VOXELS = 2**25
_MAX_THREADS = 4


def _parse_numbers(kind: type[N]) -> Callable[[Sequence[str], str], tuple[N, ...]]:
    def parse(texts: Sequence[str], flag: str) -> tuple[N, ...]:
        try:
            return tuple(kind(text) for text in texts)
        except ValueError as error:
            raise UserError(f'{flag} is {",".join(texts)!r}; expected a list of numbers') from error

    return parse


def _parse_spheres(
    texts: Sequence[str], flag: str
) -> tuple[tuple[float, float, float, float], ...]:
    numbers = _parse_numbers(float)(texts, flag)
    if len(numbers) % 4:
        raise UserError(f'{flag} has {len(numbers)} numbers; expected x,y,z,r for each sphere')
    return tuple(zip(*[iter(numbers)] * 4, strict=True))


def _parse_masks(text_or_path: str, flag: str) -> tuple[inference_pb2.MaskConfig, ...]:
    configs = protos.read_text_or_file(text_or_path, inference_pb2.MaskConfigs(), flag)
    return tuple(configs.masks)


@dataclass(frozen=True)
class PartitionConfig:
    """What partitions are computed for, and where their classes are separated."""

    thresholds: tuple[float, ...] = setting(
        'ascending fractions of the box that separate the classes',
        parse=_parse_numbers(float),
        comma_list=True,
        metavar='F,F,…',
    )
    lom_radius: Xyz = setting(
        "radius in voxels of the box in which an object's voxels are counted",
        parse=Xyz.parse,
        comma_list=True,
        metavar='X,Y,Z',
    )
    id_whitelist: tuple[int, ...] = setting(
        'labels to compute; all others become background. All labels if unset',
        default=(),
        parse=_parse_numbers(int),
        comma_list=True,
        metavar='ID,ID,…',
    )
    exclusion_regions: tuple[tuple[float, float, float, float], ...] = setting(
        'spheres whose voxels are excluded: centre x,y,z and radius in voxels, one after the other',
        default=(),
        parse=_parse_spheres,
        comma_list=True,
        metavar='X,Y,Z,R,…',
    )
    masks: tuple[inference_pb2.MaskConfig, ...] = setting(
        'MaskConfigs in text format, or a file with it; voxels with a masked voxel in their box are '
        'excluded',
        default=(),
        parse=_parse_masks,
        flag='mask_configs',
        metavar='MASKS',
    )
    min_size: int = setting('segments with fewer voxels become background', default=10000)

    def __post_init__(self) -> None:
        given = ','.join(f'{t:g}' for t in self.thresholds)
        if not 1 <= len(self.thresholds) <= MAX_THRESHOLDS:
            raise UserError(
                f'--thresholds has {len(self.thresholds)} values; expected 1 to {MAX_THRESHOLDS}'
            )
        if not all(a < b for a, b in zip(self.thresholds, self.thresholds[1:], strict=False)):
            raise UserError(f'--thresholds is {given}; expected ascending fractions')
        if not np.isfinite(self.thresholds).all():
            raise UserError(f'--thresholds is {given}; expected finite fractions')
        if min(self.lom_radius) < 0:
            raise UserError(f'--lom_radius is {self.lom_radius}; expected no negative number')
        if self.min_size < 0:
            raise UserError(f'--min_size is {self.min_size}; expected 0 or more voxels')
        if any(radius < 0 for *_, radius in self.exclusion_regions):
            raise UserError('--exclusion_regions holds a negative radius; expected x,y,z,r')

    @property
    def count_limits(self) -> np.ndarray:
        """The thresholds as counts: the least count whose fraction of the box reaches each, int64.

        Fractions are quotients of float64; a limit is moved until its quotient reaches the threshold
        and that of the count below does not, so that rounding decides no voxel.
        """
        volume = int(np.prod([2 * r + 1 for r in self.lom_radius]))
        limits = []
        for threshold in self.thresholds:
            limit = int(min(max(np.ceil(threshold * volume), 0), volume + 1))
            while limit <= volume and limit / volume < threshold:
                limit += 1
            while limit > 0 and (limit - 1) / volume >= threshold:
                limit -= 1
            limits.append(limit)
        return np.array(limits, np.int64)


def write_partitions(
    input_volume: str, output_volume: str, config: PartitionConfig, quiet: bool = False
) -> np.ndarray:
    """Computes the partitions of a label volume and writes them to an HDF5 dataset.

    The dataset is uint8 [z, y, x] of the input's shape. Its attributes: `bounding_boxes` (int64
    [n, 2, 3], start and size of the computed boxes, x, y, z), `partition_counts` (int64 [2, m],
    values and how many voxels of the computed part have them) and, for a volume that does not start
    at 0,0,0, `origin_xyz`.

    Args:
      input_volume: labels, any integer type; 0 is background, negative labels are objects.
      output_volume: 'path:dataset' to write; other datasets of an existing file are kept.
      config: what to compute.
      quiet: no progress bar.

    Returns:
      int64 [2, m]: the partition_counts.

    Raises:
      UserError: no such volume, no labels, or a volume too small for lom_radius.
    """
    _check_not_same(input_volume, output_volume)
    with open_volume(input_volume) as opened:
        volume = opened.require_labels()
        computed_box(volume, config.lom_radius)
        bounding_boxes = _bounding_boxes(volume, config.lom_radius)
        with replaced_dataset(output_volume, '--output_volume') as (file, name):
            dataset = file.create_dataset(
                name, shape=volume.shape_zyx, dtype=np.uint8, fillvalue=EXCLUDED,
                chunks=tuple(min(64, n) for n in volume.shape_zyx),
                compression='gzip', compression_opts=1,
            )  # fmt: skip
            counts = np.zeros(256, np.int64)
            for box, partitions in compute_partitions(volume, config, quiet=quiet):
                dataset[box.relative_to(volume.box.start).slices_zyx] = partitions
                counts += count_values(partitions)
            values = np.flatnonzero(counts)
            partition_counts = np.stack([values, counts[values]])
            dataset.attrs['bounding_boxes'] = bounding_boxes
            dataset.attrs['partition_counts'] = partition_counts
            if any(volume.box.start):
                dataset.attrs['origin_xyz'] = volume.box.start
    return partition_counts


def compute_partitions(
    volume: Volume, config: PartitionConfig, block_voxels: int = BLOCK_VOXELS, quiet: bool = False
) -> Iterator[tuple[Box, np.ndarray]]:
    """Computes partitions block by block; a volume of at most block_voxels is one block.

    Args:
      volume: labels [z, y, x].
      config: what to compute.
      block_voxels: how many voxels of labels to hold at a time, borders included.
      quiet: no progress bar.

    Yields:
      A box (absolute) and its partitions, uint8 [z, y, x]. The boxes tile what lies at least
      lom_radius from every face of the volume.

    Raises:
      UserError: the volume is too small for lom_radius, or a mask does not cover it.
    """
    core = computed_box(volume, config.lom_radius)
    whole = read_labels(volume, volume.box) if np.prod(volume.shape_zyx) <= block_voxels else None

    def read(box: Box) -> np.ndarray:
        if whole is None:
            return read_labels(volume, box)
        return whole[box.relative_to(volume.box.start).slices_zyx]

    sizing = [volume.box] if whole is not None else split(volume.box, Xyz(0, 0, 0), block_voxels)
    sizes = progress(map(read, sizing), total=len(sizing), desc='sizes', unit='block', quiet=quiet)
    labels = kept_labels(sizes, volume.dtype, config.min_size, config.id_whitelist)
    limits, threads = config.count_limits, min(_MAX_THREADS, os.cpu_count() or 1)
    with MaskBuilder() as masks:
        blocks = split(core, config.lom_radius, block_voxels)
        for box in progress(blocks, desc='partitions', unit='block', quiet=quiet):
            outer = box.grow(config.lom_radius)
            partitions = classify_objects(
                number_kept(read(outer), labels), config.lom_radius, limits, threads
            )
            mask = masks.build(config.masks, outer)
            if mask is not None:
                near = box_sums(mask, config.lom_radius, config.lom_radius.zyx, box.size.zyx)
                partitions[near > 0] = EXCLUDED
            _exclude_spheres(partitions, box, config.exclusion_regions)
            yield box, partitions


def count_values(partitions: np.ndarray) -> np.ndarray:
    """How many voxels (uint8, any shape) have each value, int64 [256]."""
    counts = np.zeros(256, np.int64)
    values, numbers = fastremap.unique(partitions, return_counts=True)  # bincount copies to int64
    counts[values] = numbers
    return counts


def computed_box(volume: Volume, radius: Xyz) -> Box:
    """The voxels at least `radius` from every face.

    Raises:
      UserError: there are none.
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
    input_path, input_dataset = split_spec(input_volume)
    same_file = Path(path).exists() and Path(path).resolve() == Path(input_path).resolve()
    if same_file and dataset.strip('/') == input_dataset.strip('/'):
        raise UserError(
            f'--output_volume is the input, {input_volume}; name another dataset or file'
        )


def _exclude_spheres(partitions: np.ndarray, box: Box, spheres: Sequence[Sequence[float]]) -> None:
    """Marks the voxels of a box that lie in a sphere, border included."""
    for *centre, radius in spheres:
        low = Xyz(*(int(np.floor(c - radius)) for c in centre))
        high = Xyz(*(int(np.ceil(c + radius)) + 1 for c in centre))
        near = box.intersection(Box(low, Xyz(*(b - a for a, b in zip(low, high, strict=True)))))
        if near is None:
            continue
        z, y, x = np.ogrid[near.slices_zyx]
        squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
        partitions[near.relative_to(box.start).slices_zyx][squared <= radius**2] = EXCLUDED


def _bounding_boxes(volume: Volume, radius: Xyz) -> np.ndarray:
    """The volume's own bounding boxes, or all of it, shrunk: int64 [n, 2, 3], x, y, z."""
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
        boxes = [
            Box(Xyz(*start), Xyz(*size)) for start, size in np.concatenate(rows).tolist()
        ]  # fmt: skip
    shrunk = [box.shrink(radius) for box in boxes]
    return np.array(
        [(box.start, box.size) for box in shrunk if not box.empty], np.int64
    ).reshape(-1, 2, 3)  # fmt: skip
