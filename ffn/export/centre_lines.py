"""Lines through the middle of an object's voxels, from tip to tip.

The cost of a step falls with the fourth power of the distance to the surface, so that the cheapest paths run in the
middle. All paths lead to one root and are thus a tree. Each begins at the voxel that is farthest from the root, along
the object, of those that no path has passed close by. Unlike thinning (`skimage.morphology.skeletonize`, which erases
bodies of even width), this gives every object a line, and every tip; and all voxels of the lines are in the object.

Sato et al., TEASAR: tree-structure extraction algorithm for accurate and robust skeletons, Pacific Graphics 2000.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from skimage.graph import MCP_Geometric

# A path passes voxels close by if they are nearer than its radius times SCALE and VOXELS of their longest sides.
SCALE, VOXELS = 1.5, 3.0
POWER = 4
# A branch that reaches less far out of a round body than this, by its radius, is a bump.
SPUR = 1.3

Place = tuple[int, ...]


class Lines(NamedTuple):
    """A tree along an object.

    Attributes:
      nodes: int64 [n, 3], z, y, x voxels.
      edges: int64 [m, 2], indices of nodes.
    """

    nodes: np.ndarray
    edges: np.ndarray


def fill_cavities(mask: np.ndarray) -> np.ndarray:
    """Fills the holes of an object that nothing outside touches.

    Args:
      mask: bool [z, y, x]; a hole that reaches its border is none.
    """
    outside = cc3d.connected_components((~mask).view(np.uint8), connectivity=6)
    border = [np.unique(np.take(outside, end, axis)) for axis in range(3) for end in (0, -1)]
    open_ = np.zeros(int(outside.max()) + 1, bool)
    open_[np.concatenate(border)] = True
    open_[0] = False
    return ~open_[outside]


def distances(mask: np.ndarray, size: Sequence[float]) -> np.ndarray:
    """Distances to the surface of an object, its cavities filled.

    Args:
      mask: bool [z, y, x]; what lies beyond its border is not known, and taken for object.
      size: z, y, x of a voxel.

    Returns:
      float32 [z, y, x]; infinite if all is object.
    """
    return np.asarray(edt.edt(fill_cavities(mask), anisotropy=tuple(size), black_border=False))


def find_lines(
    mask: np.ndarray, radius: np.ndarray, size: Sequence[float], ends: np.ndarray
) -> Lines:
    """Finds the centre lines of an object; the voxel that is farthest from the surface is on one of them.

    Args:
      mask: bool [z, y, x], one component (over corners).
      radius: float [z, y, x], distances to the surface.
      size: z, y, x of a voxel, in the unit of `radius`.
      ends: int64 [n, 3], z, y, x voxels that lines lead to in any case.
    """
    uniform = np.where(mask, 1.0, np.inf)
    if len(ends):
        root = tuple(ends[0].tolist())
    else:
        inside = np.argwhere(mask)
        from_middle = np.linalg.norm((inside - inside.mean(axis=0)) * size, axis=1)
        root = tuple(inside[from_middle.argmax()].tolist())
    search = MCP_Geometric(uniform, sampling=tuple(size))
    far, _ = search.find_costs([root])
    with np.errstate(divide='ignore'):
        costs = np.where(mask, (radius.max() / radius.astype(np.float64)) ** POWER, np.inf)
    paths = MCP_Geometric(costs, sampling=tuple(size))
    paths.find_costs([root])
    deepest = tuple(int(n) for n in np.unravel_index(costs.argmin(), mask.shape))
    first = [root, *map(tuple, ends.tolist())]
    return follow_tips(mask, radius, size, first, far[mask], paths.traceback, [deepest])


def follow_tips(
    mask: np.ndarray,
    radius: np.ndarray,
    size: Sequence[float],
    first: Sequence[Place],
    far: np.ndarray,
    traceback: Callable[[Place], Sequence[Place]],
    last: Sequence[Place] = (),
) -> Lines:
    """Joins the paths from tips to a root to a tree.

    Args:
      mask: bool [z, y, x], one component (over corners).
      radius: float [z, y, x], distances to the surface.
      size: z, y, x of a voxel, in the unit of `radius`.
      first: voxels that paths lead from in any case, the root before all others.
      far: float [n], distance of each voxel of the object, in their order, from the root along the object.
      traceback: the path from the root to a voxel, both included.
      last: voxels that paths lead from in any case, after the tips: what they pass close by is no reason to leave out a
        tip.
    """
    number: dict[Place, int] = {first[0]: 0}
    edges: list[tuple[int, int]] = []
    left = mask.copy()

    def follow(tip: Place) -> None:
        path = traceback(tip)[::-1]
        new = next((i for i, place in enumerate(path) if place in number), len(path))
        for place in path[: new + 1]:
            if place not in number:
                number[place] = len(number)
            reach = SCALE * float(radius[place]) + VOXELS * max(size)
            left[
                tuple(
                    slice(max(math.ceil(a - reach / s), 0), int(a + reach / s) + 1)
                    for a, s in zip(place, size, strict=True)
                )
            ] = False
        edges.extend((number[a], number[b]) for a, b in itertools.pairwise(path[: new + 1]))

    for tip in first:
        follow(tip)
    order = np.argsort(-far, kind='stable')
    places = np.argwhere(mask)[order]
    at = 0
    while at < len(places):
        # Looks at many at a time: most voxels have been passed by.
        part = places[at : at + 4096]
        free = np.flatnonzero(left[tuple(part.T)])
        if not len(free):
            at += len(part)
            continue
        at += int(free[0])
        follow(tuple(places[at].tolist()))
        left[tuple(places[at])] = False
    for place in last:
        follow(place)
    return Lines(np.array(list(number), np.int64), np.array(edges, np.int64).reshape(-1, 2))
