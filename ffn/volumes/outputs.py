"""Writing label volumes: HDF5, or Zarr, N5 and Neuroglancer precomputed through TensorStore.

Coordinates stay absolute: a voxel has the same index as in the image. HDF5, Zarr and N5 arrays therefore
begin at 0 and end with the box; the space before the box is background, which is not stored. Precomputed
volumes have an offset.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.hdf5 import open_hdf5, replaced_dataset, split_output
from ffn.volumes.hdf5_links import find_item
from ffn.volumes.layout import Layout
from ffn.volumes.opened_array import MADE_FROM, MADE_FROM_FILE
from ffn.volumes.provenance import open_folder, write_stamp
from ffn.volumes.scales import Folder
from ffn.volumes.servers import check_answered, context
from ffn.volumes.shards import Shards, check_shard, precomputed_sharding
from ffn.volumes.specs import split_spec
from ffn.volumes.targets import Dataset, Store, Target, first_line
from ffn.volumes.tensorstores import DRIVERS, parse_url
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size, same_size
from ffn.volumes.volume import open_volume

VoxelSize = tuple[float, float, float]
# Formats with shards.
_SHARDED = ('zarr3://', 'precomputed://')


@dataclass(frozen=True)
class OutputSpec:
    """A label volume to be written.

    Attributes:
      spec: 'path:dataset' for HDF5, or a URL, see `ffn.volumes.specs`.
      box: the voxels.
      chunk: x, y, z voxels of a chunk.
      voxel_size: x, y, z nanometres, stored with the volume; None: not known, which precomputed volumes do not
        allow.
      shard: x, y, z voxels of a shard, whole chunks; None: each chunk is a file.
    """

    spec: str
    box: Box
    chunk: Xyz
    voxel_size: VoxelSize | None = None
    shard: Xyz | None = None

    def __post_init__(self) -> None:
        if self.has_voxel_size and self.voxel_size is None:
            raise UserError(
                f'{self.spec} stores the size of its voxels, which nothing says: give --voxel_size X,Y,Z '
                'in nanometres, or set voxel_size in the request'
            )

    @property
    def parallel(self) -> bool:
        """Whether several processes may write at a time, each its own chunks."""
        return '://' in self.spec

    @property
    def has_voxel_size(self) -> bool:
        """Whether the format stores a voxel size."""
        return self.spec.startswith('precomputed://')

    @property
    def origin(self) -> Xyz:
        """First voxel of the first chunk."""
        return self.box.start if self.has_voxel_size else Xyz(0, 0, 0)

    @property
    def unit(self) -> Xyz:
        """Voxels of what one task must write as a whole: a chunk, or a shard where there are shards."""
        return self.shard or self.chunk

    @property
    def shards(self) -> Shards | None:
        """Where the shards are, None if there are none."""
        return None if self.shard is None else Shards(self.origin, self.shard)

    def whole_chunks(self, core: Box) -> Box:
        """The chunks, or shards, that a core is to write: those whose first voxel is in it.

        Those of the first cores may begin before the cores. The result may be empty.
        """
        start = Xyz(*map(self._next_chunk, range(3), core.start))
        end = Xyz(*map(self._next_chunk, range(3), core.end))
        # The first chunk of the volume may begin before the box.
        start = Xyz(
            *(
                at - size if first == low and at > first else at
                for at, size, first, low in zip(
                    start, self.unit, core.start, self.box.start, strict=True
                )
            )
        )
        whole = Box(start, Xyz(*(max(b - a, 0) for a, b in zip(start, end, strict=True))))
        return whole.intersection(self.box) or Box(core.start, Xyz(0, 0, 0))

    def _next_chunk(self, axis: int, voxel: int) -> int:
        """Where the first chunk begins that does not begin before a voxel."""
        origin, size = self.origin[axis], self.unit[axis]
        return origin - (origin - voxel) // size * size

    def check(self, flag: str = '--output') -> None:
        """Checks that the volume can be written, before anything is computed.

        Args:
          flag: the flag that errors name.

        Raises:
          UserError: the name has another form, the place may not be written to, or voxels lie before 0,
            which only precomputed volumes allow.
        """
        kinds = 'FILE.h5:DATASET, or zarr://, zarr3://, n5:// or precomputed:// before a path'
        if self.parallel:
            place = self._spec()['kvstore']
            place = place['path'] if isinstance(place, dict) else ''
        else:
            try:
                place, _ = split_output(self.spec, flag)
            except UserError as error:
                raise UserError(f'{error}; it may be {kinds}') from error
            if split_spec(self.spec)[1].startswith('/') and Path(place).name in DRIVERS:
                raise UserError(f'{flag} {self.spec}: expected {kinds}')
        if place:
            there = next(path for path in (Path(place), *Path(place).parents) if path.exists())
            if there != Path(place) and not there.is_dir():
                raise UserError(f'{flag} {self.spec} cannot be made: {there} is not a folder')
            folder = there if there.is_dir() else there.parent  # of HDF5, which is written anew
            for needed, mode in ((there, os.W_OK), (folder, os.W_OK | os.X_OK)):
                if not os.access(needed, mode):
                    raise UserError(
                        f'{flag} {self.spec} cannot be made: {needed} may not be written to'
                    )
        if min(self.box.start) < 0 and not self.spec.startswith('precomputed://'):
            raise UserError(
                f'{flag} {self.spec} begins at 0, and the box at {self.box.start}; give a '
                'precomputed:// one'
            )
        self._check_shards(flag)

    def _check_shards(self, flag: str) -> None:
        if self.shard is None:
            return
        if not self.spec.startswith(_SHARDED):
            raise UserError(
                f'{flag} {self.spec} has no shards; --shard_size is for {" and ".join(_SHARDED)}'
            )
        check_shard(self.shard, self.chunk)
        if self.has_voxel_size:
            precomputed_sharding(self.box.size, self.chunk, self.shard)

    def exists(self) -> bool:
        """Whether there is already a volume at this place."""
        if self.parallel:
            kvstore = self._spec()['kvstore']
            if not isinstance(kvstore, dict):
                return self._opens()
            path = Path(kvstore['path'])
            # A folder with only a stamp, or its temporary file, is not a volume yet.
            return path.is_file() or (
                path.is_dir()
                and not all(file.name.startswith(MADE_FROM_FILE) for file in path.iterdir())
            )
        name, dataset = split_output(self.spec, '--output')
        if not Path(name).exists():
            return False
        with open_hdf5(name) as file:
            return find_item(file, dataset) is not None

    def check_stored_voxel_size(self, flag: str = '--output') -> None:
        """Compares the voxel size with that of the volume, if it exists: going on does not change it.

        Args:
          flag: the flag that errors name.

        Raises:
          UserError: they differ. A volume that has none is warned of.
        """
        if self.voxel_size is None or not self.exists():
            return
        with open_volume(self.spec) as volume:
            stored = volume.voxel_size
        wanted = KnownVoxelSize(self.voxel_size, '--voxel_size, or the request or its training')
        if stored is None:
            logging.warning(
                '%s %s was begun without a voxel size, and gets none; to store %s, remove it',
                flag,
                self.spec,
                wanted,
            )
        elif not same_size(stored.xyz, wanted.xyz):
            raise UserError(
                f'{flag} {self.spec} exists with voxels of {stored}, and not {wanted}; remove it, give another '
                'one, or the same voxel size'
            )

    def _opens(self) -> bool:
        """Whether there is a volume that can be opened.

        Raises:
          UnreadableError: a server does not say.
        """
        import tensorstore as ts

        try:
            ts.open(self._spec(), context=context(), open=True, read=True).result()
        except (ValueError, OSError, NotImplementedError) as error:
            check_answered(error, self.spec)
            return False
        return True

    def _spec(self) -> dict[str, Any]:
        return parse_url(*split_spec(self.spec))

    def create(self, stamp: str, anew: bool = False) -> None:
        """Creates an empty volume for `open_parallel`, unless it exists.

        Args:
          stamp: see `ffn.volumes.provenance`.
          anew: all of it is written once more; it is not complete until then.

        Raises:
          UserError: it cannot be created.
        """
        import tensorstore as ts

        write_stamp(self.spec, stamp, False, anew)  # a volume without one is another's
        spec, layout = self._spec(), self._layout()
        spec |= layout.metadata(spec['driver'])
        is_new = not self.exists()
        if spec['driver'] == 'zarr3' and self._opens():
            del spec['metadata']['codecs']  # those of an earlier version have no checksums
        if is_new and layout.voxel_size:  # one of an earlier version may lack it
            if spec['driver'] == 'zarr3':
                spec['metadata']['attributes'] = layout.resolution_zyx()
            elif spec['driver'] == 'n5':
                spec['metadata'] |= layout.resolution_xyz()
        try:
            if spec['driver'] == 'zarr':
                _complete_metadata(spec['kvstore'])
            ts.open(spec, context=context(), create=True, open=True).result()
            if is_new and layout.voxel_size and spec['driver'] == 'zarr':
                attributes = json.dumps(layout.resolution_zyx()).encode()
                open_folder(spec['kvstore']).write('.zattrs', attributes).result()
        except (ValueError, OSError, NotImplementedError) as error:
            raise UserError(f'--output {self.spec} cannot be made: {first_line(error)}') from error

    def _layout(self) -> Layout:
        # Requests hold float32: 4.6 is not to become 4.599999904632568.
        size = tuple(float(f'{n:.7g}') for n in self.voxel_size or ())
        return Layout(self.box, self.chunk, self.shard, size)

    def finish(self, stamp: str) -> None:
        """Marks the volume as complete; other commands refuse to read it before.

        Args:
          stamp: that given to `create`.
        """
        write_stamp(self.spec, stamp, complete=True)

    def open_parallel(self) -> Target:
        """Opens the volume that `create` made; several processes may.

        Raises:
          UserError: it cannot be opened.
        """
        import tensorstore as ts

        try:
            store = ts.open(
                self._spec(), context=context(), open=True, read=True, write=True
            ).result()
        except (ValueError, OSError, NotImplementedError) as error:
            raise UserError(
                f'--output {self.spec} cannot be opened: {first_line(error)}'
            ) from error
        return Store(store, self.shards)

    @contextlib.contextmanager
    def replace_hdf5(self, stamp: str) -> Iterator[Target]:
        """Yields an HDF5 dataset that takes its place when the block succeeds; there is one writer.

        Args:
          stamp: see `ffn.volumes.provenance`.

        Raises:
          UserError: see `ffn.volumes.hdf5.replaced_dataset`.
        """
        with replaced_dataset(self.spec, '--output') as (file, name):
            dataset = file.create_dataset(
                name,
                self.box.end.zyx,
                np.uint64,
                chunks=tuple(map(min, self.chunk.zyx, self.box.end.zyx)),
                compression='gzip',
                compression_opts=1,
                shuffle=True,
            )
            dataset.attrs[MADE_FROM] = stamp
            if self.voxel_size is not None:
                dataset.attrs['resolution'] = self._layout().voxel_size[::-1]
            yield Dataset(dataset)


def _complete_metadata(kvstore: Any) -> None:
    """Says what empty chunks hold, in a Zarr 2 volume that was begun by an earlier version, which did not."""
    metadata = Folder(kvstore).read_json('.zarray')
    if metadata.get('fill_value', 0) is None:
        content = json.dumps({**metadata, 'fill_value': 0}).encode()
        open_folder(kvstore).write('.zarray', content).result()


def choose_voxel_size(
    flag: VoxelSize | None, request: VoxelSize | None, *others: KnownVoxelSize | None
) -> VoxelSize | None:
    """The voxel size of an output, x, y, z nanometres; warns of each of several that differs from it.

    Args:
      flag: --voxel_size, which counts before all others.
      request: of the inference request, as it was completed from the training; counts next.
      others: of what the output is made from.

    Returns:
      None if nothing says.
    """
    known = [
        None if flag is None else KnownVoxelSize(flag, '--voxel_size'),
        None if request is None else KnownVoxelSize(request, 'the request or its training'),
        *others,
    ]
    size = agreed_voxel_size([one for one in known if one is not None])
    return None if size is None else size.xyz
