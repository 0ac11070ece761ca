"""Where the field of view may not be centred, and where no seed may be placed: masks and shifts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from ffn.utils.geometry import Box, Xyz, Zyx


class ShiftMask:
    """Positions near which neighbouring sections are shifted against each other.

    The mask is coarser than the image in x and y.

    Attributes:
      shifted: bool [z, y, x], coarse voxels that are shifted too much.
    """

    def __init__(self, shifted: np.ndarray, origin: Xyz, corner: Xyz, scale: int, around: Box):
        """Makes a mask.

        Args:
          shifted: see the class.
          origin: coarse coordinates of its first voxel.
          corner: first voxel of the subvolume, full resolution.
          scale: full-resolution voxels per coarse voxel in x and y.
          around: box around a position that must be free of shifts; start counts from the position.
        """
        self.shifted, self._origin, self._corner = shifted, origin, corner
        self._scale, self._around = scale, around

    def is_free(self, pos_zyx: Sequence[int]) -> bool:
        """Whether no shift is near a position of the subvolume."""
        position = Zyx.of(pos_zyx).xyz
        first = Xyz(*map(sum, zip(position, self._corner, self._around.start, strict=True)))
        box = coarse_box(Box(first, self._around.size), self._scale).relative_to(self._origin)
        inside = box.intersection(Box.of_shape(self.shifted.shape))
        return inside is None or not self.shifted[inside.slices_zyx].any()


def coarse_box(box: Box, scale: int) -> Box:
    """The voxels of a volume coarser in x and y that a box touches."""
    start = Xyz(box.start.x // scale, box.start.y // scale, box.start.z)
    end = Xyz(-(-box.end.x // scale), -(-box.end.y // scale), box.end.z)
    return Box(start, Xyz(*(b - a for a, b in zip(start, end, strict=True))))


class Restrictor:
    """Says where movement and seeds are allowed; without masks, everywhere.

    Attributes:
      mask: bool [z, y, x], where the field of view may not be centred, or None.
      seed_mask: bool [z, y, x], where no seed is placed, or None.
    """

    def __init__(
        self,
        mask: np.ndarray | None = None,
        seed_mask: np.ndarray | None = None,
        shift_mask: ShiftMask | None = None,
    ):
        self.mask = mask
        self.seed_mask = seed_mask
        self._shift_mask = shift_mask

    def forbid(self, mask: np.ndarray) -> None:
        """Keeps the field of view from further positions, bool [z, y, x]."""
        self.mask = mask if self.mask is None else self.mask | mask

    def allows(self, pos_zyx: Sequence[int]) -> bool:
        """Whether the field of view may be centred at a position of the subvolume."""
        if self.mask is not None and self.mask[tuple(pos_zyx)]:
            return False
        return self._shift_mask is None or self._shift_mask.is_free(pos_zyx)

    def allows_seed(self, pos_zyx: Sequence[int]) -> bool:
        """Whether a seed may be placed at a position of the subvolume."""
        return self.seed_mask is None or not self.seed_mask[tuple(pos_zyx)]

    def crcs(self) -> dict[str, int]:
        """CRC-32 of each mask that there is, by its name."""
        shifts = None if self._shift_mask is None else self._shift_mask.shifted
        masks = {'mask': self.mask, 'seed mask': self.seed_mask, 'shift mask': shifts}
        return {
            name: zlib.crc32(np.ascontiguousarray(mask).data)
            for name, mask in masks.items()
            if mask is not None
        }

    def forbids_all(self, positions: tuple[slice, ...]) -> bool:
        """Whether masks leave none of some positions for a seed; shifts are not looked at.

        Args:
          positions: slices z, y, x of the subvolume.
        """
        masks = [mask[positions] for mask in (self.mask, self.seed_mask) if mask is not None]
        return bool(masks) and bool(np.logical_or(masks[0], masks[-1]).all())
