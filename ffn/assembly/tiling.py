"""A box cut into cores that do not overlap, and the overlapping subvolumes around the cores.

Cores begin at the box's start and repeat every size − overlap voxels; nothing else decides where they
are. The subvolume of a core extends half the overlap beyond it on either side, within the box: two
neighbours share `overlap` voxels, and the border between their cores lies in the middle of these, as far
from the rim of either as possible. Where the box does not end with a core, the last subvolume along an
axis would be thin; it is extended backwards instead, to half the size.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders

AXES = 'xyz'


@dataclass(frozen=True)
class Tiling:
    """The subvolumes of a box; each is named by its place in the grid, x, y, z from 0.

    Attributes:
      box: what is covered.
      size: of a subvolume, voxels.
      overlap: voxels that two neighbours share.
    """

    box: Box
    size: Xyz
    overlap: Xyz

    def __post_init__(self) -> None:
        for name, extent, size, overlap in zip(
            AXES, self.box.size, self.size, self.overlap, strict=True
        ):
            if overlap < 0 or size <= 0:
                raise UserError(
                    f'subvolume size {self.size}, overlap {self.overlap}: along {name}, expected a '
                    'positive size and an overlap of 0 or more'
                )
            if 2 * overlap > size and size < extent:
                raise UserError(
                    f'overlap {both_orders(self.overlap)} is more than half of the subvolume, '
                    f'{both_orders(self.size)}, along {name}'
                )
            if overlap == 0 and size < extent:
                raise UserError(
                    f'overlap is 0 along {name}, where there are several subvolumes; their ids are '
                    'matched by the voxels that they share'
                )

    @functools.cached_property
    def stride(self) -> Xyz:
        """Voxels from one core to the next; meaningless along an axis with a single core."""
        return Xyz(*(max(s - o, 1) for s, o in zip(self.size, self.overlap, strict=True)))

    @functools.cached_property
    def grid(self) -> Xyz:
        """Number of subvolumes along each axis."""
        counts = (
            # The last core may be longer, where its subvolume does not get longer than the others.
            1 if extent <= size else -(-(extent - (overlap - overlap // 2)) // (size - overlap))
            for extent, size, overlap in zip(self.box.size, self.size, self.overlap, strict=True)
        )
        return Xyz(*counts)

    def __len__(self) -> int:
        return self.grid.x * self.grid.y * self.grid.z

    def places(self) -> Iterator[Xyz]:
        """All places of the grid, x fastest."""
        x, y, z = self.grid
        for k, j, i in itertools.product(range(z), range(y), range(x)):
            yield Xyz(i, j, k)

    def index(self, place: Xyz) -> int:
        """Position of a place in the order of `places`."""
        return (place.z * self.grid.y + place.y) * self.grid.x + place.x

    def core(self, place: Xyz) -> Box:
        """The voxels that a subvolume contributes to the whole volume."""
        return _box(self._core_range(axis, place[axis]) for axis in range(3))

    def subvolume(self, place: Xyz) -> Box:
        """The voxels of a subvolume."""
        return _box(self._range(axis, place[axis]) for axis in range(3))

    def _core_range(self, axis: int, i: int) -> tuple[int, int]:
        start, stride = self.box.start[axis], self.stride[axis]
        last = i == self.grid[axis] - 1
        return start + i * stride, self.box.end[axis] if last else start + (i + 1) * stride

    def _range(self, axis: int, i: int) -> tuple[int, int]:
        begin, end = self._core_range(axis, i)
        before = self.overlap[axis] // 2
        low, high = self.box.start[axis], self.box.end[axis]
        end = min(end + self.overlap[axis] - before, high)
        if i == self.grid[axis] - 1:
            begin = min(begin, end - (self.size[axis] + 1) // 2 + before)
        return max(begin - before, low), end

    def corner_zyx(self, place: Xyz) -> Zyx:
        """First voxel of a subvolume; its files are named after it."""
        return self.subvolume(place).start.zyx

    def next_place(self, place: Xyz, axis: int) -> Xyz | None:
        """The next place along an axis (0 is x), None at the end."""
        if place[axis] + 1 >= self.grid[axis]:
            return None
        return Xyz(*(n + (a == axis) for a, n in enumerate(place)))

    def owners(self, box: Box) -> Iterator[Xyz]:
        """The places whose cores hold voxels of a box."""
        ranges = []
        for axis in range(3):
            last = self.grid[axis] - 1
            offset, stride = box.start[axis] - self.box.start[axis], self.stride[axis]
            end = offset + box.size[axis] - 1
            ranges.append(
                range(max(min(offset // stride, last), 0), max(min(end // stride, last), 0) + 1)
            )
        for k, j, i in itertools.product(*reversed(ranges)):
            if self.core(Xyz(i, j, k)).intersection(box) is not None:
                yield Xyz(i, j, k)

    def check_network(self, fov: Xyz, deltas: Sequence[int]) -> None:
        """Checks that the network has room to move in every subvolume.

        Args:
          fov: field of view.
          deltas: x, y, z voxels of a move.

        Raises:
          UserError: too small for the field of view and a move to each side.
        """
        least = Xyz(*(f + 2 * d for f, d in zip(fov, deltas, strict=True)))
        for place in (Xyz(0, 0, 0), Xyz(*(n - 1 for n in self.grid))):
            size = self.subvolume(place).size
            for axis in range(3):
                if size[axis] < least[axis] and size[axis] < self.box.size[axis]:
                    raise UserError(
                        f'subvolume size {both_orders(size)} at {self.subvolume(place).start} is '
                        f'smaller than the field of view and a move to each side, {least}; the last '
                        'subvolume of an axis may have half the size of the others: choose larger ones, '
                        'or a box that ends with one'
                    )

    def as_dict(self) -> dict[str, Any]:
        """The numbers that the tiling is made from, for JSON."""
        return {
            'box_start_xyz': list(self.box.start),
            'box_size_xyz': list(self.box.size),
            'subvolume_size_xyz': list(self.size),
            'overlap_xyz': list(self.overlap),
        }

    @property
    def computed_voxels(self) -> int:
        """Voxels of all subvolumes; those in overlaps count as often as they are computed."""
        return math.prod(
            sum(end - begin for begin, end in (self._range(axis, i) for i in range(count)))
            for axis, count in enumerate(self.grid)
        )

    def __str__(self) -> str:
        x, y, z = self.grid
        times = self.computed_voxels / math.prod(self.box.size)
        return (
            f'{x}×{y}×{z} subvolumes of {self.size}, one every {self.stride}; '
            f'{times:.2f} times the voxels of the box'
        )


class SubvolumeSet:
    """A set of subvolumes of a tiling, by their places; at first all of them. It takes a byte each.

    Attributes:
      present: bool [z, y, x] of the grid.
    """

    def __init__(self, tiling: Tiling):
        self.present = np.ones(tiling.grid.zyx, bool)

    def __contains__(self, place: object) -> bool:
        return isinstance(place, Xyz) and bool(self.present[place.zyx])

    def __iter__(self) -> Iterator[Xyz]:
        for z, y, x in np.ndindex(self.present.shape):
            if self.present[z, y, x]:
                yield Xyz(x, y, z)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.present))


def _box(ranges: Iterable[tuple[int, int]]) -> Box:
    pairs = list(ranges)
    return Box(Xyz(*(a for a, _ in pairs)), Xyz(*(b - a for a, b in pairs)))
