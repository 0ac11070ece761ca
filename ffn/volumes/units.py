"""Physical sizes and offsets as other programs store them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from absl import logging


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
