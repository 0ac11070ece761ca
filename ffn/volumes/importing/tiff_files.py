"""Sections in TIFF files, through tifffile: plain, BigTIFF, ImageJ (also of one directory), OME and volumetric."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.utils.errors import UserError
from ffn.volumes.importing.samples import Samples, check_channel
from ffn.volumes.importing.tiff_pages import (
    WHITE_IS_ZERO,
    checked_pages,
    decode,
    errors_raised,
    open_tiff,
)
from ffn.volumes.importing.tiff_sizes import read_size

_PALETTE = 3


class TiffImage:
    """A TIFF file; see `ffn.volumes.importing.image_files.ImageFile`."""

    def __init__(self, path: Path, channel: int | None, stack: contextlib.ExitStack):
        """Opens it and reads its directories.

        Args:
          path: of the file.
          channel: of several, the one to take.
          stack: closes it.

        Raises:
          UserError: pages differ, voxels are missing, there are several channels and none is chosen, or
            there are more axes than x, y, z and channels.
        """
        self._path = path
        with errors_raised(path):
            self._tif = open_tiff(path, stack)
            pages = checked_pages(self._tif, path)
            found = self._tif.series
        page = pages[0]
        if self._tif.is_ome and len(found) > 1:
            raise UserError(
                f'{path} holds {len(found)} images of OME-TIFF; expected one: export it alone'
            )
        self._series = [_Series(one, path, channel) for one in found]
        shapes = {one.frame_shape for one in self._series}
        if len(shapes) > 1:
            a, b = sorted(shapes)[:2]
            raise UserError(f'sections differ: {b} in {path}, but {a} before')
        self.count = sum(one.count for one in self._series)
        self._check_count(len(pages))
        first = self._series[0]
        self.shape_yx = first.frame_shape[0], first.frame_shape[1]
        palette = None
        if page.photometric == _PALETTE and page.colormap is not None:
            # Of 16 bits, but some programs write 8.
            shift = 8 if page.colormap.max() > 255 else 0
            palette = (page.colormap >> shift).astype(np.uint8).T
        self.samples = Samples(
            np.dtype(page.dtype).newbyteorder('='),
            int(page.bitspersample),
            first.colours,
            page.photometric == WHITE_IS_ZERO,
            palette,
        )
        self.stated_size = read_size(self._tif, path)

    def _check_count(self, pages: int) -> None:
        metadata = self._tif.imagej_metadata or {}
        said = int(metadata.get('images', 1))
        here = max(pages, sum(one.stored for one in self._series))
        if said > here:
            raise UserError(
                f'{self._path} is incomplete: ImageJ wrote {said} images, but {here} are there'
            )

    def read(self, section: int) -> np.ndarray:
        """See `ffn.volumes.importing.image_files.ImageFile`."""
        for one in self._series:
            if section < one.count:
                return one.read(section)
            section -= one.count
        raise IndexError(section)


class _Series:
    """Pages that belong together: an array whose last axes are those of a section."""

    def __init__(self, series: Any, path: Path, channel: int | None):
        self._series, self._path = series, path
        axes, shape = series.axes, tuple(series.shape)
        start = axes.index('Y')
        if not axes[start:].startswith('YX') or len(axes) - start > 3:
            raise UserError(f'{path} has axes {axes}; expected y and x last')
        self._outer = shape[:start]
        self._frame = shape[start:]
        self.stored = math.prod(self._outer)
        self._last: tuple[int, np.ndarray] | None = None
        names = axes[:start]
        colour_axis = names.find('S')
        self._pick_colour: int | None = None
        colours = shape[axes.index('S')] if 'S' in axes else 1
        if 'C' in names:
            at = names.index('C')
            chosen = check_channel(channel, shape[at], str(path))
        else:
            at, chosen = -1, 0
            if channel is not None:
                self._pick_colour, colours = check_channel(channel, colours, str(path)), 1
        self.colours = colours
        depth = self._section_axis(names, shape)
        self.count = 1 if depth < 0 else shape[depth]
        self._position = (at, chosen, depth, colour_axis)
        self.frame_shape = (*self._frame[:2], self.colours)

    def _section_axis(self, names: str, shape: Sequence[int]) -> int:
        """The axis that is z: named so, or the only one that is neither a channel nor a colour."""
        long = [i for i, name in enumerate(names) if name not in 'CS' and shape[i] > 1]
        if len(long) > 1:
            sizes = ', '.join(f'{names[i]} {shape[i]}' for i in long)
            raise UserError(
                f'{self._path} has several axes besides y and x: {sizes}; expected sections alone: export one '
                'time point'
            )
        if long and names[long[0]] == 'T':
            logging.warning(
                '%s has %d time points and no z; they are taken as sections',
                self._path,
                shape[long[0]],
            )
        return long[0] if long else -1

    def read(self, section: int) -> np.ndarray:
        """Reads a section, [y, x] or [y, x, colour]."""
        channel_axis, channel, depth, colour_axis = self._position
        index = [0] * len(self._outer)
        if channel_axis >= 0:
            index[channel_axis] = channel
        if depth >= 0:
            index[depth] = section
        if colour_axis < 0:
            data = self._read_frame(index)
            if data.ndim == 3 and self._pick_colour is not None:
                return data[..., self._pick_colour]
            return data
        planes = []
        wanted = range(self._outer[colour_axis])
        for index[colour_axis] in wanted if self._pick_colour is None else [self._pick_colour]:
            planes.append(self._read_frame(index))
        return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)

    def _read_frame(self, index: Sequence[int]) -> np.ndarray:
        number = int(np.ravel_multi_index(index, self._outer)) if self._outer else 0
        page = self._series.keyframe
        if self._series.dataoffset is not None and page.is_memmappable:
            return self._read_raw(number)
        pages = self._series.pages
        of_page, within = divmod(number, self.stored // len(pages))
        if self._last is None or self._last[0] != of_page:
            self._last = None  # so that no more than one is in memory
            data = decode(pages[of_page], self._path)
            self._last = of_page, data.reshape(-1, *self._frame)
        return self._last[1][within]

    def _read_raw(self, number: int) -> np.ndarray:
        """Reads a frame of voxels that lie in the file one after the other, without decoding."""
        tif = self._series.parent
        dtype = np.dtype(self._series.dtype).newbyteorder(tif.byteorder)
        size = math.prod(self._frame)
        tif.filehandle.seek(self._series.dataoffset + number * size * dtype.itemsize)
        data = np.frombuffer(tif.filehandle.read(size * dtype.itemsize), dtype)
        if data.size < size:
            raise UserError(f'{self._path} is incomplete: it ends within section {number}')
        return data.astype(dtype.newbyteorder('=')).reshape(self._frame)
