"""Surfaces of segments as triangles: from voxels, joined, simplified.

Positions are integers on a lattice of _STEPS steps a voxel, which counts from a corner of the grid of meshes: what two
blocks have on the plane between them is equal, bit by bit. A surface is closed where every edge is passed as often
in one direction as in the other. All that is done here keeps it so; the border of a piece, along the planes between
blocks, does not move.

Lorensen, Cline, Marching cubes: a high resolution 3D surface construction algorithm, SIGGRAPH 1987; Garland,
Heckbert, Surface simplification using quadric error metrics, SIGGRAPH 1997.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes

from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.labels import compact

# Lattice steps a voxel; even, since surfaces cross between voxels in the middle.
STEPS = 128
# Fewer triangles than these are not simplified: an object of a few voxels stays what it is.
_FEW = 64
# How much of an object's volume its simplified surface may lose or gain; where it does, smaller errors are tried.
_VOLUME, _TRIES = 0.03, (1, 1 / 3, 1 / 9)
# fast-simplification's lossless mode removes what costs less than this; the costs are sums of squared distances.
_LOSSLESS = float(np.sqrt(np.finfo(np.float64).eps))
# Its mesh is a global variable.
_ONE_AT_A_TIME = threading.Lock()


class Surface(NamedTuple):
    """Triangles.

    Attributes:
      points: int64 [n, 3], x, y, z lattice positions.
      triangles: int32 [m, 3], indices of points; counter-clockwise, seen from outside.
    """

    points: np.ndarray
    triangles: np.ndarray

    def volume(self, apex: Sequence[int] = (0, 0, 0)) -> float:
        """Volume in voxels; of an open surface, together with the cone from an apex [3] to its border."""
        x, y, z = ((self.points - apex)[self.triangles] / STEPS).transpose(2, 1, 0)
        return float(
            np.sum(
                x[0] * (y[1] * z[2] - y[2] * z[1])
                - y[0] * (x[1] * z[2] - x[2] * z[1])
                + z[0] * (x[1] * y[2] - x[2] * y[1])
            )
            / 6
        )


NO_SURFACE = Surface(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int32))


def find_surfaces(labels: np.ndarray, origin: Xyz) -> Iterator[tuple[int, Surface, int]]:
    """Finds the surfaces of all labels between the centres of a block's voxels.

    Args:
      labels: integer [z, y, x]; 0 is background. Surfaces end at the centres of the outermost voxels.
      origin: of the first voxel, in voxels from the corner of the grid, which lies at a voxel's centre.

    Yields:
      Label, surface, and number of voxels, without those of the last planes, which the next blocks count.
    """
    numbers, ids = compact(labels)
    for number, found in enumerate(ndimage.find_objects(numbers), 1):
        if found is None:
            continue
        crop = tuple(
            slice(max(s.start - 1, 0), min(s.stop + 1, n))
            for s, n in zip(found, labels.shape, strict=True)
        )
        mask = numbers[crop] == number
        if mask.all():  # only its voxels count
            yield int(ids[number]), NO_SURFACE, int(mask[:-1, :-1, :-1].size)
            continue
        # Lewiner's variant, scikit-image's default, leaves some edges to four triangles.
        points, triangles, _, _ = marching_cubes(
            mask.view(np.uint8), 0.5, method='lorensen', allow_degenerate=False
        )
        start = Xyz(*(o + s.start for o, s in zip(origin, crop[::-1], strict=True)))
        lattice = np.rint(points[:, ::-1] * STEPS).astype(np.int64) + np.multiply(start, STEPS)
        # In z, y, x order, scikit-image's triangles face inwards; reversing the axes mirrors them.
        surface = Surface(lattice, triangles.astype(np.int32))
        yield int(ids[number]), surface, int(np.count_nonzero(mask[:-1, :-1, :-1]))


def join(surfaces: Sequence[Surface]) -> Surface:
    """Joins surfaces; their points at the same position become one."""
    begins = np.cumsum([0, *(len(s.points) for s in surfaces)])
    return tidy(
        np.concatenate([s.points for s in surfaces]),
        np.concatenate([s.triangles + b for s, b in zip(surfaces, begins, strict=False)]),
    )


def tidy(points: np.ndarray, triangles: np.ndarray) -> Surface:
    """Joins points at the same position; drops triangles without area, pairs that face each other, and loose points.

    Args:
      points: int64 [n, 3].
      triangles: integer [m, 3].
    """
    points, number = unique_rows(points)
    triangles = number[triangles]
    a, b, c = triangles.T
    triangles = triangles[(a != b) & (b != c) & (c != a)]
    triangles = _without_pairs(triangles)
    used, triangles = np.unique(triangles, return_inverse=True)
    return Surface(points[used], triangles.reshape(-1, 3).astype(np.int32))


def _without_pairs(triangles: np.ndarray) -> np.ndarray:
    """Drops pairs of triangles with the same corners that face in opposite directions."""
    if not len(triangles):
        return triangles
    corners, same = unique_rows(np.sort(triangles, axis=1))
    if len(corners) == len(triangles):
        return triangles
    a, b, c = triangles.T
    even = ((a < b) & (b < c)) | ((b < c) & (c < a)) | ((c < a) & (a < b))
    balance = np.bincount(same, np.where(even, 1, -1)).astype(np.int64)
    kept = np.zeros(len(triangles), bool)
    for sign, facing in ((1, even), (-1, ~even)):
        rows = np.flatnonzero(facing)
        rows = rows[np.argsort(same[rows], kind='stable')]
        begins = np.searchsorted(same[rows], same[rows])
        kept[rows] = np.arange(len(rows)) - begins < sign * balance[same[rows]]
    return triangles[kept]


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds distinct rows.

    Args:
      rows: integer [n, 3].

    Returns:
      int64 [m, 3], ascending; and the number of each row in it, int64 [n].
    """
    if not len(rows):
        return rows.astype(np.int64), np.zeros(0, np.int64)
    low = rows.min(axis=0).astype(np.int64)
    sizes = [int(n) + 1 for n in rows.max(axis=0) - low]
    if sizes[0] * sizes[1] * sizes[2] >= 1 << 62:
        found, number = np.unique(rows, axis=0, return_inverse=True)
        return found, number.ravel()
    keys = ((rows[:, 0] - low[0]) * sizes[1] + rows[:, 1] - low[1]) * sizes[2] + rows[:, 2] - low[2]
    unique, number = np.unique(keys, return_inverse=True)
    rest, z = np.divmod(unique, sizes[2])
    x, y = np.divmod(rest, sizes[1])
    return np.stack([x, y, z], axis=1) + low, number


def simplify(surface: Surface, error: float, voxel_size: Sequence[float], volume: float) -> Surface:
    """Removes triangles where the surface hardly changes; its border, if it has one, stays.

    Where this would change the volume by more than three hundredths, less is removed, or nothing.

    Args:
      surface: what is simplified.
      error: square root of the sum of squared distances from the planes of all triangles that were removed around
        a point, in nanometres.
      voxel_size: x, y, z nanometres.
      volume: of the object, or the part of it that the surface is of, in voxels.
    """
    if len(surface.triangles) < _FEW:
        return surface
    apex = surface.points[0].tolist()
    before = surface.volume(apex)
    for part in _TRIES:
        simpler = _simplify(surface, error * part, np.asarray(voxel_size) / STEPS)
        change = simpler.volume(apex) - before
        if len(simpler.triangles) and abs(change) <= _VOLUME * volume:
            return simpler
    return surface


def with_volume(surface: Surface, voxels: int, most: float = 0.5) -> Surface:
    """Moves a closed surface along its normals, so that it holds its object's volume.

    Surfaces cut the corners of voxels off, and simplification flattens bends: thin objects lose several hundredths.

    Args:
      surface: closed.
      voxels: volume of the object.
      most: voxels by which it is moved at most.
    """
    points = surface.points.astype(np.float64)
    for _ in range(2):  # the surface grows as it moves outward
        corners = points[surface.triangles]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])  # 2 · area
        missing = voxels * STEPS**3 - np.einsum('ij,ij->', corners[:, 0] - points[0], normals) / 6
        area = np.linalg.norm(normals, axis=1).sum() / 2
        sums = np.stack(
            [
                np.bincount(surface.triangles.ravel(), np.repeat(n, 3), len(points))
                for n in normals.T
            ],
            axis=1,
        )
        outward = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
        points += outward * np.clip(missing / max(area, 1), -most * STEPS / 2, most * STEPS / 2)
    # No further than the corner of the grid.
    return tidy(np.maximum(np.rint(points), 0).astype(np.int64), surface.triangles)


def _simplify(surface: Surface, error: float, step: np.ndarray) -> Surface:
    import fast_simplification

    origin, end = surface.points.min(axis=0), surface.points.max(axis=0)
    scale = step * (_LOSSLESS / error)
    with _ONE_AT_A_TIME:
        points, triangles = fast_simplification.simplify(
            (surface.points - origin) * scale,
            surface.triangles,
            lossless=True,
            preserve_border=True,
        )
    lattice = np.rint(points / scale).astype(np.int64) + origin
    return tidy(np.clip(lattice, origin, end), triangles)


def check_libraries() -> None:
    """Checks that the libraries of the extra `mesh` are there.

    Raises:
      UserError: they are not.
    """
    try:
        import DracoPy  # noqa: F401
        import fast_simplification  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'--meshes needs {error.name}: pip install "flood-filling-networks[mesh]"'
        ) from error
