"""Fewer, larger voxels: means of images, most frequent labels.

A coarse voxel is made of a whole block of fine ones, counted from voxel 0 of space: images and labels that
begin elsewhere end up on the same grid. What does not fill a block at either end is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from absl import logging

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz

NO_FACTORS = Xyz(1, 1, 1)


def parse_factors(text: str, what: str) -> Xyz:
    """Reads factors, 'x,y,z'; `what` names the flag in the error.

    Raises:
      UserError: not three integers of 1 or more.
    """
    factors = Xyz.parse(text, what)
    if min(factors) < 1:
        raise UserError(f'{what} is {text!r}; expected three factors x,y,z of 1 or more')
    return factors


@dataclass(frozen=True)
class Grid:
    """The coarse voxels of a box of fine ones.

    Attributes:
      fine: the fine voxels.
      factors: x, y, z, fine voxels that become one.
    """

    fine: Box
    factors: Xyz = NO_FACTORS

    @property
    def coarse(self) -> Box:
        """The coarse voxels.

        Raises:
          UserError: there is none.
        """
        start = Xyz(*(math.ceil(a / f) for a, f in zip(self.fine.start, self.factors, strict=True)))
        end = (b // f for b, f in zip(self.fine.end, self.factors, strict=True))
        size = Xyz(*(b - a for a, b in zip(start, end, strict=True)))
        if min(size) < 1:
            raise UserError(f'--downsample {self.factors} leaves no voxel of {self.fine.size}')
        return Box(start, size)

    @property
    def cut(self) -> Xyz:
        """Fine voxels that are left out along each axis."""
        whole = self.refine(self.coarse).size
        return Xyz(*(n - m for n, m in zip(self.fine.size, whole, strict=True)))

    def tell_cut(self, what: str) -> None:
        """Warns of fine voxels that are left out."""
        if any(self.cut):
            logging.warning(
                '%s: %s voxels do not fill blocks of %s and are left out',
                what,
                self.cut,
                self.factors,
            )

    def coarsen(self, block: Xyz) -> Xyz:
        """The size of a part in coarse voxels that is made of about a block of fine ones."""
        return Xyz(*(max(1, n // f) for n, f in zip(block, self.factors, strict=True)))

    def refine(self, coarse: Box) -> Box:
        """The fine voxels of a box of coarse ones."""
        start, size = (
            Xyz(*(n * f for n, f in zip(corner, self.factors, strict=True)))
            for corner in (coarse.start, coarse.size)
        )
        return Box(start, size)

    def scale_size(self, xyz: tuple[float, float, float]) -> tuple[float, float, float]:
        """The size of a coarse voxel, x, y, z, from that of a fine one."""
        x, y, z = (n * f for n, f in zip(xyz, self.factors, strict=True))
        return x, y, z


def downsample_image(image: np.ndarray, factors: Xyz) -> np.ndarray:
    """Averages blocks of an image; means of integers are rounded.

    Args:
      image: [z, y, x], multiples of the factors.
      factors: x, y, z.

    Returns:
      Array of the same type.
    """
    return image if factors == NO_FACTORS else _downsample(image, factors, 'mean')


def downsample_labels(labels: np.ndarray, factors: Xyz) -> np.ndarray:
    """Takes the most frequent label of each block; of several, the smallest that is not background.

    Args:
      labels: unsigned [z, y, x], multiples of the factors; 0 is background.
      factors: x, y, z.

    Returns:
      Array of the same type.
    """
    if factors == NO_FACTORS:
        return labels
    one = labels.dtype.type(1)
    # TensorStore takes the smallest of several; with 1 less, background is the greatest of all.
    return _downsample(labels - one, factors, 'mode') + one


def _downsample(data: np.ndarray, factors: Xyz, method: Literal['mean', 'mode']) -> np.ndarray:
    import tensorstore as ts

    return np.asarray(ts.downsample(ts.array(data), list(factors.zyx), method).read().result())
