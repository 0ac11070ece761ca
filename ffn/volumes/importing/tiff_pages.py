"""The pages of TIFF files, and what tifffile makes of doubtful ones.

Every page must be like the first, no strip may be missing, and what tifffile only logs as an error is one.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tifffile import TiffFile, TiffPage

from ffn.utils.errors import UserError
from ffn.volumes.importing.pillow_limit import any_size

WHITE_IS_ZERO = 0


def open_tiff(path: Path, stack: contextlib.ExitStack) -> TiffFile:
    """Opens a file; one of an OME-TIFF data set of several files as if it were alone.

    Args:
      path: of the file.
      stack: closes it.

    Raises:
      UserError: one of several files with channels, which cannot be told apart in one of them.
    """
    tif = stack.enter_context(TiffFile(path))
    # The files of an OME-TIFF data set each describe all of it: read by itself, each is its own sections.
    named = set(re.findall(r'FileName="([^"]*)"', tif.ome_metadata or ''))
    if len(named) > 1:
        channels = re.search(r'SizeC="(\d+)"', tif.ome_metadata or '')
        if channels and int(channels[1]) > 1:
            raise UserError(
                f'{path} is one of {len(named)} files of an OME-TIFF data set with {channels[1]} channels; '
                'save it as one file'
            )
        tif = stack.enter_context(TiffFile(path, is_ome=False))
    return tif


@contextlib.contextmanager
def errors_raised(path: Path) -> Iterator[None]:
    """Makes errors of what tifffile logs as such and passes over, such as pages it cannot find."""
    logger, collector = logging.getLogger('tifffile'), _Collector()
    logger.addFilter(collector)
    try:
        yield
    finally:
        logger.removeFilter(collector)
    if collector.messages:
        raise UserError(f'{path} is damaged: {" ".join(collector.messages[0].split())}')


class _Collector(logging.Filter):
    """Keeps the errors of this thread, and lets pass what others say of their files."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        if record.levelno >= logging.ERROR:
            self.messages.append(record.getMessage())
        return False


def checked_pages(tif: TiffFile, path: Path) -> list[TiffPage]:
    """Reads the directories of all full-size pages.

    Args:
      tif: the open file.
      path: its path, for errors.

    Raises:
      UserError: there is none, pages differ, or strips are missing.
    """
    size = tif.filehandle.size
    pages: list[TiffPage] = []
    for one in tif.pages:
        page = one.aspage()
        if page.is_reduced:
            continue
        name = f'{path} (page {page.index})' if page.index else str(path)
        missing = sum(not count for count in page.databytecounts)
        if missing or not page.databytecounts:
            raise UserError(f'{name} lacks {missing or "all"} of its strips or tiles')
        last = max(a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if last > size:
            raise UserError(f'{name} is incomplete: it needs {last} bytes, and the file has {size}')
        if pages and _kind(page) != _kind(pages[0]):
            raise UserError(
                f'sections differ: {_describe(page)} in {name}, but {_describe(pages[0])} in '
                f'{path} (page 0)'
            )
        pages.append(page)
    if not pages:
        raise UserError(f'{path} holds no image')
    return pages


def _kind(page: TiffPage) -> tuple[Any, ...]:
    return page.shape, page.dtype, page.bitspersample, page.photometric


def _describe(page: TiffPage) -> str:
    return f'{page.imagewidth}×{page.imagelength} (x,y) {page.dtype}'


def decode(page: Any, path: Path) -> np.ndarray:
    """Decompresses a page; what needs the package imagecodecs is tried with Pillow if that is missing.

    Args:
      page: of tifffile; None: one that metadata list and that is not there.
      path: of the file.

    Returns:
      Its voxels, in the shape of the page.

    Raises:
      UserError: it is not there, or cannot be read without imagecodecs.
    """
    if page is None:
        raise UserError(f'{path} lacks a section that its metadata lists')
    try:
        return np.asarray(page.asarray())
    except (ValueError, ImportError) as error:
        # For Zstandard, tifffile looks for a module of Python 3.14 instead.
        if 'imagecodecs' not in str(error) and not isinstance(error, ImportError):
            raise
        data = _decode_with_pillow(page, path)
        if data is None:
            name = getattr(page.keyframe.compression, 'name', page.keyframe.compression)
            raise UserError(
                f'{path} is compressed with {name}, which needs the package imagecodecs: '
                'pip install imagecodecs'
            ) from error
        return data


def _decode_with_pillow(page: Any, path: Path) -> np.ndarray | None:
    """The page as Pillow reads it; None where that is not what tifffile would read."""
    page = page.aspage()
    if page.photometric == WHITE_IS_ZERO or page.bitspersample not in (8, 16):
        return None
    try:
        with any_size(), Image.open(path, formats=('TIFF',)) as image:
            image.seek(page.index)
            data = np.asarray(image)
    except (OSError, SyntaxError, ValueError, EOFError):
        return None
    if data.shape != page.shape or data.dtype.kind != 'u':
        return None
    return data if data.dtype.itemsize == page.dtype.itemsize else None
