"""The whole volume on disk: HDF5, or Zarr, N5 and Neuroglancer precomputed through TensorStore.

Coordinates stay absolute: a voxel has the index that it has in the image. HDF5, Zarr and N5 arrays
therefore begin at 0 and end with the box, and what lies before the box is background that takes no
space; precomputed volumes have an offset.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.hdf5 import open_hdf5, replaced_dataset, split_output
from ffn.volumes.opened_array import MADE_FROM, MADE_FROM_FILE
from ffn.volumes.provenance import write_stamp
from ffn.volumes.specs import split_spec
from ffn.volumes.tensorstores import DRIVERS, context, parse_url


class Target(Protocol):
    """Where blocks of labels go."""

    def write(self, box: Box, labels: np.ndarray) -> None:
        """Writes uint64 [z, y, x] labels of a box."""


@dataclass(frozen=True)
class OutputSpec:
    """What is written where.

    Attributes:
      spec: 'path:dataset' for HDF5, or a URL, see `ffn.volumes.volume`.
      box: the voxels.
      chunk: x, y, z voxels of a chunk.
      voxel_size: x, y, z nanometres, for precomputed volumes.
    """

    spec: str
    box: Box
    chunk: Xyz
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def parallel(self) -> bool:
        """Whether several processes may write at a time, each its own chunks."""
        return '://' in self.spec

    @property
    def has_voxel_size(self) -> bool:
        """Whether the volume says how large its voxels are."""
        return self.spec.startswith('precomputed://')

    @property
    def origin(self) -> Xyz:
        """First voxel of the first chunk."""
        return self.box.start if self.has_voxel_size else Xyz(0, 0, 0)

    def blocks_of(self, core: Box) -> Box:
        """The chunks that belong to a core: those with their first voxel in it.

        The chunks of the first cores begin before these. May be empty.
        """
        start, end = (
            Xyz(*(
                o + -(-(v - o) // c) * c
                for v, c, o in zip(corner, self.chunk, self.origin, strict=True)
            ))
            for corner in (core.start, core.end)
        )  # fmt: skip
        start = Xyz(*(
            s - c if first == low and s > first else s
            for s, c, first, low in zip(start, self.chunk, core.start, self.box.start, strict=True)
        ))  # fmt: skip
        whole = Box(start, Xyz(*(max(b - a, 0) for a, b in zip(start, end, strict=True))))
        return whole.intersection(self.box) or Box(core.start, Xyz(0, 0, 0))

    def check(self, flag: str = '--output') -> None:
        """Checks that there can be such a volume, before there is anything to write.

        Args:
          flag: it comes from.

        Raises:
          UserError: another form of name, or voxels before 0, which precomputed volumes alone have.
        """
        kinds = 'FILE.h5:DATASET, or zarr://, zarr3://, n5:// or precomputed:// before a path'
        if self.parallel:
            place = self._spec()['kvstore']
            place = place['path'] if isinstance(place, dict) else ''
        else:
            try:
                place, dataset = split_output(self.spec, flag)
            except UserError as error:
                raise UserError(f'{error}; it may be {kinds}') from error
            if dataset.startswith('/') and Path(place).name in DRIVERS:
                raise UserError(f'{flag} {self.spec}: expected {kinds}')
        if place:
            there = next(path for path in (Path(place), *Path(place).parents) if path.exists())
            if not os.access(there, os.W_OK):
                raise UserError(f'{flag} {self.spec} cannot be made: {there} may not be written to')
        if min(self.box.start) < 0 and not self.spec.startswith('precomputed://'):
            raise UserError(
                f'{flag} {self.spec} begins at 0, and the box at {self.box.start}; give a '
                'precomputed:// one'
            )

    def exists(self) -> bool:
        """Whether there is something at the place already."""
        if self.parallel:
            kvstore = self._spec()['kvstore']
            if not isinstance(kvstore, dict):
                return self._opens()
            path = Path(kvstore['path'])
            # What holds a stamp only, or is about to, is no volume yet.
            return path.is_file() or (
                path.is_dir()
                and not all(file.name.startswith(MADE_FROM_FILE) for file in path.iterdir())
            )
        path, dataset = split_output(self.spec, '--output')
        if not Path(path).exists():
            return False
        with open_hdf5(path) as file:
            return dataset in file

    def _opens(self) -> bool:
        """Whether there is a volume at a URL."""
        import tensorstore as ts

        try:
            ts.open(self._spec(), context=context(), open=True, read=True).result()
        except (ValueError, OSError, NotImplementedError):
            return False
        return True

    def _spec(self) -> dict[str, Any]:
        return parse_url(*split_spec(self.spec))

    def create(self, stamp: str) -> None:
        """Makes an empty volume for `open_parallel`, where there is none.

        Args:
          stamp: see `ffn.volumes.provenance`.

        Raises:
          UserError: it cannot be made.
        """
        import tensorstore as ts

        write_stamp(self.spec, stamp, complete=False)  # what is there without is another's
        spec = {**self._spec(), **self._schema()}
        try:
            ts.open(spec, context=context(), create=True, open=True).result()
        except (ValueError, OSError, NotImplementedError) as error:
            raise UserError(f'--output {self.spec} cannot be made: {_first(error)}') from error

    def _schema(self) -> dict[str, Any]:
        shape, chunk = list(self.box.end.zyx), list(self.chunk.zyx)
        names = ['z', 'y', 'x']
        driver = self._spec()['driver']
        if driver == 'zarr':
            return {'metadata': {
                'shape': shape, 'chunks': chunk, 'dtype': '<u8', 'dimension_separator': '/',
                'compressor': {'id': 'blosc', 'cname': 'zstd', 'clevel': 3, 'shuffle': 1},
            }}  # fmt: skip
        if driver == 'zarr3':
            grid = {'name': 'regular', 'configuration': {'chunk_shape': chunk}}
            codecs = [
                {'name': 'bytes', 'configuration': {'endian': 'little'}},
                {'name': 'zstd', 'configuration': {'level': 3}},
            ]
            return {'metadata': {'shape': shape, 'data_type': 'uint64', 'chunk_grid': grid,
                                 'codecs': codecs, 'dimension_names': names}}  # fmt: skip
        if driver == 'n5':
            return {'metadata': {
                'dimensions': shape[::-1], 'blockSize': chunk[::-1], 'dataType': 'uint64',
                'axes': names[::-1], 'compression': {'type': 'gzip', 'level': 1},
            }}  # fmt: skip
        return {
            'multiscale_metadata': {
                'type': 'segmentation', 'data_type': 'uint64', 'num_channels': 1
            },
            'scale_metadata': {
                'size': list(self.box.size), 'voxel_offset': list(self.box.start),
                'resolution': list(self.voxel_size), 'chunk_size': list(self.chunk),
                'encoding': 'compressed_segmentation',
                'compressed_segmentation_block_size': [8, 8, 8],
            },
        }  # fmt: skip

    def finish(self, stamp: str) -> None:
        """Notes that all of the volume has been written; only then others read it.

        Args:
          stamp: that of `create`.
        """
        write_stamp(self.spec, stamp, complete=True)

    def open_parallel(self) -> Target:
        """Opens the volume that `create` made.

        Raises:
          UserError: it is not there.
        """
        import tensorstore as ts

        try:
            store = ts.open(
                self._spec(), context=context(), open=True, read=True, write=True
            ).result()
        except (ValueError, OSError, NotImplementedError) as error:
            raise UserError(f'--output {self.spec} cannot be opened: {_first(error)}') from error
        return _Store(store)

    @contextlib.contextmanager
    def replace_hdf5(self, stamp: str) -> Iterator[Target]:
        """Yields an HDF5 dataset that takes its place when the block succeeds; one writer.

        Args:
          stamp: see `ffn.volumes.provenance`.

        Raises:
          UserError: see `ffn.volumes.hdf5.replaced_dataset`.
        """
        with replaced_dataset(self.spec, '--output') as (file, name):
            chunks = tuple(min(c, n) for c, n in zip(self.chunk.zyx, self.box.end.zyx, strict=True))
            dataset = file.create_dataset(
                name, self.box.end.zyx, np.uint64, chunks=chunks, compression='gzip',
                compression_opts=1, shuffle=True,
            )  # fmt: skip
            dataset.attrs[MADE_FROM] = stamp
            yield _Dataset(dataset)


class _Dataset:
    def __init__(self, dataset: h5py.Dataset):
        self._dataset = dataset

    def write(self, box: Box, labels: np.ndarray) -> None:
        self._dataset[box.slices_zyx] = labels


class _Store:
    def __init__(self, store: Any):
        import tensorstore as ts

        labels = list(store.domain.labels)
        order = [labels.index(axis) for axis in 'zyx'] if 'x' in labels else [0, 1, 2]
        if store.rank == 4:
            store = store[..., 0]
        self._store = store[ts.d[order].transpose[:]]

    def write(self, box: Box, labels: np.ndarray) -> None:
        try:
            self._store[box.slices_zyx].write(labels).result()
        except ValueError as error:  # TensorStore's for a disk that is full, and all else
            raise UserError(f'{box} cannot be written: {_first(error)}') from error


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].partition(' [tensorstore_spec')[0]
