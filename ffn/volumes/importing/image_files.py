"""Files that hold sections of a volume: PNG, TIFF and MRC, recognized by their first bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ffn.utils.errors import UserError, reason
from ffn.volumes.importing import mrc_files, png_files, tiff_files
from ffn.volumes.importing.samples import Meaning, Samples, StatedSize, as_intensities, as_labels

# Zstandard's; bytes for a byte.
_BEST_COMPRESSION = 50_000
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
            image = _open(path, start, channel, stack)
            _check_size(image, path)
            yield image
    except (UserError, MemoryError):
        raise
    except Exception as error:  # libraries raise any for a damaged file
        raise UserError(f'{path} cannot be read as an image: {reason(error)}') from error


def _check_size(image: ImageFile, path: Path) -> None:
    """Refuses a file without voxels, and one that declares more than it can hold however well compressed."""
    sides = image.count, *image.shape_yx
    if min(sides) < 1:
        raise UserError(f'{path} holds no voxel: its sides are z,y,x {",".join(map(str, sides))}')
    height, width = image.shape_yx
    declared = height * width * image.samples.colours * image.samples.dtype.itemsize
    if declared > path.stat().st_size * _BEST_COMPRESSION:
        raise UserError(
            f'{path} is damaged: sections of {width}×{height} (x,y) would be {declared:,} bytes, more than a '
            f'file of {path.stat().st_size:,} holds'
        )


def _open(path: Path, start: bytes, channel: int | None, stack: contextlib.ExitStack) -> ImageFile:
    if start.startswith(_PNG):
        return png_files.PngImage(path, start[24], channel, stack)
    if start.startswith(_TIFF):
        return tiff_files.TiffImage(path, channel, stack)
    if mrc_files.recognizes(start):
        return mrc_files.MrcImage(path, channel, stack)
    raise UserError(f'{path} is neither PNG nor TIFF nor MRC')
