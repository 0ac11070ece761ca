"""Physical sizes and offsets as other programs store them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from absl import logging

from ffn.utils.errors import UserError
from ffn.volumes.axes import Arrangement

# Voxels: beyond, floats do not tell one from the next.
_FARTHEST = 2.0**53
# Unit → nanometres.
_NANOMETRES = {
    'nm': 1.0,
    'nanometer': 1.0,
    'nanometre': 1.0,
    'nanometers': 1.0,
    'um': 1e3,
    'µm': 1e3,
    'μm': 1e3,
    'micron': 1e3,
    'microns': 1e3,
    'micrometer': 1e3,
    'micrometre': 1e3,
    'micrometers': 1e3,
    'mm': 1e6,
    'millimeter': 1e6,
    'millimetre': 1e6,
    'm': 1e9,
    'meter': 1e9,
    'metre': 1e9,
    'cm': 1e7,
    'centimeter': 1e7,
    'inch': 2.54e7,
    'a': 0.1,
    'å': 0.1,
    'angstrom': 0.1,
    'pm': 1e-3,
    'picometer': 1e-3,
}


def nanometres(unit: Any, default: float | None = None) -> float | None:
    """How many nanometres a unit has; None (or `default`, where none is given) for others."""
    if not unit:
        return default
    return _NANOMETRES.get(str(unit).strip().lower())


@dataclass(frozen=True)
class KnownVoxelSize:
    """The voxel size of a volume, and who says so.

    Attributes:
      xyz: x, y, z, nanometres.
      source: where it is from, such as 'its attribute resolution'.
    """

    xyz: tuple[float, float, float]
    source: str

    def of(self, what: str) -> KnownVoxelSize:
        """The same, with the volume named in its source."""
        return KnownVoxelSize(self.xyz, f'{what}, {self.source}')

    def __str__(self) -> str:
        return f'x,y,z {",".join(f"{n:g}" for n in self.xyz)} nm ({self.source})'


def same_size(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two voxel sizes agree but for rounding: within a thousandth on every axis."""
    return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(one, other, strict=True))


def agreed_voxel_size(known: Sequence[KnownVoxelSize]) -> KnownVoxelSize | None:
    """The first of several voxel sizes of what must have the same one; warns of each that differs."""
    for other in known[1:]:
        if not same_size(other.xyz, known[0].xyz):
            logging.warning('voxel sizes contradict each other: %s, but %s', known[0], other)
    return known[0] if known else None


def read_voxel_size(
    values: Sequence[float],
    units: Sequence[float | None],
    arrangement: Arrangement,
    what: str,
    source: str,
) -> KnownVoxelSize | None:
    """Makes a voxel size of stored numbers; None, with a warning, where they make no sense.

    Args:
      values: one for each stored axis, or one for each of space.
      units: nanometres per unit, likewise; None: a unit that is not one of length.
      arrangement: the axes.
      what: the volume, for messages.
      source: where the numbers are from.
    """
    try:
        sizes = arrangement.pick_space([float(v) for v in values])
        factors = arrangement.pick_space([math.nan if u is None else u for u in units], 'units')
        if any(map(math.isnan, factors)):
            raise ValueError('a unit that is none of length')
        z, y, x = (float(s) * f for s, f in zip(sizes, factors, strict=True))
        if not all(0 < n < math.inf for n in (x, y, z)):
            raise ValueError('no positive lengths')
    except (TypeError, ValueError) as error:
        logging.warning('%s: %s is %s, which is not understood (%s)', what, source, values, error)
        return None
    return KnownVoxelSize((x, y, z), source)


@dataclass(frozen=True)
class FinestScale:
    """The scale that a coarse one was made of, in the unit of that.

    Attributes:
      offset_zyx: what its metadata name of its first voxel.
      size_zyx: of a voxel.
    """

    offset_zyx: Sequence[float]
    size_zyx: Sequence[float]

    def centring(self, offset_zyx: Sequence[float], size_zyx: Sequence[float]) -> list[float]:
        """How far behind the corner of its first voxel is the place that a coarse scale names, if the finest names its corner.

        Both scales begin at the same corner. Metadata that name corners name the same place for both; centres are apart
        by half of what the sizes of voxels are.

        Args:
          offset_zyx: what the metadata of the coarse scale name.
          size_zyx: of its voxels.

        Returns:
          z, y, x; 0 where corners are named.
        """
        centred = [(s - f) / 2 for s, f in zip(size_zyx, self.size_zyx, strict=True)]
        corner = [0.0] * 3

        def misfit(moved: Sequence[float]) -> float:
            each = zip(offset_zyx, self.offset_zyx, moved, size_zyx, strict=True)
            return sum(abs(o - first - m) / s for o, first, m, s in each)

        return centred if misfit(centred) < misfit(corner) else corner


def read_offset(
    offset_zyx: Sequence[float],
    size_zyx: Sequence[float],
    what: str,
    finest: FinestScale | None = None,
    unit: str = 'nm',
) -> tuple[int, int, int]:
    """Converts an offset to voxels; warns where it is not a whole number of them.

    Args:
      offset_zyx: in any unit.
      size_zyx: of a voxel, above 0, in the same unit.
      what: the volume, for messages.
      finest: the finest scale, likewise, for formats that may place the centres of voxels: a voxel that was made of
        several lies between those that it was made of.
      unit: the unit, for messages.

    Raises:
      UserError: an offset that is no number, or too large for one voxel to be told from the next.
    """
    voxels = [o / s for o, s in zip(offset_zyx, size_zyx, strict=True)]
    if not all(abs(v) < _FARTHEST for v in voxels):
        raise UserError(
            f'{what} begins at x,y,z {_listed(offset_zyx[::-1])} {unit}, voxels of {_listed(size_zyx[::-1])} {unit}: '
            'is its metadata damaged?'
        )
    if finest is not None:
        centring = finest.centring(offset_zyx, size_zyx)
        voxels = [v - c / s for v, c, s in zip(voxels, centring, size_zyx, strict=True)]
    z, y, x = (round(v) for v in voxels)
    if not all(map(_is_whole, voxels)):
        logging.warning(
            '%s begins at x,y,z %s %s, which is not a whole number of voxels; taken as voxel %d,%d,%d',
            what,
            _listed(offset_zyx[::-1]),
            unit,
            x,
            y,
            z,
        )
    return z, y, x


def _listed(numbers: Sequence[float]) -> str:
    return ','.join(f'{n:g}' for n in numbers)


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-2
