"""Voxel size and offset in the attributes of an array, as CREMI, funlib, daisy, ImageJ and ilastik write them.

`resolution` and `offset` are nanometres, in the order of the stored axes (z, y, x without names), as are
`voxel_size` of newer funlib and `element_size_um` of ImageJ and ilastik, in micrometres.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from absl import logging

from ffn.volumes.axes import Arrangement
from ffn.volumes.units import KnownVoxelSize, nanometres, read_offset, read_voxel_size

# Attributes with a voxel size → nanometres per unit, where no attribute `units` says otherwise.
_SIZES = {'resolution': 1.0, 'voxel_size': 1.0, 'element_size_um': 1000.0}


def texts(values: Any) -> list[str]:
    """Text attributes of any shape, which may be bytes or single; '' for null of JSON, [] for null of HDF5."""
    if isinstance(values, h5py.Empty):
        return []
    found = ('' if v is None else v for v in np.ravel(values))
    return [v.decode() if isinstance(v, bytes) else str(v) for v in found]


def read_units(values: Any, default: float | None = None) -> list[float | None]:
    """Reads units, one for each axis, or for each that has one; a single one holds for all axes of space.

    Args:
      values: texts.
      default: what counts where none is given.

    Returns:
      Nanometres per unit; None for what is no unit of length.
    """
    units = texts(values)
    named = [unit for unit in units if unit]
    if not named:
        return [default] * 3
    if len(units) == 1:
        return [nanometres(units[0])] * 3
    return [nanometres(unit) for unit in (named if len(named) == 3 else units)]


def read_voxels(
    attrs: Mapping[str, Any], arrangement: Arrangement, what: str
) -> tuple[KnownVoxelSize | None, tuple[int, int, int], str]:
    """Reads voxel size and offset from the attributes of an array.

    Args:
      attrs: attributes, of HDF5, or of Zarr as funlib and daisy write it.
      arrangement: the axes of the array.
      what: the volume, for messages.

    Returns:
      The voxel size, None if it is unknown; the first voxel, z, y, x; and where that is from, '' if nothing
      says where the array begins.
    """
    size = _voxel_size(attrs, arrangement, what)
    if 'offset' not in attrs:
        return size, (0, 0, 0), ''
    if size is None:
        logging.warning(
            '%s has an offset, but no resolution to convert it by; it is taken to begin at 0,0,0',
            what,
        )
        return None, (0, 0, 0), ''
    try:
        offset = arrangement.pick_space([float(v) for v in np.ravel(attrs['offset'])])
        units = read_units(attrs.get('units', ()), 1.0)
        factors = arrangement.pick_space([unit or 1.0 for unit in units], 'units')
        offset_nm = [o * f for o, f in zip(offset, factors, strict=True)]
    except (TypeError, ValueError):
        logging.warning('%s: its attribute offset, %s, is not understood', what, attrs['offset'])
        return size, (0, 0, 0), ''
    return size, read_offset(offset_nm, size.xyz[::-1], what), 'its attribute offset'


def _voxel_size(
    attrs: Mapping[str, Any], arrangement: Arrangement, what: str
) -> KnownVoxelSize | None:
    for name, unit in _SIZES.items():
        if name in attrs:
            values = np.ravel(attrs[name]).tolist()
            units = read_units(attrs.get('units', ()), unit) if unit == 1 else [unit] * 3
            return read_voxel_size(values, units, arrangement, what, f'its attribute {name}')
    return None
