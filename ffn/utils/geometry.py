"""Positions, sizes and boxes, with the order of axes in the type.

Arrays are indexed [z, y, x]; users type x, y, z, and so do files and messages. The two orders are distinct
types here, converted into each other only by `.zyx` and `.xyz`.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ffn.utils.errors import UserError
from ffn.utils.texts import check_leading_zero

if TYPE_CHECKING:
    from ffn.utils import bounding_box_pb2, vector_pb2

# Of a voxel: z, y, x. A plain tuple, since an array is indexed with one at every step of a network.
Position = tuple[int, int, int]
# Relative, of lengths that were stored as float32: 13.2 nm are three voxels of 4.4 nm.
_ROUNDING = 1e-6
# z, y, x steps to half of the 26 neighbours of a voxel, so that each pair of neighbours occurs once.
HALF_NEIGHBOURS = [o for o in itertools.product((-1, 0, 1), repeat=3) if o > (0, 0, 0)]


def _parse_three(text: str | Sequence[str | float], what: str, order: str) -> list[int]:
    parts = text.split(',') if isinstance(text, str) else text
    try:
        numbers = [int(part) for part in parts]
        whole = all(isinstance(p, str) or p == n for p, n in zip(parts, numbers, strict=True))
    except (ValueError, TypeError, OverflowError):
        numbers, whole = [], False
    if len(numbers) != 3 or not whole:
        given = ','.join(map(str, text)) if isinstance(text, list | tuple) else str(text)
        raise UserError(f'{what} is {given!r}; expected three integers {order}, such as 8,8,8')
    _check_leading_zeros(parts, what)
    return numbers


def _check_leading_zeros(parts: Sequence[str | float], what: str) -> None:
    for part in parts:
        if isinstance(part, str):
            check_leading_zero(part, what)


def parse_voxel_size(text: str | Sequence[str], what: str) -> tuple[float, float, float]:
    """Reads the size of a voxel, 'x,y,z'; `what` names the flag or field in the error.

    Raises:
      UserError: not three positive numbers.
    """
    parts = text.split(',') if isinstance(text, str) else text
    try:
        x, y, z = (float(part) for part in parts)
    except (ValueError, TypeError):
        x = y = z = math.nan
    if not all(0 < size < math.inf for size in (x, y, z)):
        given = text if isinstance(text, str) else ','.join(map(str, text))
        raise UserError(
            f'{what} is {given!r}; expected three positive numbers x,y,z, such as 4,4,40'
        )
    _check_leading_zeros(parts, what)
    return x, y, z


def whole_voxels(length: float, size: float) -> int:
    """Returns how many voxels of a size fit into a length of the same unit; rounding of either does not count.

    Raises:
      ValueError: the length is not a number.
      OverflowError: it is infinite.
    """
    return math.floor(length / size * (1 + _ROUNDING))


def relative_edges(voxel_size: Sequence[float] | None) -> tuple[float, float, float]:
    """Edges of a voxel in units of the shortest, in the given order; None is a cube."""
    a, b, c = (1.0, 1.0, 1.0) if voxel_size is None else map(float, voxel_size)
    shortest = min(a, b, c)
    return a / shortest, b / shortest, c / shortest


class Xyz(NamedTuple):
    """Three integers in x, y, z order."""

    x: int
    y: int
    z: int

    @property
    def zyx(self) -> Zyx:
        """The same numbers in z, y, x order."""
        return Zyx(self.z, self.y, self.x)

    @classmethod
    def parse(cls, text: str | Sequence[str | float], what: str) -> Xyz:
        """Reads 'x,y,z'; `what` names the flag or field in the error.

        Raises:
          UserError: not three integers.
        """
        return cls(*_parse_three(text, what, 'x,y,z'))

    @classmethod
    def from_proto(cls, vector: vector_pb2.Vector3j) -> Xyz:
        """Reads a Vector3j."""
        return cls(vector.x, vector.y, vector.z)

    def to_proto(self) -> vector_pb2.Vector3j:
        """Makes a Vector3j."""
        from ffn.utils import vector_pb2

        return vector_pb2.Vector3j(x=self.x, y=self.y, z=self.z)

    def __str__(self) -> str:
        return f'x,y,z {self.x},{self.y},{self.z}'


class Zyx(NamedTuple):
    """Three integers in z, y, x order: positions and shapes of arrays."""

    z: int
    y: int
    x: int

    @property
    def xyz(self) -> Xyz:
        """The same numbers in x, y, z order."""
        return Xyz(self.x, self.y, self.z)

    @classmethod
    def parse(cls, text: str | Sequence[str | float], what: str) -> Zyx:
        """Reads 'z,y,x'; `what` names the flag in the error.

        Raises:
          UserError: not three integers.
        """
        return cls(*_parse_three(text, what, 'z,y,x'))

    @classmethod
    def of(cls, values: Iterable[int]) -> Zyx:
        """Makes one of any three numbers in z, y, x order, such as the shape of an array."""
        z, y, x = (int(value) for value in values)
        return cls(z, y, x)

    def __str__(self) -> str:
        return f'z,y,x {self.z},{self.y},{self.x}'


def both_orders(value: Xyz | Zyx) -> str:
    """Formats three numbers in both orders, for messages about boxes and shapes."""
    return f'{value} ({value.zyx if isinstance(value, Xyz) else value.xyz})'


@dataclass(frozen=True)
class Box:
    """A box of voxels, start <= voxel < start + size.

    Attributes:
      start: first voxel.
      size: number of voxels along each axis; never negative.
    """

    start: Xyz
    size: Xyz

    @classmethod
    def from_zyx(cls, start_zyx: Sequence[int], size_zyx: Sequence[int]) -> Box:
        """Makes a box from z, y, x numbers."""
        return cls(Zyx.of(start_zyx).xyz, Zyx.of(size_zyx).xyz)

    @classmethod
    def of_shape(cls, shape_zyx: Sequence[int]) -> Box:
        """The box that an array of this [z, y, x] shape covers."""
        return cls.from_zyx((0, 0, 0), shape_zyx)

    @classmethod
    def from_proto(cls, proto: bounding_box_pb2.BoundingBox) -> Box:
        """Reads a BoundingBox message."""
        return cls(Xyz.from_proto(proto.start), Xyz.from_proto(proto.size))

    def to_proto(self) -> bounding_box_pb2.BoundingBox:
        """Makes a BoundingBox message."""
        from ffn.utils import bounding_box_pb2

        return bounding_box_pb2.BoundingBox(start=self.start.to_proto(), size=self.size.to_proto())

    @property
    def end(self) -> Xyz:
        """First position beyond the box on every axis."""
        return Xyz(*(start + size for start, size in zip(self.start, self.size, strict=True)))

    @property
    def slices_zyx(self) -> tuple[slice, slice, slice]:
        """Index of the box in an array [z, y, x]."""
        z, y, x = (slice(a, b) for a, b in zip(self.start.zyx, self.end.zyx, strict=True))
        return z, y, x

    @property
    def empty(self) -> bool:
        """Whether the box holds no voxel."""
        return min(self.size) <= 0

    def intersection(self, other: Box) -> Box | None:
        """The voxels in both boxes, or None."""
        start = Xyz(*map(max, self.start, other.start))
        end = Xyz(*map(min, self.end, other.end))
        size = Xyz(*(b - a for a, b in zip(start, end, strict=True)))
        return None if min(size) <= 0 else Box(start, size)

    def contains(self, other: Box) -> bool:
        """Whether every voxel of the other box is in this one."""
        return all(map(operator.le, self.start, other.start)) and all(
            map(operator.ge, self.end, other.end)
        )

    def grow(self, by: Xyz) -> Box:
        """The box with `by` more voxels on either side of each axis."""
        return Box(
            Xyz(*(a - b for a, b in zip(self.start, by, strict=True))),
            Xyz(*(max(s + 2 * b, 0) for s, b in zip(self.size, by, strict=True))),
        )

    def shrink(self, by: Xyz) -> Box:
        """The box with `by` fewer voxels on either side of each axis; may become empty."""
        return self.grow(Xyz(*(-b for b in by)))

    def relative_to(self, origin: Xyz) -> Box:
        """The same box in coordinates that count from `origin`."""
        return Box(Xyz(*(a - o for a, o in zip(self.start, origin, strict=True))), self.size)

    def __str__(self) -> str:
        return f'start {both_orders(self.start)}, size {both_orders(self.size)}'


def blocks(box: Box, size: Xyz) -> Iterator[Box]:
    """Cuts a box into blocks, x fastest; those at the end of an axis may be smaller.

    Args:
      box: what is cut.
      size: voxels of a block along each axis.

    Raises:
      UserError: a size below 1.
    """
    if min(size) < 1:
        raise UserError(f'block size {size}; expected 1 or more voxels')
    axes = (range(a, b, n) for a, b, n in zip(box.start.zyx, box.end.zyx, size.zyx, strict=True))
    for start in itertools.product(*axes):
        block = Box.from_zyx(start, size.zyx).intersection(box)
        if block is not None:
            yield block
