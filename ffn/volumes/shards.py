"""Shards: files that each hold many chunks, so that a large volume is thousands of files, not millions.

A shard is written as a whole, by one task: to change a chunk of it, all of it is written anew. Zarr 3 has shards
of any whole number of chunks (the codec `sharding_indexed`). Those of precomputed volumes follow from the
order in which chunks are numbered, a Morton code: bit by bit, x, y and z in turn, axes that need no more
bits left out (Neuroglancer's "compressed Morton code"). 2ⁿ chunks that follow each other in that order are a box
only for some boxes: the same power of two along all axes always is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks, both_orders
from ffn.utils.settings import setting

# Voxels of a chunk along each axis at most, where shards are given and chunks are not.
_CHUNK = 64
# log2 of the chunks whose places in the file are listed together, and read as one.
_LISTED_BITS = 9


@dataclass(frozen=True)
class Shards:
    """The shards of a volume.

    Attributes:
      origin: where the first one begins.
      size: voxels of each; the last ones may reach over the end of the volume.
    """

    origin: Xyz
    size: Xyz

    def cut(self, box: Box) -> Iterator[Box]:
        """Cuts a box at the borders of shards."""
        axes = zip(box.start, self.origin, self.size, strict=True)
        start = Xyz(*(first + (at - first) // side * side for at, first, side in axes))
        whole = Box(start, Xyz(*(end - at for end, at in zip(box.end, start, strict=True))))
        for block in blocks(whole, self.size):
            if (part := block.intersection(box)) is not None:
                yield part


@dataclass(frozen=True)
class Sharding:
    """Whether chunks are joined to shards."""

    size: Xyz | None = setting(
        'voxels of a shard, a file of many chunks, in zarr3:// and precomputed:// volumes; whole chunks, and '
        'for precomputed the same power of two of them along all axes. One task writes a shard, which it '
        'holds in memory. By default each chunk is a file',
        default=None,
        flag='shard_size',
        parse=Xyz.parse,
        metavar='X,Y,Z',
    )

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f'shard size is {both_orders(self.size)}; expected positive sides')

    def default_chunk(self) -> Xyz | None:
        """Chooses chunks for shards: halves their sides until they have at most 64 voxels.

        Returns:
          None without shards.

        Raises:
          UserError: a side cannot be halved so often.
        """
        if self.size is None:
            return None
        sides = []
        for side in self.size:
            while side > _CHUNK and side % 2 == 0:
                side //= 2
            if side > _CHUNK:
                raise UserError(
                    f'shard size {self.size} cannot be halved until chunks have at most {_CHUNK} voxels '
                    'along each axis; give a power of two times such a number, or --chunk_size'
                )
            sides.append(side)
        return Xyz(*sides)


def check_shard(shard: Xyz, chunk: Xyz) -> None:
    """Checks that shards hold whole chunks.

    Raises:
      UserError: they do not.
    """
    if any(n % c for n, c in zip(shard, chunk, strict=True)):
        raise UserError(
            f'shard size is {both_orders(shard)}; expected whole chunks of {both_orders(chunk)}'
        )


def precomputed_sharding(size: Xyz, chunk: Xyz, shard: Xyz) -> dict[str, Any]:
    """The `sharding` of a precomputed scale whose shards are boxes of a given size.

    Args:
      size: voxels of the volume.
      chunk: voxels of a chunk.
      shard: voxels of a shard; it may be larger than the volume.

    Raises:
      UserError: chunks of such boxes do not follow each other in the order of chunks.
    """
    check_shard(shard, chunk)
    grid = [-(-n // c) for n, c in zip(size, chunk, strict=True)]
    order = list(_axes_of_bits(grid))
    wanted = [n // c for n, c in zip(shard, chunk, strict=True)]
    inside = _bits_of_box(order, wanted)
    found = [1 << order[:inside].count(axis) for axis in range(3)]
    if any(f != w and not (w > f and f >= n) for f, w, n in zip(found, wanted, grid, strict=True)):
        nearest = ','.join(str(f * c) for f, c in zip(found, chunk, strict=True))
        raise UserError(
            f'shard size is {both_orders(shard)}; shards of precomputed volumes are the same power of two of chunks '
            f'(voxels {chunk}) along each axis: give --shard_size {nearest}'
        )
    listed = min(inside, _LISTED_BITS)
    return {
        '@type': 'neuroglancer_uint64_sharded_v1',
        'hash': 'identity',
        'preshift_bits': listed,
        'minishard_bits': inside - listed,
        'shard_bits': len(order) - inside,
        'minishard_index_encoding': 'gzip',
        'data_encoding': 'gzip',
    }


def _axes_of_bits(grid: list[int]) -> Iterator[int]:
    """The axis, 0 for x, that each bit of a chunk's number belongs to, the lowest bit first."""
    for bit in range(max(grid).bit_length()):
        for axis, count in enumerate(grid):
            if (count - 1) >> bit:
                yield axis


def _bits_of_box(order: list[int], wanted: list[int]) -> int:
    """How many of the lowest bits stay within a box of chunks."""
    bits = [0, 0, 0]
    for count, axis in enumerate(order):
        bits[axis] += 1
        if 1 << bits[axis] > wanted[axis]:
            return count
    return len(order)
