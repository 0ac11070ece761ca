"""Sections in MRC files, through the package mrcfile."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import numpy as np

from ffn.utils.errors import UserError
from ffn.volumes.importing.samples import Samples, StatedSize, check_channel

# IMOD marks its files with this number; a bit of the next says whether bytes are signed.
_IMOD_AT, _IMOD_STAMP, _SIGNED_BYTES = 152, 1146047817, 1


def recognizes(start: bytes) -> bool:
    """Whether a file that starts with these bytes is MRC."""
    return start[208:212] == b'MAP ' or _imod_flags(start) is not None


def _imod_flags(start: bytes) -> int | None:
    """Flags of IMOD in a header; None if it was not written by IMOD."""
    for order in ('<', '>'):
        stamp, flags = np.frombuffer(start[_IMOD_AT : _IMOD_AT + 8].ljust(8), f'{order}i4')
        if stamp == _IMOD_STAMP:
            return int(flags)
    return None


class MrcImage:
    """An MRC file; see `ffn.volumes.importing.image_files.ImageFile`. The first row is y = 0, as it is stored."""

    def __init__(self, path: Path, channel: int | None, stack: contextlib.ExitStack):
        """Opens it.

        Args:
          path: of the file.
          channel: must be None or 0.
          stack: closes it.

        Raises:
          UserError: mrcfile is missing, the axes have another order than x, y, z, or there are several volumes.
        """
        try:
            import mrcfile
        except ImportError as error:
            raise UserError(
                f'{path} is MRC, which needs the package mrcfile: pip install mrcfile'
            ) from error
        check_channel(channel, 1, str(path))
        with warnings.catch_warnings():
            warnings.simplefilter(
                'ignore'
            )  # of what is unusual in a header; what matters is checked here
            mrc = stack.enter_context(mrcfile.mmap(path, 'r', permissive=True))
        header = mrc.header
        if mrc.data is None:
            raise UserError(
                f'{path} cannot be read as MRC: its header and its size do not fit together'
            )
        order = [int(header[name]) for name in ('mapc', 'mapr', 'maps')]
        if order not in ([1, 2, 3], [0, 0, 0]):
            raise UserError(
                f'{path} stores axes in the order {order} (1 is x, 2 y, 3 z); expected 1,2,3: reorder them, '
                'for instance with clip flipyz of IMOD'
            )
        data = mrc.data[np.newaxis] if mrc.data.ndim == 2 else mrc.data
        if data.ndim != 3:
            raise UserError(f'{path} has shape {data.shape}; expected one volume [z, y, x]')
        with open(path, 'rb') as file:
            flags = _imod_flags(file.read(256))
        if data.dtype == np.int8 and flags is not None and not flags & _SIGNED_BYTES:
            data = data.view(np.uint8)
        self._data = data
        self.count = data.shape[0]
        self.shape_yx = data.shape[1:]
        self.samples = Samples(data.dtype.newbyteorder('='), 8 * data.dtype.itemsize)
        angstroms = [float(mrc.voxel_size[axis]) for axis in 'xyz']
        self.stated_size = None
        # 1 Å is what programs write that know nothing.
        if all(n > 0 for n in angstroms) and any(n != 1 for n in angstroms):
            x, y, z = (float(f'{n / 10:.6g}') for n in angstroms)
            self.stated_size = StatedSize((x, y, z), f'the header of {path}')

    def read(self, section: int) -> np.ndarray:
        """See `ImageFile`."""
        return np.array(self._data[section], self.samples.dtype)
