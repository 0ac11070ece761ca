"""What the numbers in an image file mean: as intensities, and as labels.

Intensities keep the type and the order of the stored numbers: signed ones stay signed, floating-point ones
become float32. Labels are the stored numbers themselves, also where a palette gives them colours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ffn.utils.errors import UserError

# Whole numbers up to this one are exact in float32, which ImageJ uses for labels of more than 16 bits.
_EXACT_FLOAT = 2**24


@dataclass(frozen=True)
class Samples:
    """How the voxels of an image file are stored.

    Attributes:
      dtype: NumPy type of a number, native.
      bits: of a number; less than the type has for 1, 2, 4 or 12 bits.
      colours: numbers of a voxel: 1 for grey, 3 or 4 for colour, 2 for grey with opacity.
      white_is_zero: whether the smallest number means white.
      palette: colours that the numbers stand for, [n, 3], 0 to 255; None: the numbers are intensities.
    """

    dtype: np.dtype
    bits: int
    colours: int = 1
    white_is_zero: bool = False
    palette: np.ndarray | None = None


@dataclass(frozen=True)
class Meaning:
    """How sections become intensities or labels.

    Attributes:
      dtype: of the result.
      convert: takes [y, x] or [y, x, colour] as stored; returns [y, x].
      note: what is worth telling, '' if nothing is.
    """

    dtype: np.dtype
    convert: Callable[[np.ndarray], np.ndarray]
    note: str = ''


def as_intensities(samples: Samples, name: str) -> Meaning:
    """Reads an image.

    Args:
      samples: how it is stored.
      name: of the file, for errors.

    Raises:
      UserError: colours, 1 bit, or integers of more than 16 bits, which are rather labels.
    """
    if samples.colours != 1:
        raise UserError(
            f'{name} has {samples.colours} numbers per voxel (colour or opacity); expected grey of 8 or 16 '
            'bit: convert it, or choose one with --channel'
        )
    dtype = samples.dtype
    if samples.palette is not None:
        grey = samples.palette[:, 0]
        if (samples.palette != grey[:, np.newaxis]).any():
            raise UserError(
                f'{name} has a palette of colours; expected grey of 8 or 16 bit: convert it first'
            )
        return Meaning(np.dtype(np.uint8), lambda data: grey[data])
    if samples.bits < 2 or dtype.kind not in 'iuf' or (dtype.kind != 'f' and dtype.itemsize > 2):
        raise UserError(
            f'{name} holds {"1 bit" if samples.bits < 2 else dtype}; expected grey of 8 or 16 bit, or '
            'floating-point numbers: convert it first, or, if it holds labels, use ffn import-labels'
        )
    note = '' if dtype.kind == 'u' else f'{dtype} values are kept as they are'
    if dtype.kind == 'f' and dtype != np.float32:
        dtype, note = np.dtype(np.float32), f'{dtype} values are stored as float32'
    if samples.white_is_zero:
        return Meaning(dtype, _inverted(dtype, samples.bits), 'white is zero: values are inverted')
    if _stretch(samples.bits) > 1:
        return Meaning(dtype, lambda data: data * dtype.type(_stretch(samples.bits)))
    return Meaning(dtype, lambda data: data.astype(dtype, copy=False), note)


def _stretch(bits: int) -> int:
    """What brings intensities of fewer than 8 bits to the range of 8 bits."""
    return 255 // (2**bits - 1) if bits < 8 else 1


def _inverted(dtype: np.dtype, bits: int) -> Callable[[np.ndarray], np.ndarray]:
    if dtype.kind == 'u':
        stretch = _stretch(bits)
        return lambda data: ((2**bits - 1 - data.astype(np.int32)) * stretch).astype(dtype)
    if dtype.kind == 'i':
        return lambda data: np.invert(data.astype(dtype))
    return lambda data: -data.astype(dtype)


def as_labels(samples: Samples, name: str) -> Meaning:
    """Reads labels: integers of any size, ids as colours, or whole floating-point numbers.

    Args:
      samples: how they are stored.
      name: of the file, for errors.

    Raises:
      UserError: another type; what is in the numbers is checked when they are converted.
    """
    dtype = samples.dtype
    if samples.colours in (3, 4) and dtype == np.uint8:
        return Meaning(
            np.dtype(np.uint32),
            lambda data: _join_colours(data, name),
            'colours are taken as ids, red·65536 + green·256 + blue (as VAST writes them)',
        )
    if samples.colours != 1 or dtype.kind not in 'biuf':
        raise UserError(
            f'{name} holds {samples.colours} × {dtype} per voxel; expected labels as integers, or as RGB of '
            '8 bit'
        )
    if dtype.kind == 'f':
        return Meaning(
            np.dtype(np.int32),
            lambda data: _whole_numbers(data, name),
            f'{dtype} values are taken as labels, since all are whole numbers',
        )
    dtype = np.dtype(np.uint8) if dtype.kind == 'b' else dtype
    note = 'white is zero, but labels are the numbers as stored' if samples.white_is_zero else ''
    return Meaning(dtype, lambda data: data.astype(dtype, copy=False), note)


def _join_colours(data: np.ndarray, name: str) -> np.ndarray:
    if data.shape[2] == 4 and np.ptp(data[..., 3]) > 0:
        raise UserError(
            f'{name} has opacity that varies; ids as colours are RGB: remove the fourth channel'
        )
    red, green, blue = (data[..., i].astype(np.uint32) for i in range(3))
    return (red << 16) | (green << 8) | blue


def _whole_numbers(data: np.ndarray, name: str) -> np.ndarray:
    if not (np.isfinite(data).all() and (data == np.rint(data)).all()):
        raise UserError(f'{name} holds numbers that are not whole; labels must be integers')
    if np.abs(data).max(initial=0) > _EXACT_FLOAT:
        raise UserError(
            f'{name} holds floating-point labels beyond {_EXACT_FLOAT}, where they are no longer exact: '
            'save them as integers'
        )
    return data.astype(np.int32)


@dataclass(frozen=True)
class StatedSize:
    """The voxel size that a file states, perhaps not of all axes.

    Attributes:
      xyz: nanometres; None where the file says nothing.
      source: where in the file it is, such as 'its ImageJ spacing'.
    """

    xyz: tuple[float | None, float | None, float | None]
    source: str

    def __str__(self) -> str:
        shown = ','.join('?' if n is None else f'{n:g}' for n in self.xyz)
        return f'x,y,z {shown} nm ({self.source})'


def check_channel(channel: int | None, count: int, what: str) -> int:
    """Chooses a channel.

    Args:
      channel: of --channel, from 0; None: none was chosen.
      count: how many there are.
      what: the file, for errors.

    Raises:
      UserError: there are several and none was chosen, or it does not exist.
    """
    if channel is None and count > 1:
        raise UserError(f'{what} has {count} channels; choose one with --channel, 0 to {count - 1}')
    if channel is not None and not 0 <= channel < count:
        raise UserError(f'--channel is {channel}, but {what} has {count}, counted from 0')
    return channel or 0
