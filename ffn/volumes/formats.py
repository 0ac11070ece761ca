"""The formats that volumes are read from, each with the module that reads it.

`tensorstores` reads all that TensorStore knows (Zarr, N5, precomputed); another driver of TensorStore is a line in its
table `DRIVERS`. For any other format, write a module with the two functions of `Format` and list it in `FORMATS`.
Formats that are also written have their place in `ffn.volumes.outputs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ffn.utils.errors import UserError
from ffn.volumes import hdf5, tensorstores, wkw_datasets
from ffn.volumes.opened_array import OpenedArray
from ffn.volumes.specs import FORM, split_scale, split_spec


class Format(Protocol):
    """What the module of a format provides."""

    def recognizes(self, spec: str) -> bool:
        """Whether a string names a volume of this format."""

    def open_array(self, spec: str) -> OpenedArray:
        """Opens it for reading, without locking it.

        Raises:
          UserError: it cannot be opened.
        """


# The first that recognizes a string opens it.
FORMATS: tuple[Format, ...] = (wkw_datasets, tensorstores, hdf5)


def open_array(spec: str) -> OpenedArray:
    """Opens the array that a string names; see `ffn.volumes.volume.open_volume`.

    Raises:
      UserError: nothing is there, no format recognizes the string, or the array cannot be opened.
    """
    for format_ in FORMATS:
        if format_.recognizes(spec):
            return format_.open_array(spec)
    path = Path(split_spec(split_scale(spec)[0])[0])
    if not path.exists():
        scales = tensorstores.describe_scales(path.parent)
        raise UserError(f'no such file or folder: {path}{scales or f"; expected {FORM}"}')
    raise UserError(f'{spec!r} names no dataset; expected {FORM}')
