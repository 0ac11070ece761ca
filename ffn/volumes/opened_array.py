"""What a format's module gives when it opens a volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ffn.volumes.axes import Arrangement
from ffn.volumes.missing import MissingChunks
from ffn.volumes.units import KnownVoxelSize

# Marks volumes that were written here: an attribute of an HDF5 dataset, or a file in the folder of any
# other volume. See `ffn.volumes.provenance`.
MADE_FROM, MADE_FROM_FILE = 'ffn_made_from', 'ffn.json'
# Attribute of other HDF5 datasets that were written here; see `ffn.volumes.hdf5_content`.
CONTENT = 'ffn_content'
# Attribute with the value of chunks that are not stored, as xarray calls it.
FILL_VALUE = '_FillValue'


class VoxelArray(Protocol):
    """An array that is read when it is indexed."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of the voxels."""

    def __getitem__(self, index: Any, /) -> Any:
        """Reads the voxels at an index, a tuple of slices that counts from 0."""


class ArrangedArray:
    """An array whose axes are brought into another order when it is read."""

    def __init__(self, array: VoxelArray, arrangement: Arrangement):
        """Wraps an array; see `ffn.volumes.axes.arrange`."""
        self.shape = tuple(array.shape[i] for i in arrangement.order)
        self.dtype = array.dtype
        self._array, self._arrangement = array, arrangement

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        order, dropped = self._arrangement.order, self._arrangement.dropped
        stored: list[Any] = [0] * (len(order) + len(dropped))
        for axis, part in zip(order, index, strict=True):
            stored[axis] = part
        kept = sorted(order)
        data = np.asarray(self._array[tuple(stored)])
        return np.ascontiguousarray(data.transpose([kept.index(axis) for axis in order]))


@dataclass(frozen=True)
class OpenedArray:
    """An array opened for reading.

    Attributes:
      array: [z, y, x] or [c, z, y, x].
      attrs: attributes stored with it.
      origin_zyx: index of its first voxel.
      close: closes the file; None if there is nothing to close.
      voxel_size: of a voxel, where the file says so.
      origin_from: what says where it begins; '' where nothing does, and 0,0,0 is assumed.
      missing: what is done about chunks that do not exist; None where all do.
    """

    array: VoxelArray
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin_zyx: tuple[int, ...] = (0, 0, 0)
    close: Callable[[], None] | None = None
    voxel_size: KnownVoxelSize | None = None
    origin_from: str = ''
    missing: MissingChunks | None = None
