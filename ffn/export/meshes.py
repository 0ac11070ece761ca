"""Meshes of all segments of an exported label volume, in several levels of detail.

The surfaces of a block's segments are simplified with their borders locked, so that blocks fit together, and kept as
pieces. A segment's pieces are joined and simplified again as a whole, more for each coarser level: so nothing shows
where blocks were. Only an object of more than _WHOLE bytes of pieces is not held in memory as a whole: each cube of
its blocks that is small enough is simplified by itself, its border locked, and coarser levels are made from the
results of eight cubes each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffn.export.by_segment import Joined
from ffn.export.mesh_chunks import QUANTIZATION_BITS, cut
from ffn.export.multires import encode_chunk, encode_segment
from ffn.export.pieces import Piece
from ffn.export.pyramid import Pyramid
from ffn.export.surfaces import STEPS, Surface, find_surfaces, join, simplify, with_volume
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.settings import check_needed, setting

FOLDER = 'mesh'
# Pieces of an object that are simplified as one, bytes; these are about ten times as much in memory.
_WHOLE = 1 << 27
_SHARD = 1 << 24
# Sides of blocks in chunks, powers of two: the larger, the less border; the smaller, the more tasks.
_BLOCK_CHUNKS, _FEW_BLOCKS = (4, 2), 8
# What `simplify` sums up is larger than the distance that a surface moves.
_SUMMED = 4.0
# A level's error by that of the one before: about a quarter of the triangles.
_COARSER = 2
# Bytes before the points of a piece.
_HEAD = 9 * 8
# Beyond all positions.
_FAR = 1 << 60


@dataclass(frozen=True)
class MeshConfig:
    """How meshes are made."""

    wanted: bool = setting(
        'also write meshes of all segments, for the 3-d view; needs the extra "mesh"',
        default=False,
        flag='meshes',
    )
    error: float = setting(
        'nanometres by which simplification may move the surfaces of meshes, roughly, at full detail; 0: the geometric mean of the sides of a voxel',
        default=0.0,
        flag='mesh_error',
        metavar='NM',
    )
    levels: int = setting(
        'levels of detail of a mesh at most; 0: until one chunk holds the segment',
        default=0,
        flag='mesh_levels',
        metavar='N',
    )
    chunk: int = setting(
        'voxels along each side of the chunks that meshes are stored in, at full detail',
        default=64,
        flag='mesh_chunk',
        metavar='N',
    )

    def __post_init__(self) -> None:
        if not 0 <= self.error < math.inf:
            raise UserError(f'--mesh_error is {self.error}; expected nanometres, or 0')
        if self.levels < 0:
            raise UserError(f'--mesh_levels is {self.levels}; expected 0 or more')
        if not 8 <= self.chunk <= 1024:
            raise UserError(f'--mesh_chunk is {self.chunk}; expected 8 to 1024 voxels')
        check_needed(self, 'wanted')


@dataclass(frozen=True)
class Meshes:
    """Makes meshes; see `ffn.export.by_segment.Maker`.

    Attributes:
      pyramid: the labels, which are written.
      config: how they are made.
    """

    pyramid: Pyramid
    config: MeshConfig

    @property
    def folder(self) -> Path:
        """Where the meshes go."""
        return self.pyramid.folder / FOLDER

    @property
    def shard_size(self) -> int:
        """Bytes of pieces that become a shard, roughly."""
        return _SHARD

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """x, y, z nanometres."""
        return self.pyramid.scales[0].voxel_size

    @property
    def error(self) -> float:
        """How much surfaces may move, nanometres."""
        return self.config.error or math.prod(self.voxel_size) ** (1 / 3)

    @property
    def corner(self) -> Xyz:
        """The voxel whose centre is the corner of the grid: one before the volume, so that surfaces close there."""
        return Xyz(*(n - 1 for n in self.pyramid.scales[0].box.start))

    @property
    def block_chunks(self) -> int:
        """Side of a block in chunks."""
        size = self.pyramid.scales[0].box.size
        for chunks in _BLOCK_CHUNKS:
            if math.prod(-(-n // (chunks * self.config.chunk)) for n in size) >= _FEW_BLOCKS:
                break
        return chunks

    def settings(self) -> dict[str, Any]:
        """What the meshes depend on."""
        return {
            'error': self.error,
            'levels': self.config.levels,
            'chunk': self.config.chunk,
        }

    def blocks(self) -> Iterator[Box]:
        """Blocks of the spaces between the centres of voxels, each named for the voxel before."""
        size = Xyz(*(n + 1 for n in self.pyramid.scales[0].box.size))
        return blocks(Box(self.corner, size), Xyz(*[self.block_chunks * self.config.chunk] * 3))

    def cut(self, block: Box) -> dict[int, bytes]:
        """Finds the surfaces in a block."""
        read = Box(block.start, Xyz(*(n + 1 for n in block.size)))
        labels = np.zeros(read.size.zyx, np.uint64)
        inside = read.intersection(self.pyramid.scales[0].box)
        if inside is not None:
            part = inside.relative_to(read.start).slices_zyx
            labels[part] = self.pyramid.open(0)[inside.slices_zyx].read().result()
        found = {}
        for label, surface, voxels in find_surfaces(labels, read.relative_to(self.corner).start):
            simpler = simplify(surface, self.error * _SUMMED, self.voxel_size, voxels)
            found[label] = _pack(simpler, voxels)
        return found

    def join(self, pieces: list[Piece]) -> Joined:
        """Makes the mesh of a segment."""
        levels: list[dict[Xyz, bytes]] = [{} for _ in range(self._count_levels(pieces))]
        for level, surface in self._simplified(pieces, len(levels) - 1):
            for chunk in cut(surface, Xyz(*[self.config.chunk] * 3), level):
                levels[level][chunk.place] = encode_chunk(chunk)
        size = np.array(self.voxel_size)
        shape, origin = size * self.config.chunk, size * np.add(self.corner, 0.5)
        detail = math.prod(self.voxel_size) ** (1 / 3)
        scales = [detail * 2**level for level in range(len(levels))]
        manifest, before = encode_segment(levels, shape.tolist(), origin.tolist(), scales)
        return Joined(manifest, before)

    def info(self) -> dict[str, Any]:
        """The info file of the meshes."""
        return {
            '@type': 'neuroglancer_multilod_draco',
            'vertex_quantization_bits': QUANTIZATION_BITS,
            'transform': [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
            'lod_scale_multiplier': 1,
        }

    def _count_levels(self, pieces: Sequence[Piece]) -> int:
        """Levels of detail until a chunk is as large as the segment, to the accuracy of its blocks."""
        heads = np.array([np.frombuffer(piece.read(_HEAD), np.int64) for piece in pieces])
        sides = heads[:, 6:].max(axis=0) - heads[:, 3:6].min(axis=0)
        count = 1 + math.ceil(math.log2(max(sides.max() / (STEPS * self.config.chunk), 1)))
        return min(count, self.config.levels or count)

    def _simplified(self, pieces: Sequence[Piece], top: int) -> Iterator[tuple[int, Surface]]:
        """Simplifies a segment, as a whole or in parts; yields levels and surfaces."""
        if not _is_small(pieces):
            for cube in self._cubes(pieces, top).values():
                yield from self._cube(cube, top)
            return
        surface, voxels = _load(pieces)
        for level in range(top + 1):
            if level or len(pieces) > 1:  # a single piece has been simplified
                surface = self._simplify(surface, level, voxels)
            yield level, with_volume(surface, voxels, 0.5 * 2**level)

    def _cube(self, pieces: Sequence[Piece], top: int) -> Iterator[tuple[int, Surface]]:
        """Simplifies the part of a segment in a cube; the last surface is of level `top`."""
        if _is_small(pieces) or self.block_chunks >= 1 << top:
            surface, voxels = _load(pieces)
            for level in range(top + 1):
                surface = self._simplify(surface, level, voxels)
                yield level, surface
            return
        parts = []
        for cube in self._cubes(pieces, top - 1).values():
            for level, surface in self._cube(cube, top - 1):
                yield level, surface
            parts.append(surface)
        yield top, self._simplify(join(parts), top, math.inf)

    def _cubes(self, pieces: Sequence[Piece], level: int) -> dict[Xyz, list[Piece]]:
        """Pieces by the chunk of a level that they are in; each block if it is larger."""
        side = self.config.chunk * max(1 << level, self.block_chunks)
        cubes: dict[Xyz, list[Piece]] = {}
        for piece in pieces:
            origin = zip(piece.start, self.corner, strict=True)
            place = Xyz(*((a - b) // side for a, b in origin))
            cubes.setdefault(place, []).append(piece)
        return cubes

    def _simplify(self, surface: Surface, level: int, voxels: float) -> Surface:
        error = self.error * _SUMMED * _COARSER**level
        return simplify(surface, error, self.voxel_size, voxels * 2**level)


def _is_small(pieces: Sequence[Piece]) -> bool:
    return sum(piece.size for piece in pieces) <= _WHOLE


def _pack(surface: Surface, voxels: int) -> bytes:
    """Numbers of voxels, points and triangles, least and greatest positions; points; triangles."""
    points, triangles = surface
    bounds = (points.min(axis=0, initial=_FAR), points.max(axis=0, initial=-_FAR))
    head = [voxels, len(points), len(triangles), *bounds[0], *bounds[1]]
    parts = (np.array(head, np.int64), points.astype(np.int32), triangles.astype(np.int32))
    return b''.join(part.tobytes() for part in parts)


def _load(pieces: Sequence[Piece]) -> tuple[Surface, int]:
    """Joins pieces; counts their voxels."""
    surfaces, voxels = [], 0
    for piece in pieces:
        data = piece.read()
        head = np.frombuffer(data, np.int64, _HEAD // 8)
        numbers = np.frombuffer(data, np.int32, offset=_HEAD).reshape(-1, 3)
        surfaces.append(Surface(numbers[: head[1]].astype(np.int64), numbers[head[1] :]))
        voxels += int(head[0])
    return join(surfaces), voxels
