"""Files that hold sections of a volume: PNG, TIFF and MRC, recognized by their first bytes."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tifffile import TiffFileError

from ffn.utils.errors import UserError
from ffn.volumes import mrc_files, png_files, tiff_files
from ffn.volumes.samples import Meaning, Samples, StatedSize, as_intensities, as_labels

# What the libraries raise for damaged files; decoders of imagecodecs raise RuntimeError.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    RuntimeError,
    TiffFileError,
    struct.error,
    zlib.error,
)
_PNG = b'\x89PNG\r\n\x1a\n'
_TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
_REFUSED = {
    b'\x1f\x8b': ('packed with gzip', 'unpack it with gunzip'),
    b'BZh': ('packed with bzip2', 'unpack it with bunzip2'),
    b'WKW': (
        'one cube of a WKW volume',
        'name the folder that header.wkw is in; images in WKW need no import',
    ),
    b'\x89HDF': ('HDF5', 'name its dataset, FILE.h5:DATASET; images in HDF5 need no import'),
    b'\xff\xd8\xff': ('JPEG, which blurs what it stores', 'convert it to PNG'),
}


class ImageFile(Protocol):
    """A file that is open, and read a section at a time.

    Attributes:
      count: number of sections.
      shape_yx: their height and width.
      samples: how their voxels are stored.
      stated_size: voxel size, None if the file says nothing.
    """

    count: int
    shape_yx: tuple[int, int]
    samples: Samples
    stated_size: StatedSize | None

    def read(self, section: int) -> np.ndarray:
        """Reads a section as it is stored, [y, x] or [y, x, colour]."""


@dataclass(frozen=True)
class ReadAs:
    """How image files are to be read.

    Attributes:
      labels: as labels, not as an image.
      channel: of several, the one to take; None: there must be one.
    """

    labels: bool = False
    channel: int | None = None

    def meaning(self, samples: Samples, name: str) -> Meaning:
        """How sections become voxels; see `as_intensities` and `as_labels`."""
        return (as_labels if self.labels else as_intensities)(samples, name)


@contextlib.contextmanager
def open_image(path: Path, channel: int | None = None) -> Iterator[ImageFile]:
    """Opens a file of sections; what is wrong with it becomes a UserError, also while it is read.

    Args:
      path: of a PNG, TIFF or MRC file.
      channel: of several, the one to take.

    Raises:
      UserError: another kind of file, or a damaged one.
    """
    with open(path, 'rb') as file:
        start = file.read(256)
    for magic, (kind, advice) in _REFUSED.items():
        if start.startswith(magic):
            raise UserError(f'{path} is {kind}; expected PNG, TIFF or MRC: {advice}')
    try:
        with contextlib.ExitStack() as stack:
            if start.startswith(_PNG):
                yield png_files.PngImage(path, start[24], channel, stack)
            elif start.startswith(_TIFF):
                yield tiff_files.TiffImage(path, channel, stack)
            elif mrc_files.recognizes(start):
                yield mrc_files.MrcImage(path, channel, stack)
            else:
                raise UserError(f'{path} is neither PNG nor TIFF nor MRC')
    except UserError:
        raise
    except _DAMAGED as error:
        reason = str(error).partition('\n')[0]
        raise UserError(f'{path} cannot be read as an image: {reason}') from error
