"""Decision points: where two segments that may belong together are closest.

Januszewski et al. 2018, Methods, "Agglomeration"; both segments are resegmented around the point.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
from skimage.segmentation import watershed

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import compact

# Half of the 26 neighbours, so that each pair of voxels occurs once.
_OFFSETS = [o for o in itertools.product((-1, 0, 1), repeat=3) if o > (0, 0, 0)]


class DecisionPoint(NamedTuple):
    """Where two segments are closest.

    Attributes:
      distance: mean distance of the point from the two, in units of the voxel size; 0 if they touch.
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
    touching voxel of the lower id is a candidate, at the mean distance of the two voxels. Among the
    closest candidates, the one nearest to their centroid is chosen.

    Args:
      segmentation: integer [z, y, x], 0 or less is background.
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
    distance = edt.edt(np.ascontiguousarray(labels == 0), anisotropy=tuple(voxel_size_xyz[::-1]))
    mask = None if max_distance is None else distance <= max_distance
    grown = watershed(distance, labels.astype(np.int32), mask=mask)
    return {
        (int(ids[low]), int(ids[high])): place
        for (low, high), place in _choose_nearest(
            *_find_contacts(grown, distance, core), grown.shape
        ).items()
    }


def _find_contacts(
    grown: np.ndarray, distance: np.ndarray, core: Box | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns contacts: int32 [n, 2] labels, flat indices of the lower label's voxel, mean distances."""
    index = np.arange(grown.size, dtype=np.int64).reshape(grown.shape)
    inside = None
    if core is not None:
        inside = np.zeros(grown.shape, bool)
        inside[core.slices_zyx] = True
    found = []
    for offset in _OFFSETS:
        here, there = _shifted(offset)
        a, b = grown[here], grown[there]
        touching = (a != b) & (a > 0) & (b > 0)
        a, b = a[touching], b[touching]
        at = np.where(a < b, index[here][touching], index[there][touching])
        mean = (distance[here][touching] + distance[there][touching]) / 2
        pair = np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1)
        kept = slice(None) if inside is None else inside.ravel()[at]
        found.append((pair[kept], at[kept], mean[kept]))
    pairs, at, means = zip(*found, strict=True)
    return np.concatenate(pairs), np.concatenate(at), np.concatenate(means)


def _shifted(offset: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Returns slices of all voxels with a neighbour at an offset, and of these neighbours."""
    here = tuple(slice(max(-o, 0), -o if o > 0 else None) for o in offset)
    there = tuple(slice(max(o, 0), o if o < 0 else None) for o in offset)
    return here, there


def _choose_nearest(
    pairs: np.ndarray, at: np.ndarray, means: np.ndarray, shape: Sequence[int]
) -> dict[tuple[int, int], DecisionPoint]:
    order = np.lexsort((at, means, pairs[:, 1], pairs[:, 0]))
    pairs, at, means = pairs[order], at[order], means[order]
    begins = np.flatnonzero(np.any(pairs[1:] != pairs[:-1], axis=1)) + 1
    result = {}
    for begin, end in itertools.pairwise([0, *begins.tolist(), len(pairs)]):
        if begin == end:
            continue
        tied = begin + np.searchsorted(means[begin:end], means[begin], side='right')
        points = np.stack(np.unravel_index(np.unique(at[begin:tied]), shape), axis=1)
        off_centroid = np.sum((points - points.mean(axis=0)) ** 2, axis=1)
        nearest = Zyx.of(points[np.argmin(off_centroid)])
        result[tuple(pairs[begin].tolist())] = DecisionPoint(
            float(means[begin]), nearest.xyz, len(points)
        )
    return result
