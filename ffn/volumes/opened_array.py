"""What a format's module gives when it opens a volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

# Marks volumes that were written here: an attribute of an HDF5 dataset, or a file in the folder of any
# other volume. See `ffn.volumes.provenance`.
MADE_FROM, MADE_FROM_FILE = 'ffn_made_from', 'ffn.json'


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


@dataclass(frozen=True)
class OpenedArray:
    """An array opened for reading.

    Attributes:
      array: [z, y, x] or [c, z, y, x].
      attrs: attributes stored with it.
      origin_zyx: index of its first voxel.
      close: closes the file; None if there is nothing to close.
    """

    array: VoxelArray
    attrs: Mapping[str, Any] = field(default_factory=dict)
    origin_zyx: tuple[int, ...] = (0, 0, 0)
    close: Callable[[], None] | None = None
