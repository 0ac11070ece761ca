"""Sections in PNG files, through Pillow."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from ffn.utils.errors import UserError
from ffn.volumes.importing.pillow_limit import any_size
from ffn.volumes.importing.samples import Samples, StatedSize, check_channel

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# Pillow's modes → number of colours, and the type of a number.
_PNG_MODES: dict[str, tuple[int, type]] = {
    '1': (1, np.bool_),
    'L': (1, np.uint8),
    'P': (1, np.uint8),
    'I': (1, np.uint16),
    'I;16': (1, np.uint16),
    'I;16B': (1, np.uint16),
    'LA': (2, np.uint8),
    'RGB': (3, np.uint8),
    'RGBA': (4, np.uint8),
}


def _check_chunks(path: Path) -> None:
    """Checks that the chunks of a file end within it: Pillow makes room for whatever length one declares.

    Raises:
      UserError: one does not.
    """
    size, at = path.stat().st_size, len(_SIGNATURE)
    with open(path, 'rb') as file:
        while at + 8 <= size:
            file.seek(at)
            length, kind = struct.unpack('>I4s', file.read(8))
            at += length + 12
            if at > size:
                raise UserError(
                    f'{path} cannot be read as an image: it needs {at:,} bytes, and has {size:,}'
                )
            if kind == b'IEND':
                return


class PngImage:
    """A PNG file; see `ffn.volumes.importing.image_files.ImageFile`."""

    count = 1
    stated_size: StatedSize | None = None

    def __init__(self, path: Path, bits: int, channel: int | None, stack: contextlib.ExitStack):
        """Opens it.

        Args:
          path: of the file.
          bits: of a number, as its header says.
          channel: of several, the one to take.
          stack: closes it.

        Raises:
          UserError: it has another type than those of PNG, or is incomplete.
        """
        _check_chunks(path)
        stack.enter_context(any_size())
        self._image = stack.enter_context(Image.open(path, formats=('PNG',)))
        if self._image.mode not in _PNG_MODES:
            raise UserError(
                f'{path} has Pillow mode {self._image.mode}; expected grey of 8 or 16 bit'
            )
        colours, dtype = _PNG_MODES[self._image.mode]
        self._channel = None
        if channel is not None:
            self._channel, colours = check_channel(channel, colours, str(path)), 1
        # Pillow halves numbers of 16 bit where there are several, and stretches those of 2 and 4 bit.
        if bits == 16 and dtype == np.uint8:
            raise UserError(f'{path} has colours of 16 bit; expected 8 bit, or grey')
        self._stretched = 255 // (2**bits - 1) if self._image.mode == 'L' else 1
        palette = None
        if self._image.mode == 'P':
            palette = np.zeros((256, 3), np.uint8)
            listed = np.array(self._image.getpalette('RGB'), np.uint8).reshape(-1, 3)
            palette[: len(listed)] = listed
        self.shape_yx = self._image.height, self._image.width
        self.samples = Samples(np.dtype(dtype), bits, colours, palette=palette)

    def read(self, section: int) -> np.ndarray:
        """See `ffn.volumes.importing.image_files.ImageFile`."""
        data = np.asarray(self._image)
        if self._channel is not None and data.ndim == 3:
            data = data[..., self._channel]
        if self._stretched > 1 and self.samples.bits < 8:
            return data // self._stretched
        return data.astype(self.samples.dtype, copy=False)
