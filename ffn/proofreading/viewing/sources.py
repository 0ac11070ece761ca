"""Volumes served to Neuroglancer in pieces, which are read when the viewer asks for them.

Arrays are [z, y, x] here and [x, y, z] there: a coordinate space z, y, x turns the panels. Labels become unsigned,
as Neuroglancer takes signed ones for an image. Voxels are sent as they are: on one machine, packing them takes
longer. The package's own `encoding='raw'` does not work with NumPy 2.3 (`tostring` is gone).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import neuroglancer
import numpy as np
from neuroglancer import downsample, local_volume

from ffn.evaluation.swc import read_swc
from ffn.proofreading.viewing.skeleton_files import SkeletonFiles
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.volumes.volume import Volume

# How many voxels are read for one that is shown, of volumes up to a size and of larger ones: a view of all of one
# would read most of it.
_SMALL = 2**30
_DOWNSAMPLING, _DOWNSAMPLING_OF_LARGE = 64, 8
# Bytes of a piece: 64³ voxels of an image. For labels of 64 bits this is 32³; larger ones of these take long to send.
_PIECE_LOG2 = 18
# Voxels of a label volume up to which meshes are made when the viewer asks for them: all of it is read then.
MESHED = 2**25
_SIGNED = {'int8': 'uint8', 'int16': 'uint16', 'int32': 'uint32', 'int64': 'uint64'}
_IMAGES = dict.fromkeys(('int64', 'uint64', 'float64', 'float16'), 'float32')


def coordinate_space(voxel_size: Sequence[float]) -> neuroglancer.CoordinateSpace:
    """The space of a volume.

    Args:
      voxel_size: x, y, z nanometres.
    """
    return neuroglancer.CoordinateSpace(names=['x', 'y', 'z'], units='nm', scales=list(voxel_size))


def served_type(dtype: np.dtype, labels: bool) -> np.dtype:
    """The type in which voxels go to Neuroglancer: unsigned for labels, what it can draw for images."""
    name = 'uint8' if dtype.kind == 'b' else dtype.name
    return np.dtype(_SIGNED.get(name, name) if labels else _IMAGES.get(name, name))


class _Transposed:
    """A volume as an array [x, y, z] that is read when it is indexed."""

    def __init__(self, volume: Volume, labels: bool):
        self.shape = tuple(volume.box.size)
        self.dtype = served_type(volume.dtype, labels)
        self._volume = volume

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        spans = [part.indices(n) for part, n in zip(index, self.shape, strict=True)]
        begin = zip(spans, self._volume.box.start, strict=True)
        start_xyz = [span[0] + offset for span, offset in begin]
        box = Box.from_zyx(start_xyz[::-1], [span[1] - span[0] for span in spans[::-1]])
        return self._volume.read(box).astype(self.dtype, copy=False).T

    def transpose(self) -> np.ndarray:
        """All of it, [z, y, x], for meshes."""
        return np.ascontiguousarray(self[(slice(None),) * 3].T)


class Level(NamedTuple):
    """A scale that is stored.

    Attributes:
      factors: x, y, z voxels of the finest scale that are one of it.
      array: [x, y, z].
      start: its first voxel, x, y, z.
    """

    factors: Sequence[int]
    array: Any
    start: Sequence[int]


class ServedArray(local_volume.LocalVolume):
    """An array that Neuroglancer reads in pieces; `invalidate()` makes it read again what it shows.

    Where a view shows so much that too much would have to be read, it stays empty there, and `tell` is called.
    """

    def __init__(
        self,
        array_xyz: Any,
        start_xyz: Sequence[int],
        voxel_size: Sequence[float],
        labels: bool,
        tell: Callable[[str], None] = lambda text: None,
        coarser: Sequence[Level] = (),
    ):
        """Takes the array.

        Args:
          array_xyz: [x, y, z], such as the `.T` of a NumPy array [z, y, x]; not copied. Labels are unsigned.
          start_xyz: its first voxel.
          voxel_size: x, y, z nanometres.
          labels: whether it is a segmentation.
          tell: is called with what the user should know, in any thread.
          coarser: the same at other scales, from which distant views are read.
        """
        super().__init__(
            data=array_xyz,
            dimensions=coordinate_space(voxel_size),
            volume_type='segmentation' if labels else 'image',
            voxel_offset=list(start_xyz),
            encoding='raw',
            max_voxels_per_chunk_log2=_PIECE_LOG2
            - int(math.log2(np.dtype(array_xyz.dtype).itemsize)),
            max_downsampling=math.inf,
        )
        self._tell = tell
        self._levels = [Level((1, 1, 1), self.data, [int(n) for n in start_xyz]), *coarser]
        self._voxels = math.prod(self.shape)
        self._limit = _DOWNSAMPLING if self._voxels <= _SMALL else _DOWNSAMPLING_OF_LARGE

    def get_encoded_subvolume(
        self, data_format: str, start: np.ndarray, end: np.ndarray, scale_key: str
    ) -> tuple[bytes, str]:
        """Reads a piece.

        Args:
          data_format: 'raw'.
          start: its first voxel x, y, z, counted from the first one of the volume, in voxels of the scale.
          end: behind its last voxel, likewise.
          scale_key: 'x,y,z', how many voxels become one.

        Raises:
          ValueError: there is no such piece, or it cannot be read, which is told.
        """
        factors = [int(n) for n in scale_key.split(',')]
        if len(factors) != 3 or min(factors) < 1 or data_format != 'raw':
            raise ValueError('no such scale')
        shape = [-(-n // f) for n, f in zip(self.shape, factors, strict=True)]
        first, stop = [int(n) for n in start], [int(n) for n in end]
        if not all(0 <= a <= b <= n for a, b, n in zip(first, stop, shape, strict=True)):
            raise ValueError('no such piece')
        size = [b - a for a, b in zip(first, stop, strict=True)]
        try:
            data = self._read(first, size, factors)
        except UserError as error:
            self._tell(str(error))
            raise ValueError('it cannot be read') from error
        return data.astype(self.data_type, copy=False).tobytes('F'), 'application/octet-stream'

    def _read(self, first: list[int], size: list[int], factors: list[int]) -> np.ndarray:
        """Reads a piece at a scale; zeros where too much would have to be read for it."""
        fitting = (
            level
            for level in self._levels
            if all(f % g == 0 for f, g in zip(factors, level.factors, strict=True))
        )
        level = max(fitting, key=lambda level: math.prod(level.factors))
        ratio = [f // g for f, g in zip(factors, level.factors, strict=True)]
        read = np.zeros(size, self.data_type)
        if math.prod(ratio) > self._limit:
            self._tell(
                'zoom in: the volume has no scale that is coarse enough (ffn export writes them)'
            )
            return read
        # A coarse scale that begins between its voxels is drawn less than one of them aside.
        begin = [
            max((s + a * f) // g - t, 0)
            for s, a, f, g, t in zip(
                *(self._levels[0].start, first, factors, level.factors, level.start), strict=True
            )
        ]
        ends = (
            min(b + n * r, m)
            for b, n, r, m in zip(begin, size, ratio, level.array.shape, strict=True)
        )
        piece = self._downsampled(np.asarray(level.array[tuple(map(slice, begin, ends))]), ratio)
        place = tuple(map(slice, piece.shape))
        read[place] = piece[tuple(map(slice, size))]
        return read

    def _downsampled(self, piece: np.ndarray, ratio: list[int]) -> np.ndarray:
        if max(ratio) == 1:
            return piece
        if self.volume_type == 'segmentation':
            return downsample.downsample_with_striding(piece, ratio)
        return downsample.downsample_with_averaging(piece, ratio)

    def get_object_mesh(self, object_id: int) -> Any:
        """Makes the mesh of an object; see the base class."""
        if self._voxels > MESHED:
            raise local_volume.MeshesNotSupportedForVolume
        return super().get_object_mesh(object_id)


class ServedVolume(ServedArray):
    """A volume of any size, of which pieces are read on request."""

    def __init__(
        self,
        volume: Volume,
        labels: bool,
        voxel_size: Sequence[float],
        coarser: Sequence[Volume] = (),
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Takes the volume.

        Args:
          volume: [z, y, x]; of labels, as `Volume.require_labels` returns it.
          labels: whether it is a segmentation.
          voxel_size: x, y, z nanometres.
          coarser: the same at other scales, from which distant views are read.
          tell: see `ServedArray`.
        """
        levels = [
            Level(find_factors(volume, one), _Transposed(one, labels), one.box.start)
            for one in coarser
        ]
        array = _Transposed(volume, labels)
        super().__init__(array, volume.box.start, voxel_size, labels, tell, levels)


def find_factors(fine: Volume, coarse: Volume) -> list[int]:
    """How many voxels x, y, z of one scale are one of another."""
    sizes: tuple[Sequence[float], Sequence[float]] = coarse.shape_zyx.xyz, fine.shape_zyx.xyz
    if fine.voxel_size is not None and coarse.voxel_size is not None:
        sizes = fine.voxel_size.xyz, coarse.voxel_size.xyz
    return [max(round(b / a), 1) for a, b in zip(*sizes, strict=True)]


class ServedSkeletons(neuroglancer.skeleton.SkeletonSource):
    """SWC files, read when they are looked at."""

    def __init__(
        self,
        skeletons: SkeletonFiles,
        voxel_size: Sequence[float],
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Takes the files.

        Args:
          skeletons: the files.
          voxel_size: x, y, z nanometres.
          tell: see `ServedArray`.
        """
        super().__init__(coordinate_space(skeletons.unit or voxel_size))
        self._files, self._tell = skeletons.files, tell

    def get_skeleton(self, object_id: int) -> neuroglancer.skeleton.Skeleton | None:
        """Reads the skeleton of a segment; None if there is none."""
        if object_id not in self._files:
            return None
        try:
            points, edges = read_swc(self._files[object_id])
        except (UserError, OSError) as error:
            self._tell(str(error))
            return None
        return neuroglancer.skeleton.Skeleton(points, edges)
