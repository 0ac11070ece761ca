"""Decision points: where two segments that may belong together are closest.

Januszewski et al. 2018, Methods, "Agglomeration"; both segments are resegmented around the point.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import edt
import fastremap
import numpy as np
from skimage.segmentation import watershed

from ffn.agglomeration.surfaces import Surfaces
from ffn.utils.errors import UserError
from ffn.utils.geometry import HALF_NEIGHBOURS, Box, Xyz, Zyx, relative_edges
from ffn.utils.labels import compact
from ffn.utils.rounding import reach


class DecisionPoint(NamedTuple):
    """Where two segments are closest.

    Attributes:
      distance: mean of how far the point is from its segment, and the voxel beside it from the other one, in units of
        the voxel size; 0 if they touch.
      point_xyz: the decision point.
      touching: number of places that are equally close.
    """

    distance: float
    point_xyz: Xyz
    touching: int


def find_decision_points(
    segmentation: np.ndarray,
    voxel_size_xyz: Sequence[float] = (1, 1, 1),
    max_distance: float | None = None,
    core: Box | None = None,
) -> dict[tuple[int, int], DecisionPoint]:
    """Finds, for every two segments that are close to each other, the point where they are closest.

    All segments are dilated simultaneously into the background, up to `max_distance`, by a watershed on
    the distance to the nearest segment. Wherever two dilated segments touch (26-neighbourhood), the
    touching voxel of the lower id is a candidate, at the mean distance of the two voxels, each from its own
    segment, if that is within `max_distance`. Among the closest candidates, the one nearest to their centroid
    is chosen.

    Args:
      segmentation: integer [z, y, x]; 0 or less, and 2^64-1, is background.
      voxel_size_xyz: x, y, z, in any unit.
      max_distance: how far segments are dilated, in that unit; None: without limit.
      core: restricts points to this box, in voxels of the array; None: everywhere.

    Returns:
      (lower id, higher id) → the decision point.

    Raises:
      UserError: no three axes, labels that are no integers, or a voxel size that is not positive.
    """
    if segmentation.ndim != 3 or segmentation.dtype.kind not in 'iu':
        raise UserError(
            f'the segmentation is {segmentation.dtype} of shape {segmentation.shape}; expected '
            'integers [z, y, x]'
        )
    if len(voxel_size_xyz) != 3 or not all(size > 0 for size in voxel_size_xyz):
        raise UserError(f'voxel_size is x,y,z {tuple(voxel_size_xyz)}; expected positive sizes')
    labels, ids = compact(segmentation)
    if len(ids) < 3:
        return {}
    # In shortest edges, distances of cubes are free of rounding whatever the unit, so that those that are equal count so.
    edges, shortest = relative_edges(voxel_size_xyz)[::-1], min(voxel_size_xyz)
    limit = math.inf if max_distance is None else reach(max_distance / shortest)
    distance = edt.edt(np.ascontiguousarray(labels == 0), anisotropy=edges)
    # Voxels inside of segments look useless here, but who gets voxels in the middle depends on them:
    # findings/watershed_ties_depend_on_inner_markers.sh.
    grown = watershed(distance, labels.astype(np.int32), mask=distance <= limit)
    # A segment may arrive first at a voxel that is nearer to another one.
    at = np.nonzero((labels == 0) & (grown > 0) & _is_beside_another(grown))
    distance[at] = Surfaces(labels, edges).distances(at, grown[at])
    pairs, lower, means = _find_contacts(grown, distance, core)
    near = means <= limit
    contacts = pairs[near], lower[near], means[near]
    return {
        (int(ids[low]), int(ids[high])): place._replace(
            distance=float(np.float32(place.distance * shortest))
        )
        for (low, high), place in _choose_nearest(*contacts, grown.shape)
    }


def _find_contacts(
    grown: np.ndarray, distance: np.ndarray, core: Box | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finds where dilated segments touch.

    Returns:
      int64 [n] pairs, lower label · 2^31 + higher label; int64 [n] flat indices of the lower label's voxel in
      an array with a margin of one voxel; float32 [n] mean distances.
    """
    padded = np.pad(grown, 1)  # neighbours then exist everywhere, one step away in memory
    labels, distances = padded.ravel(), np.pad(distance, 1).ravel()
    within = np.zeros(grown.shape, bool)
    within[(...,) if core is None else core.slices_zyx] = True
    inside = np.pad(within, 1).ravel()
    at = np.flatnonzero((padded > 0) & _is_beside_another(padded))
    own, own_distance = labels[at], distances[at]
    found = []
    for offset in HALF_NEIGHBOURS:
        step = int(np.dot(offset, padded.strides)) // padded.itemsize
        other = labels[at + step]
        touching = np.flatnonzero((other != own) & (other > 0))
        here, a, b = at[touching], own[touching], other[touching]
        means = (own_distance[touching] + distances[here + step]) / 2
        lower = np.where(a < b, here, here + step)
        pairs = (np.minimum(a, b).astype(np.int64) << 31) | np.maximum(a, b)
        kept = inside[lower]
        found.append((pairs[kept], lower[kept], means[kept]))
    pairs, lower, means = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pairs, lower, means


def _is_beside_another(labels: np.ndarray) -> np.ndarray:
    """Whether a voxel and its 26 neighbours differ: bool, of the shape of the labels."""
    lowest = highest = labels
    for axis in range(labels.ndim):
        lowest, highest = (
            _over_neighbours(np.minimum, lowest, axis),
            _over_neighbours(np.maximum, highest, axis),
        )
    return lowest != highest


def _over_neighbours(function: np.ufunc, values: np.ndarray, axis: int) -> np.ndarray:
    """Applies a function to each voxel and its two neighbours along an axis."""
    result = values.copy()
    before, after = (np.moveaxis(array, axis, 0) for array in (values, result))
    function(after[1:], before[:-1], out=after[1:])
    function(after[:-1], before[1:], out=after[:-1])
    return result


def _choose_nearest(
    pairs: np.ndarray, at: np.ndarray, means: np.ndarray, shape: Sequence[int]
) -> Iterator[tuple[tuple[int, int], DecisionPoint]]:
    """Yields for each pair, in ascending order, the closest contact that is nearest to their centroid."""
    if not len(pairs):
        return
    margin = [n + 2 for n in shape]
    names, rank = _rank(pairs)
    least = np.full(len(names), np.inf, means.dtype)
    np.minimum.at(least, rank, means)
    closest = means <= reach(least[rank])
    keys = np.sort(rank[closest] * math.prod(margin) + at[closest])
    which, at = np.divmod(keys[np.diff(keys, prepend=-1) > 0], math.prod(margin))
    begins = np.searchsorted(which, np.arange(len(names) + 1))
    for index, (begin, end) in enumerate(itertools.pairwise(begins.tolist())):
        points = np.stack(np.unravel_index(at[begin:end], margin), axis=1) - 1
        off_centroid = np.sum((points - points.mean(axis=0)) ** 2, axis=1)
        nearest = Zyx.of(points[np.argmin(off_centroid)])
        low, high = divmod(int(names[index]), 2**31)
        yield (low, high), DecisionPoint(float(least[index]), nearest.xyz, end - begin)


def _rank(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct values, ascending, and int64 [n] the place of each element among them."""
    dense, names = fastremap.renumber(values, preserve_zero=False)  # much faster than sorting
    keys, codes = (np.fromiter(part, np.int64, len(names)) for part in (names, names.values()))
    order = np.argsort(keys)
    ranks = np.zeros(int(codes.max()) + 1, np.int64)
    ranks[codes[order]] = np.arange(len(order))
    return keys[order], ranks[dense]
