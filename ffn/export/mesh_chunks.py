"""Surfaces cut into the chunks of a grid, with positions as Neuroglancer stores them.

At level of detail l, chunks have 2^l times the side of those at level 0. A chunk's positions are integers from 0 to
SIDE along each axis, so that the last plane of a chunk is the first of its neighbour: where a surface passes from one
to the other, both have the same points, and no gap is left. From level 1 on, surfaces are also cut at the chunk's
middle, since the viewer replaces eighths of it by chunks of the level below; to the viewer, the middle is MIDDLE.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ffn.export.surfaces import STEPS, Surface, tidy
from ffn.utils.geometry import Xyz

QUANTIZATION_BITS = 10
SIDE = (1 << QUANTIZATION_BITS) - 1
MIDDLE = 1 << (QUANTIZATION_BITS - 1)


class Chunk(NamedTuple):
    """What a chunk has of a surface.

    Attributes:
      place: number of the chunk along each axis.
      points: int32 [n, 3], x, y, z, 0 … SIDE.
      triangles: uint32 [m, 3].
    """

    place: Xyz
    points: np.ndarray
    triangles: np.ndarray


def cut(surface: Surface, chunk: Xyz, level: int) -> Iterator[Chunk]:
    """Cuts a surface into chunks.

    Args:
      surface: its positions count from the corner of the grid and are not negative.
      chunk: voxels of a chunk of level 0.
      level: of detail.

    Yields:
      Chunks in the order that the format wants, along a Z-curve.
    """
    side = np.multiply(chunk, STEPS << level)
    # Rounded to the nearest; planes between chunks are met exactly.
    points = (2 * SIDE * surface.points + side) // (2 * side)
    points, triangles = tidy(points, surface.triangles)
    for axis in range(3):
        points, triangles = _split(points, triangles, axis, level > 0)
    points, triangles = tidy(points, triangles)
    if not len(triangles):
        return
    place = points[triangles].min(axis=1) // SIDE
    order = np.argsort(codes := _z_curve(place), kind='stable')
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for rows in np.split(order, begins[1:]):
        at = place[rows[0]]
        used, local = np.unique(triangles[rows], return_inverse=True)
        inside = (points[used] - at * SIDE).astype(np.int32)
        yield Chunk(Xyz(*at.tolist()), inside, local.reshape(-1, 3).astype(np.uint32))


def _split(
    points: np.ndarray, triangles: np.ndarray, axis: int, halves: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Splits triangles at the planes across an axis.

    Each is split at the first plane that it crosses, then again. An edge is thus split from its lower end on in
    both of its triangles, which gives the same points in both, rounded as they are.
    """
    done = []
    while len(triangles):
        along = points[triangles, axis]
        plane = _next_plane(along.min(axis=1), halves)
        crosses = along.max(axis=1) > plane
        done.append(triangles[~crosses])
        points, triangles = _split_once(points, triangles[crosses], plane[crosses], axis)
    return points, np.concatenate([np.zeros((0, 3), np.int64), *done])


def _next_plane(along: np.ndarray, halves: bool) -> np.ndarray:
    """The first plane above positions, int64 [n]."""
    begin = along // SIDE * SIDE
    end = begin + SIDE
    return np.where(along - begin < MIDDLE, begin + MIDDLE, end) if halves else end


def _split_once(
    points: np.ndarray, triangles: np.ndarray, plane: np.ndarray, axis: int
) -> tuple[np.ndarray, np.ndarray]:
    """Splits each triangle at a plane that it crosses."""
    side = np.sign(points[triangles, axis] - plane[:, np.newaxis])
    touches = (side == 0).any(axis=1)
    # The corner on the plane or, if there is none, the one that is alone on its side comes first.
    alone = side == -np.sign(side.sum(axis=1))[:, np.newaxis]
    first = np.where(touches[:, np.newaxis], side == 0, alone).argmax(axis=1)
    turned = (first[:, np.newaxis] + np.arange(3)) % 3
    a, b, c = np.take_along_axis(triangles, turned, axis=1).T

    def add(u: np.ndarray, v: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Adds the points where edges cross planes; returns their numbers."""
        nonlocal points
        lower = points[u, axis] < points[v, axis]
        low, high = points[np.where(lower, u, v)], points[np.where(lower, v, u)]
        part, whole = (at - low[:, axis])[:, np.newaxis], (high - low)[:, [axis]]
        new = low + (2 * (high - low) * part + whole) // (2 * whole)
        numbers = len(points) + np.arange(len(new))
        points = np.concatenate([points, new])
        return numbers

    two, three = touches, ~touches
    across = add(b[two], c[two], plane[two])
    first_edge, last_edge = (
        add(a[three], b[three], plane[three]),
        add(a[three], c[three], plane[three]),
    )
    found = [
        (a[two], b[two], across),
        (a[two], across, c[two]),
        (a[three], first_edge, last_edge),
        (first_edge, b[three], c[three]),
        (first_edge, c[three], last_edge),
    ]
    return points, np.concatenate([np.stack(corners, axis=1) for corners in found])


def _z_curve(place: np.ndarray) -> np.ndarray:
    """Orders chunks: the bits of x, y and z in turn, those of x the lowest; int64 [n]."""
    codes = np.zeros(len(place), np.int64)
    for bit in range(21):
        for axis in range(3):
            codes |= ((place[:, axis] >> bit) & 1) << (3 * bit + axis)
    return codes
