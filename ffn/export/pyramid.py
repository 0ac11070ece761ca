"""A precomputed volume of several resolutions, written block by block."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from absl import logging

from ffn.distributed.blockwise import block_file, run_blocks
from ffn.distributed.pool import Pool
from ffn.export.downsample import downsample_labels
from ffn.export.scales import CHUNK, Scale
from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.labels import NOT_LABELLED
from ffn.utils.running_sum import RunningSum
from ffn.volumes import provenance
from ffn.volumes.missing import OnMissing
from ffn.volumes.shards import Sharding, Shards, precomputed_sharding
from ffn.volumes.targets import write_array
from ffn.volumes.volume import open_volume

# Chunks of a block, along each axis.
BLOCK_CHUNKS = 4
RECORD, WRITTEN = 'export.json', 'export_blocks'
# Tables of blocks are added up once they hold this many segments in total, see `RunningSum`.
_MAX_ROWS, _NO_SIZES = 4_000_000, np.zeros((2, 0), np.uint64)
# Voxels that are read to find what a view opens on.
_LOOKED_AT = 2**28
DOWNSAMPLING = 'most frequent label, background last'


@dataclass(frozen=True)
class Pyramid:
    """A precomputed volume of several scales on disk.

    Attributes:
      folder: of the volume.
      spec: 'path:dataset' of what is exported.
      scales: see `plan_scales`.
      labels: whether these are labels, not an image; image values are averaged, for labels see
        `ffn.export.downsample`.
      dtype: name of the type that is written.
      made_from: stamp of what is exported, see `ffn.volumes.provenance`.
      file: what tells another file of the same name where there is no stamp, see `input_states.foreign_state`.
      unlabelled: a label that means 'not labelled', see `ffn.volumes.unlabelled`.
      sharding: whether chunks are joined to shards.
      write_empty: whether chunks that are 0 everywhere are stored.
      missing: what is done about chunks of the volume that do not exist; no part of what it is.
    """

    folder: Path
    spec: str
    scales: tuple[Scale, ...]
    labels: bool
    dtype: str
    made_from: str = ''
    file: str = ''
    unlabelled: int | None = None
    sharding: Sharding = field(default_factory=Sharding)
    write_empty: bool = False
    missing: OnMissing = 'tell'

    @property
    def chunk(self) -> Xyz:
        """Voxels of a chunk."""
        return self.sharding.default_chunk() or CHUNK

    def check(self) -> None:
        """Checks that the volume can be written as it is asked for.

        Raises:
          UserError: there are no such shards, or shards with empty chunks are asked for.
        """
        if self.write_empty and self.sharding.size is not None:
            raise UserError(
                '--write_empty stores each empty chunk as a file, which --shard_size does not; give one of them'
            )
        for level in range(len(self.scales)):
            self._metadata(level)

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
        provenance.claim(self.folder, self._settings_like_recorded(), RECORD, advice)
        # Without `made_from`: what is made of an export knows it by its file, as before there were such stamps.
        sparse = not self.write_empty
        provenance.write_stamp(self._place(), '', complete=False, sparse=sparse)
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
        provenance.write_stamp(self._place(), '', complete=True, sparse=sparse)

    def read(self, level: int, block: Box) -> tuple[np.ndarray, int]:
        """Reads a block of the volume, or downsamples the scale before.

        Returns:
          The voxels [z, y, x], and how many voxels of the volume in it are not labelled.
        """
        import tensorstore as ts

        if level == 0:
            with open_volume(self.spec, self.missing) as volume:
                if not self.labels:
                    return volume.single_channel().read(block), 0
                labels = volume.require_labels(self.unlabelled)
                data = labels.read(block).astype(self.dtype, copy=False)
                return data, labels.unlabelled.count if labels.unlabelled else 0
        factors, finer = self.scales[level].factors, self.open(level - 1)
        if self.labels:
            box = self.scales[level - 1].box
            return downsample_labels(
                lambda part: np.asarray(finer[part.slices_zyx].read().result()), box, factors, block
            ), 0
        coarse = ts.downsample(finer, list(factors.zyx), 'mean')
        return np.asarray(coarse[block.slices_zyx].read().result()), 0

    def written(self, level: int) -> Path:
        """Folder with a file for each block that is written; those of labels hold the segments' sizes."""
        return self.folder / WRITTEN / str(level)

    def sizes(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Sums the sizes of segments that have been written.

        Returns:
          uint64 [n] ids, ascending; int64 [n] voxels of each; how many voxels are not labelled.
        """
        tables = RunningSum(_add_sizes, lambda table: table.shape[1], _MAX_ROWS, [_NO_SIZES])
        for _, table in self._counted():
            tables.add(table)
        ids, voxels = tables.total()
        is_segment = (ids != 0) & (ids != NOT_LABELLED)
        unlabelled = int(voxels[ids == NOT_LABELLED].sum())
        return ids[is_segment], voxels[is_segment].astype(np.int64), unlabelled

    def _counted(self) -> Iterator[tuple[Box, np.ndarray]]:
        """Blocks of the first scale, and what is in them: uint64 [2, n], ids and voxels; [2, 0] of an image."""
        for block in self._blocks(0):
            path = block_file(self.written(0), block, '.npy')
            yield block, read_checked_npy(path, f'remove {self.folder}, and export again')

    def find_content(self) -> Box:
        """Finds roughly where the volume is not 0, on its coarsest scale; all of it if it is 0 everywhere.

        Where few scales were asked for, the coarsest one may be too large to be read: then, the blocks with labels
        are found, and all of an image.
        """
        level = len(self.scales) - 1
        if math.prod(self.scales[level].box.size) > _LOOKED_AT:
            level, spans = 0, self._spans_of_blocks()
        else:
            spans = self._spans_of_voxels(level)
        low, high = np.full(3, np.inf), np.full(3, -np.inf)
        for first, last in spans:
            low, high = np.minimum(low, first), np.maximum(high, last)
        if (high < low).any():
            return self.scales[0].box
        times = np.array(self.scales[level].voxel_size) / self.scales[0].voxel_size
        start, end = low * times, high * times
        found = Box(Xyz(*start.astype(int).tolist()), Xyz(*(end - start).astype(int).tolist()))
        return found.intersection(self.scales[0].box) or self.scales[0].box

    def _spans_of_voxels(self, level: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        volume = self.open(level)
        for block in self._blocks(level):
            nonzero = np.asarray(volume[block.slices_zyx].read().result()) != 0
            planes = [np.flatnonzero(nonzero.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
            if len(planes[0]):
                first, last = [n[0] for n in planes], [n[-1] + 1 for n in planes]
                yield np.add(block.start, first), np.add(block.start, last)

    def _spans_of_blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for block, (ids, _) in self._counted():
            if ((ids != 0) & (ids != NOT_LABELLED)).any():
                yield np.array(block.start), np.array(block.end)

    def _blocks(self, level: int) -> Iterator[Box]:
        unit = self.sharding.size or self.chunk
        sides = zip(self.chunk, unit, strict=True)
        return blocks(
            self.scales[level].box, Xyz(*(max(n * BLOCK_CHUNKS // m, 1) * m for n, m in sides))
        )

    def _settings(self) -> dict[str, Any]:
        scales = [
            {'start': list(s.box.start), 'size': list(s.box.size), 'voxel_size': list(s.voxel_size)}
            for s in self.scales
        ]
        settings: dict[str, Any] = {
            'volume': self.spec,
            'made_from': self.made_from,
            **({'file': self.file} if self.file else {}),
            'labels': self.labels,
            'dtype': self.dtype,
            'scales': scales,
            **({'downsampling': DOWNSAMPLING} if self.labels else {}),
            **({'shard_xyz': list(self.sharding.size)} if self.sharding.size else {}),
            **({'write_empty': True} if self.write_empty else {}),
        }
        return settings if self.unlabelled is None else {**settings, 'unlabelled': self.unlabelled}

    def _settings_like_recorded(self) -> dict[str, Any]:
        """The settings; warns of an export that an earlier version began, which downsampled in another way."""
        settings, record = self._settings(), self.folder / RECORD
        stored = provenance.read_claim(record) if record.exists() else settings
        if 'file' not in stored:
            settings.pop('file', None)
        elif not self.file:  # not known any more, as an HDF5 file holds an output of ours since
            settings['file'] = stored['file']
        if self.labels and 'downsampling' not in stored:
            logging.warning(
                '%s was begun by an earlier version, whose coarse scales lose thin objects; what is there '
                'stays. To write it anew, remove it',
                self.folder,
            )
            del settings['downsampling']
        return settings

    def _place(self) -> dict[str, Any]:
        kvstore = {'driver': 'file', 'path': str(self.folder.absolute())}
        return {'driver': 'neuroglancer_precomputed', 'kvstore': kvstore}

    def open(self, level: int) -> Any:
        """Opens a scale as [z, y, x]; creates it if it is missing."""
        import tensorstore as ts

        spec = {
            **self._place(),
            'multiscale_metadata': {
                'type': 'segmentation' if self.labels else 'image',
                'data_type': self.dtype,
                'num_channels': 1,
            },
            'scale_metadata': self._metadata(level),
            'store_data_equal_to_fill_value': self.write_empty,
        }
        try:
            store = ts.open(spec, create=True, open=True).result()
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f'{self.folder} cannot be written: {reason}') from error
        return store[..., 0].transpose([2, 1, 0])

    def _metadata(self, level: int) -> dict[str, Any]:
        scale, shard = self.scales[level], self.sharding.size
        metadata: dict[str, Any] = {
            'key': scale.key,
            'size': list(scale.box.size),
            'voxel_offset': list(scale.box.start),
            'resolution': list(scale.voxel_size),
            'chunk_size': list(self.chunk),
            'encoding': 'raw',
        }
        if self.labels:
            metadata |= {
                'encoding': 'compressed_segmentation',
                'compressed_segmentation_block_size': [8, 8, 8],
            }
        if shard is not None:
            metadata['sharding'] = precomputed_sharding(scale.box.size, self.chunk, shard)
        return metadata

    def store(self, level: int, block: Box, data: np.ndarray) -> None:
        """Writes a block of a scale, whole chunks or shards.

        Args:
          level: number of the scale.
          block: where.
          data: [z, y, x].
        """
        shard, origin = self.sharding.size, self.scales[level].box.start
        write_array(self.open(level), block, data, Shards(origin, shard) if shard else None)


def _add_sizes(tables: list[np.ndarray]) -> np.ndarray:
    rows = np.concatenate(tables, axis=1)
    rows = rows[:, np.argsort(rows[0], kind='stable')]
    begins = np.flatnonzero(np.diff(rows[0], prepend=rows[0, :1] + np.uint64(1)))
    sums = np.add.reduceat(rows[1], begins) if len(begins) else rows[1]
    return np.stack([rows[0, begins], sums])


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
        pyramid.store(level, block, data)
    except UserError:
        raise
    except ValueError as error:  # TensorStore's for a disk that is full, and all else
        reason = str(error).splitlines()[0]
        raise UserError(f'{pyramid.folder}: {block} cannot be written: {reason}') from error
    sizes = np.zeros((2, 0), np.uint64)
    if pyramid.labels and level == 0:
        ids, counts = fastremap.unique(data, return_counts=True)
        sizes = np.array([[*ids.tolist(), NOT_LABELLED], [*counts.tolist(), unlabelled]], np.uint64)
    write_checked_npy(mark, sizes)
