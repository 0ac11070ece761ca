"""Volumes served to Neuroglancer in pieces, which are read when the viewer asks for them.

Arrays are [z, y, x] here and [x, y, z] there: a coordinate space z, y, x turns the panels. Labels become unsigned,
as Neuroglancer takes signed ones for an image. Voxels are sent as they are: on one machine, packing them takes
longer. The package's own `encoding='raw'` does not work with NumPy 2.3 (`tostring` is gone).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import neuroglancer
import numpy as np
from neuroglancer import downsample, local_volume

from ffn.utils.geometry import Box
from ffn.volumes.volume import Volume

# Voxels of a volume up to which views of all of it are made by reading all of it, a piece of 256³ at a time.
_SMALL = 2**30
_DOWNSAMPLING, _DOWNSAMPLING_OF_LARGE = 64, 8
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


class ServedArray(local_volume.LocalVolume):
    """An array that Neuroglancer reads in pieces; `invalidate()` makes it read again what it shows.

    Pieces that are so much downsampled that reading them takes too long are empty.
    """

    def __init__(
        self,
        array_xyz: Any,
        start_xyz: Sequence[int],
        voxel_size: Sequence[float],
        labels: bool,
    ):
        """Takes the array.

        Args:
          array_xyz: [x, y, z], such as the `.T` of a NumPy array [z, y, x]; not copied. Labels are unsigned.
          start_xyz: its first voxel.
          voxel_size: x, y, z nanometres.
          labels: whether it is a segmentation.
        """
        super().__init__(
            data=array_xyz,
            dimensions=coordinate_space(voxel_size),
            volume_type='segmentation' if labels else 'image',
            voxel_offset=list(start_xyz),
            encoding='raw',
            max_downsampling=math.inf,
        )
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
          ValueError: there is no such piece.
        """
        factors = [int(n) for n in scale_key.split(',')]
        if len(factors) != 3 or min(factors) < 1 or data_format != 'raw':
            raise ValueError('no such scale')
        shape = [-(-n // f) for n, f in zip(self.shape, factors, strict=True)]
        first, stop = [int(n) for n in start], [int(n) for n in end]
        if not all(0 <= a <= b <= n for a, b, n in zip(first, stop, shape, strict=True)):
            raise ValueError('no such piece')
        size = [b - a for a, b in zip(first, stop, strict=True)]
        if math.prod(factors) > self._limit:
            # One voxel, which the viewer repeats, would do if its protocol had that.
            data = np.zeros(size, self.data_type)
        else:
            data = self._read(first, stop, factors)
        return data.astype(self.data_type, copy=False).tobytes('F'), 'application/octet-stream'

    def _read(self, first: list[int], stop: list[int], factors: list[int]) -> np.ndarray:
        whole = zip(first, stop, factors, self.shape, strict=True)
        piece = np.asarray(self.data[tuple(slice(a * f, min(b * f, n)) for a, b, f, n in whole)])
        if max(factors) == 1:
            return piece
        if self.volume_type == 'segmentation':
            return downsample.downsample_with_striding(piece, factors)
        return downsample.downsample_with_averaging(piece, factors)

    def get_object_mesh(self, object_id: int) -> Any:
        """Makes the mesh of an object; see the base class."""
        if self._voxels > MESHED:
            raise local_volume.MeshesNotSupportedForVolume
        return super().get_object_mesh(object_id)


class ServedVolume(ServedArray):
    """A volume of any size, of which pieces are read on request."""

    def __init__(self, volume: Volume, labels: bool, voxel_size: Sequence[float]):
        """Takes the volume.

        Args:
          volume: [z, y, x]; of labels, as `Volume.require_labels` returns it.
          labels: whether it is a segmentation.
          voxel_size: x, y, z nanometres.
        """
        super().__init__(_Transposed(volume, labels), volume.box.start, voxel_size, labels)
