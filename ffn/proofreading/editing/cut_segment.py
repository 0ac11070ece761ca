"""Cuts one segment in two, between voxels that were pointed at: along its narrowest place, by a watershed.

The watershed runs on the depth within the segment, near the points only. From each point the way leads uphill to the
deepest voxel that is reached so, and all of it is a marker: a point near the surface counts as the middle of its
branch. Where points of both sides come to the same place, there is no narrow place between them, and each voxel goes
to the nearest point instead, by way of the segment. What is left of the segment outside goes, piece by piece, to the
side that it touches more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cc3d
import edt
import numpy as np
from skimage.segmentation import watershed

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Position

# Voxels around the points in which the watershed runs.
MARGIN = 48
_OFFSETS = [o for o in itertools.product((-1, 0, 1), repeat=3) if any(o)]
_EVERYWHERE = np.ones((3, 3, 3), bool)

Sides = tuple[Sequence[Position], Sequence[Position]]


def cut_segment(
    segment: np.ndarray, points_zyx: Sides, voxel_size_zyx: Sequence[float] = (1, 1, 1)
) -> np.ndarray:
    """Cuts a segment in two.

    Args:
      segment: bool [z, y, x], all of it.
      points_zyx: voxels of the segment on the first and on the second side, one or more each.
      voxel_size_zyx: in any unit.

    Returns:
      uint8 [z, y, x]: 1 and 2 on the sides, 0 outside of the segment.

    Raises:
      UserError: a point is not in the segment, or on both sides.
    """
    _check(segment, points_zyx)
    near = _box_around([*points_zyx[0], *points_zyx[1]], segment.shape)
    inside = segment[near.slices_zyx]
    start = near.start.zyx
    sides = tuple(
        [(z - start.z, y - start.y, x - start.x) for z, y, x in points] for points in points_zyx
    )
    found = np.zeros(segment.shape, np.uint8)
    found[near.slices_zyx] = _divide(inside, (sides[0], sides[1]), voxel_size_zyx)
    return _spread(segment, found)


def _check(segment: np.ndarray, points: Sides) -> None:
    for point in itertools.chain(*points):
        if not all(0 <= i < n for i, n in zip(point, segment.shape, strict=True)):
            raise UserError(f'the point at z,y,x {point} is outside of the box that is cut')
        if not segment[point]:
            raise UserError(f'the point at z,y,x {point} is not in the segment that is cut')
    if not (points[0] and points[1]) or set(map(tuple, points[0])) & set(map(tuple, points[1])):
        raise UserError('a cut needs points on both sides, and no voxel may be on both')


def _box_around(points: Sequence[Position], shape: Sequence[int]) -> Box:
    table = np.array(points)
    low = np.maximum(table.min(axis=0) - MARGIN, 0)
    high = np.minimum(table.max(axis=0) + MARGIN + 1, shape)
    return Box.from_zyx(low.tolist(), (high - low).tolist())


def _divide(inside: np.ndarray, points: Sides, voxel_size: Sequence[float]) -> np.ndarray:
    depth = edt.edt(np.ascontiguousarray(inside), anisotropy=tuple(voxel_size), black_border=False)
    # A segment that fills its box has no surface, and no depth.
    depth = np.where(np.isfinite(depth), depth, 0)
    markers = np.zeros(inside.shape, np.int32)
    for side, those in enumerate(points, 1):
        for point in those:
            markers[point] = side
    uphill = markers.copy()
    tops: list[set[Position]] = [set(), set()]
    for side, those in enumerate(points, 1):
        for point in those:
            way = _way_up(depth, inside, point, uphill, side)
            tops[side - 1].add(way[-1])
    if tops[0] & tops[1] or _meet(uphill, tops):
        depth, uphill = np.zeros_like(depth), markers
    return watershed(-depth, uphill, connectivity=_EVERYWHERE, mask=inside).astype(np.uint8)


def _way_up(
    depth: np.ndarray, inside: np.ndarray, point: Position, marked: np.ndarray, side: int
) -> list[Position]:
    """Marks the way from a voxel to where no neighbour is deeper; it ends before one of the other side."""
    way = [point]
    while True:
        z, y, x = way[-1]
        near = [(z + dz, y + dy, x + dx) for dz, dy, dx in _OFFSETS]
        within = [at for at in near if _is_in(at, inside)]
        at = max(within, key=lambda one: depth[one], default=way[-1])
        if depth[at] <= depth[way[-1]]:
            return way
        way.append(at)
        if marked[at] not in (0, side):
            return way
        marked[at] = side


def _is_in(at: Sequence[int], inside: np.ndarray) -> bool:
    return all(0 <= i < n for i, n in zip(at, inside.shape, strict=True)) and bool(
        inside[tuple(at)]
    )


def _meet(marked: np.ndarray, tops: list[set[Position]]) -> bool:
    """Whether the way of one side has come to voxels of the other."""
    return any(marked[top] not in (0, side) for side in (1, 2) for top in tops[side - 1])


def _spread(segment: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Gives each piece of the segment that is on no side to the one that it touches more; the first, if none."""
    left = segment & (found == 0)
    if not left.any():
        return found
    pieces = cc3d.connected_components(left, connectivity=26)
    count = int(pieces.max()) + 1
    touching = np.zeros((count, 3), np.int64)
    for offset in _OFFSETS:
        here, there = _shifted(offset)
        meets = left[here] & (found[there] > 0)
        numbers = 3 * pieces[here][meets].astype(np.int64) + found[there][meets]
        touching += np.bincount(numbers, minlength=3 * count).reshape(count, 3)
    side_of = np.where(touching[:, 2] > touching[:, 1], 2, 1).astype(np.uint8)
    found[left] = side_of[pieces[left]]
    return found


def _shifted(offset: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Index of all voxels that have a neighbour at an offset, and of these neighbours."""
    here = tuple(slice(max(0, -o), -o if o > 0 else None) for o in offset)
    there = tuple(slice(max(0, o), o if o < 0 else None) for o in offset)
    return here, there
