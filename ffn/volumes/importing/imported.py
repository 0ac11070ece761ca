"""The voxel size of what is imported, and its place: decided, and stored as CREMI does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from ffn.utils.geometry import Xyz
from ffn.volumes.importing.samples import StatedSize
from ffn.volumes.units import same_size

VoxelSize = tuple[float, float, float]


def decide_voxel_size(
    flag: VoxelSize | None, stated: StatedSize | None, what: str
) -> VoxelSize | None:
    """Decides the voxel size, x, y, z nanometres; warns if nothing says, and of contradictions.

    Args:
      flag: of --voxel_size, which counts before the file.
      stated: by the file.
      what: the volume, for messages.
    """
    if flag is not None:
        if stated is not None and not _agree(flag, stated):
            given = StatedSize(flag, '--voxel_size')
            logging.warning(
                '%s: voxel sizes contradict each other: %s, but %s; the first is stored',
                what,
                given,
                stated,
            )
        return flag
    if stated is not None:
        x, y, z = stated.xyz
        if x is not None and y is not None and z is not None:
            return x, y, z
    known = 'nothing says how large its voxels are'
    if stated is not None:
        known = f'the size of its voxels is known in part, {stated}'
    logging.warning('%s: %s; give --voxel_size X,Y,Z in nanometres', what, known)
    return None


def format_size(voxel_size: VoxelSize | None) -> str:
    """How the line that ends an import tells the voxel size; '' if it is unknown."""
    if voxel_size is None:
        return ''
    return f', voxels of x,y,z {",".join(f"{n:g}" for n in voxel_size)} nm'


def _agree(flag: VoxelSize, stated: StatedSize) -> bool:
    pairs = [(a, b) for a, b in zip(flag, stated.xyz, strict=True) if b is not None]
    return same_size([a for a, _ in pairs], [b for _, b in pairs])


def store_voxels(attrs: Any, voxel_size: VoxelSize | None, start: Xyz | None) -> None:
    """Writes `resolution` and `offset`, float64 z, y, x in nanometres, as CREMI and funlib do.

    Args:
      attrs: attributes of an HDF5 dataset.
      voxel_size: x, y, z nanometres; None: unknown, and nothing is written.
      start: the first voxel; None: nothing says where the volume begins.
    """
    if voxel_size is None:
        if start not in (None, Xyz(0, 0, 0)):
            logging.warning(
                'the volume begins at voxel %s, which is not stored, since the size of its voxels is unknown',
                start,
            )
        return
    sizes = _zyx(voxel_size)
    attrs['resolution'] = sizes
    if start is not None:
        attrs['offset'] = sizes * start.zyx


def _zyx(xyz: Sequence[float]) -> np.ndarray:
    return np.array(xyz[::-1], np.float64)
