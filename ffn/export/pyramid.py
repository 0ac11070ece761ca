"""A precomputed volume of several resolutions, written block by block."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fastremap
import numpy as np

from ffn.distributed.blockwise import block_file, run_blocks
from ffn.distributed.pool import Pool
from ffn.utils.atomic import write_npy
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes import provenance
from ffn.volumes.unlabelled import NOT_LABELLED
from ffn.volumes.volume import open_volume

CHUNK = Xyz(64, 64, 64)
# Chunks of a block, along each axis.
BLOCK_CHUNKS = 4
RECORD, WRITTEN = 'export.json', 'export_blocks'


@dataclass(frozen=True)
class Scale:
    """One resolution.

    Attributes:
      box: the voxels.
      voxel_size: x, y, z nanometres.
      factors: x, y, z voxels of the scale before that become one.
    """

    box: Box
    voxel_size: tuple[float, float, float]
    factors: Xyz

    @property
    def key(self) -> str:
        """Name of the folder."""
        return '_'.join(f'{size:g}' for size in self.voxel_size)

    def coarsen(self) -> Scale:
        """Returns the next coarser scale: halves the axes along which voxels are smallest."""
        least = min(self.voxel_size)
        factors = Xyz(*(2 if size < 2 * least else 1 for size in self.voxel_size))
        start, end = (
            Xyz(*(rounded(v / f) for v, f in zip(corner, factors, strict=True)))
            for rounded, corner in ((math.floor, self.box.start), (math.ceil, self.box.end))
        )
        size = Xyz(*(b - a for a, b in zip(start, end, strict=True)))
        x, y, z = (s * f for s, f in zip(self.voxel_size, factors, strict=True))
        return Scale(Box(start, size), (x, y, z), factors)


def plan_scales(box: Box, voxel_size: Sequence[float], max_scales: int = 0) -> list[Scale]:
    """Plans the scales of a volume, until one chunk holds it.

    Args:
      box: the voxels.
      voxel_size: x, y, z nanometres.
      max_scales: number of scales at most; 0: no limit.
    """
    x, y, z = map(float, voxel_size)
    scales = [Scale(box, (x, y, z), Xyz(1, 1, 1))]
    while any(n > c for n, c in zip(scales[-1].box.size, CHUNK, strict=True)):
        if len(scales) == max_scales:
            break
        scales.append(scales[-1].coarsen())
    return scales


@dataclass(frozen=True)
class Pyramid:
    """A precomputed volume of several scales on disk.

    Attributes:
      folder: of the volume.
      spec: 'path:dataset' of what is exported.
      scales: see `plan_scales`.
      labels: whether these are labels, not an image: of labels the most frequent one counts, image values
        are averaged.
      dtype: name of the type that is written.
      made_from: stamp of what is exported, see `ffn.volumes.provenance`.
      unlabelled: a label that means 'not labelled', see `ffn.volumes.unlabelled`.
    """

    folder: Path
    spec: str
    scales: tuple[Scale, ...]
    labels: bool
    dtype: str
    made_from: str = ''
    unlabelled: int | None = None

    def write(self, pool: Pool, quiet: bool = False) -> None:
        """Writes what is missing of all scales, each from the one before.

        Args:
          pool: runs the tasks.
          quiet: no progress bar.

        Raises:
          UserError: the folder holds the export of something else.
        """
        if not (self.folder / RECORD).exists() and (self.folder / 'info').exists():
            raise UserError(f'{self.folder} holds a volume of another kind; give another --output')
        advice = f'give another --output, or remove {self.folder}'
        provenance.claim(self.folder, self._settings(), RECORD, advice)
        for level, scale in enumerate(self.scales):
            self.open(level)
            run_blocks(
                pool,
                write_block,
                (self, level),
                functools.partial(self._blocks, level),
                self.written(level),
                f'{self.folder.name} {scale.key}',
                quiet,
                '.npy',
            )

    def read(self, level: int, block: Box) -> tuple[np.ndarray, int]:
        """Reads a block of the volume, or downsamples the scale before.

        Returns:
          The voxels [z, y, x], and how many voxels of the volume in it are not labelled.
        """
        import tensorstore as ts

        if level == 0:
            with open_volume(self.spec) as volume:
                if not self.labels:
                    return volume.single_channel().read(block), 0
                labels = volume.require_labels(self.unlabelled)
                data = labels.read(block).astype(self.dtype)
                return data, labels.unlabelled.count if labels.unlabelled else 0
        factors = list(self.scales[level].factors.zyx)
        method: Literal['mode', 'mean'] = 'mode' if self.labels else 'mean'
        finer = ts.downsample(self.open(level - 1), factors, method)
        return np.asarray(finer[block.slices_zyx].read().result()), 0

    def written(self, level: int) -> Path:
        """Folder with a file for each block that is written; those of labels hold the segments' sizes."""
        return self.folder / WRITTEN / str(level)

    def sizes(self) -> tuple[dict[int, int], int]:
        """Sums the sizes of segments that have been written.

        Returns:
          id → voxels, and how many voxels are not labelled.
        """
        sizes: dict[int, int] = {}
        for block in self._blocks(0):
            path = block_file(self.written(0), block, '.npy')
            for label, count in np.load(path).T.tolist():
                sizes[label] = sizes.get(label, 0) + count
        sizes.pop(0, None)
        return sizes, sizes.pop(NOT_LABELLED, 0)

    def find_content(self) -> Box:
        """Finds roughly where the volume is not 0, on its coarsest scale; all of it if it is 0 everywhere."""
        last = self.scales[-1]
        nonzero = np.argwhere(np.asarray(self.open(len(self.scales) - 1).read().result()))
        if not len(nonzero):
            return self.scales[0].box
        times = np.array(last.voxel_size) / self.scales[0].voxel_size
        start = np.add(last.box.start, nonzero.min(axis=0)[::-1]) * times
        end = np.add(last.box.start, nonzero.max(axis=0)[::-1] + 1) * times
        found = Box(Xyz(*start.astype(int).tolist()), Xyz(*(end - start).astype(int).tolist()))
        return found.intersection(self.scales[0].box) or self.scales[0].box

    def _blocks(self, level: int) -> Iterator[Box]:
        return blocks(self.scales[level].box, Xyz(*(n * BLOCK_CHUNKS for n in CHUNK)))

    def _settings(self) -> dict[str, Any]:
        scales = [
            {'start': list(s.box.start), 'size': list(s.box.size), 'voxel_size': list(s.voxel_size)}
            for s in self.scales
        ]
        settings: dict[str, Any] = {
            'volume': self.spec,
            'made_from': self.made_from,
            'labels': self.labels,
            'dtype': self.dtype,
            'scales': scales,
        }
        return settings if self.unlabelled is None else {**settings, 'unlabelled': self.unlabelled}

    def open(self, level: int) -> Any:
        """Opens a scale as [z, y, x]; creates it if it is missing."""
        import tensorstore as ts

        scale = self.scales[level]
        metadata: dict[str, Any] = {
            'key': scale.key,
            'size': list(scale.box.size),
            'voxel_offset': list(scale.box.start),
            'resolution': list(scale.voxel_size),
            'chunk_size': list(CHUNK),
            'encoding': 'raw',
        }
        if self.labels:
            metadata |= {
                'encoding': 'compressed_segmentation',
                'compressed_segmentation_block_size': [8, 8, 8],
            }
        spec = {
            'driver': 'neuroglancer_precomputed',
            'kvstore': {'driver': 'file', 'path': str(self.folder.absolute())},
            'multiscale_metadata': {
                'type': 'segmentation' if self.labels else 'image',
                'data_type': self.dtype,
                'num_channels': 1,
            },
            'scale_metadata': metadata,
        }
        try:
            store = ts.open(spec, create=True, open=True).result()
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'{self.folder} cannot be written: {reason}') from error
        return store[..., 0].transpose([2, 1, 0])


def write_block(pyramid: Pyramid, level: int, block: Box, mark: Path) -> None:
    """Writes a block of a scale and marks it as written.

    Args:
      pyramid: the volume.
      level: number of the scale; finer ones are complete.
      block: whole chunks.
      mark: npy to write when the block is written.

    Raises:
      UserError: the volume cannot be read.
    """
    try:
        data, unlabelled = pyramid.read(level, block)
        pyramid.open(level)[block.slices_zyx].write(data).result()
    except UserError:
        raise
    except ValueError as error:  # TensorStore's for a disk that is full, and all else
        reason = str(error).splitlines()[0]
        raise UserError(f'{pyramid.folder}: {block} cannot be written: {reason}') from error
    sizes = np.zeros((2, 0), np.uint64)
    if pyramid.labels and level == 0:
        ids, counts = fastremap.unique(data, return_counts=True)
        sizes = np.array([[*ids.tolist(), NOT_LABELLED], [*counts.tolist(), unlabelled]], np.uint64)
    write_npy(mark, sizes)
