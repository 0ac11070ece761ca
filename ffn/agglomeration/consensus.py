"""Oversegmentation consensus: splits objects wherever one of two segmentations does.

Two segmentations of the same subvolume rarely contain the same merge error. Voxels stay together if both
put them into one object; a boundary in either becomes a boundary in the result. Januszewski et al. 2018, Methods,
"Oversegmentation consensus".
"""

from __future__ import annotations

from typing import NamedTuple

import fastremap
import numpy as np

from ffn.inference.given_segments import look_up
from ffn.inference.storage import smallest_unsigned
from ffn.utils.errors import UserError
from ffn.utils.labels import NOT_LABELLED, compact


class Consensus(NamedTuple):
    """The consensus of two segmentations.

    Attributes:
      labels: unsigned [z, y, x] of the smallest type; 0 is background.
      split_off: new id → id of the object in the first segmentation that it was split from.
      dropped_voxels: number of voxels in intersections that were too small.
    """

    labels: np.ndarray
    split_off: dict[int, int]
    dropped_voxels: int


def split_consensus(
    a: np.ndarray,
    b: np.ndarray,
    min_size: int = 0,
    given: tuple[np.ndarray, np.ndarray] | None = None,
) -> Consensus:
    """Splits the objects of one segmentation along the boundaries of another.

    Every object of `a` is split into its intersections with the labels of `b`, including background. The
    largest intersection (in case of a tie, that with the lowest label of `b`) keeps the object's id; the
    others, if large enough, get ids above all of `a`, ordered by (label of `b`, label of `a`). Where
    there are too few of these below 2^64-1, they get the lowest ids that `a` does not have.

    Args:
      a: integer [z, y, x]; 0 or less, and 2^64-1, is background.
      b: integer [z, y, x], of the same shape.
      min_size: intersections with fewer voxels become background.
      given: of either segmentation, what its first ids, from 0, are called in the one that it was filled with
        beforehand: uint64 [n], 0 for nothing. Of an object of `a` that was there, what is the same one in
        `b` keeps the id, even if another intersection is larger.

    Raises:
      UserError: different shapes, or labels that are not integers.
    """
    if a.shape != b.shape:
        raise UserError(
            f'the segmentations have shapes {a.shape} and {b.shape}; they must be equal'
        )
    for labels in (a, b):
        if labels.dtype.kind not in 'iu':
            raise UserError(f'a segmentation is {labels.dtype}; labels are integers')
    small_a, ids_a = compact(a)
    small_b, ids_b = compact(b)
    width = np.uint64(len(ids_b))
    pair = small_a.astype(np.uint64)
    pair *= width
    pair += small_b
    part_of_voxel, of_pair = fastremap.renumber(pair, preserve_zero=False, in_place=True)
    pairs = np.zeros(len(of_pair) + 1, np.uint64)
    pairs[list(of_pair.values())] = list(of_pair)
    voxels = np.bincount(part_of_voxel.ravel(), minlength=len(pairs))
    part_a, part_b = np.divmod(pairs, width)

    same = np.zeros(len(pairs), bool)
    if given is not None:
        first, second = look_up(given[0], ids_a[part_a]), look_up(given[1], ids_b[part_b])
        same = (first == second) & (first > 0)
    by_size = np.lexsort((part_b, -voxels, ~same, part_a))
    largest = np.zeros(len(pairs), bool)
    largest[by_size[np.unique(part_a[by_size], return_index=True)[1]]] = True
    enough = (part_a > 0) & (voxels >= min_size)
    ids = np.where(enough & largest, ids_a[part_a], 0)
    new = np.flatnonzero(enough & ~largest)
    new = new[np.lexsort((part_a[new], part_b[new]))]
    ids[new] = _free_ids(ids_a, len(new))
    return Consensus(
        smallest_unsigned(ids)[part_of_voxel],
        dict(zip(ids[new].tolist(), ids_a[part_a[new]].tolist(), strict=True)),
        int(voxels[(part_a > 0) & ~enough].sum()),
    )


def _free_ids(taken: np.ndarray, count: int) -> np.ndarray:
    """Returns ids that are not in a table of ids, above it if possible: uint64 [count]."""
    first = int(taken.max()) + 1
    if first + count <= NOT_LABELLED:
        return np.arange(first, first + count, dtype=np.uint64)
    return np.setdiff1d(np.arange(1, len(taken) + count + 1, dtype=np.uint64), taken)[:count]
