"""Integer label arrays: joint histograms, compact renumbering, and replacing ids.

Ids are uint64 and every bit of them counts: they never pass through floats or narrower integers. Labels of
0 or less, and 2^64-1, are background.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Literal

import fastremap
import numpy as np

from ffn.utils.arrays import native

# Means 'not labelled' in files of this field, as do labels below 0.
NOT_LABELLED = 2**64 - 1
# Pairs of ids that are counted in a dense table; beyond that, voxels are sorted.
_DENSE_PAIRS = 1 << 22
# Labels below this limit serve as their own numbers.
_SMALL_LABEL = 1 << 11
# Ids below this limit are replaced through a table that is indexed by id.
_DENSE_IDS = 1 << 24


def clear_unlabelled(labels: np.ndarray) -> np.ndarray:
    """Makes labels that mean 'not labelled', below 0 or 2^64-1, background.

    Args:
      labels: integer or bool, any shape.

    Returns:
      The same array where there are none and its bytes are native, else a new one of that type.
    """
    labels = native(labels)
    if labels.dtype.kind == 'i':
        return np.maximum(labels, 0) if labels.min(initial=0) < 0 else labels
    if labels.dtype != np.uint64 or labels.max(initial=0) < NOT_LABELLED:
        return labels
    return np.where(labels == NOT_LABELLED, np.uint64(0), labels)


def joint_histogram(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Counts the pairs of ids of two segmentations of the same voxels.

    Args:
      first: integer [z, y, x]; values below 0, and 2^64-1, count as 0.
      second: integer, same shape.

    Returns:
      uint64 [m, 3]: id in the first, id in the second, number of voxels; ascending, without (0, 0).
    """
    (a, a_ids), (b, b_ids) = _numbered(first), _numbered(second)
    keys = a.astype(np.int64)
    keys *= len(b_ids)
    keys += b.astype(np.int64, copy=False)
    if len(a_ids) * len(b_ids) <= _DENSE_PAIRS:
        table = np.bincount(keys)
        keys = np.flatnonzero(table)
        counts = table[keys]
    else:
        keys, counts = fastremap.unique(keys, return_counts=True)
    rows, columns = np.divmod(keys, len(b_ids))
    result = np.stack([a_ids[rows], b_ids[columns], counts.astype(np.uint64)], axis=1)
    return result[(result[:, :2] > 0).any(axis=1)]


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat labels as indices into their ids, and the ids, uint64, ascending from 0.

    Unlike `compact`, small labels stand for themselves: ids may then include some that do not occur.
    """
    flat = clear_unlabelled(np.ascontiguousarray(labels).ravel())
    greatest = int(flat.max(initial=0))
    if greatest < _SMALL_LABEL:
        return flat, np.arange(greatest + 1, dtype=np.uint64)
    ids = fastremap.unique(flat)
    ids = ids if ids[0] == 0 else np.concatenate([ids[:1] * 0, ids])
    numbers = dict(zip(ids.tolist(), range(len(ids)), strict=True))
    return fastremap.remap(flat, numbers).astype(np.int64), ids.astype(np.uint64)


def compact(
    labels: np.ndarray, keep: Container[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Renumbers the labels that occur as 1, 2, …, in ascending order; background is 0.

    Args:
      labels: integer, any shape.
      keep: labels to keep; the others become background. None keeps all.

    Returns:
      The numbers, of the same shape in the smallest unsigned type, and the id that each number stands
      for, uint64 [n + 1], beginning with 0 for background.
    """
    labels = labels.view(np.uint8) if labels.dtype.kind == 'b' else clear_unlabelled(labels)
    numbers, number_of = renumber(labels)
    ids = sorted(i for i in number_of if i and (keep is None or i in keep))
    table = np.zeros(max(number_of.values(), default=0) + 1, np.min_scalar_type(len(ids)))
    table[[number_of[i] for i in ids]] = np.arange(1, len(ids) + 1)
    return table[numbers], np.array([0, *ids], np.uint64)


def renumber(labels: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
    """Numbers the labels that occur as 1, 2, …, in the order of their first voxel; 0 stays 0.

    Args:
      labels: integer, any shape.

    Returns:
      The numbers, of the same shape; and label → number, with 0 if it occurs.
    """
    numbers, number_of = fastremap.renumber(labels, preserve_zero=True)
    bits = 8 * labels.dtype.itemsize - (labels.dtype.kind == 'i')
    if len(number_of) >= 2**bits - 1:  # fastremap's numbers have wrapped: to 8 bits, or below 0
        return fastremap.renumber(labels.astype(np.int32), preserve_zero=True)
    return numbers, number_of


def find_ids(ids: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Looks up ids in an ascending table.

    Args:
      ids: integer [n], ascending.
      wanted: integer [m], of the same type.

    Returns:
      The index of each in `ids`, int64 [m], 0 where it is absent; and whether it is there, bool [m].
    """
    at = np.searchsorted(ids, wanted)
    found = at < len(ids)
    found[found] = ids[at[found]] == wanted[found]
    return np.where(found, at, 0), found


def groups(numbers: np.ndarray) -> Iterator[np.ndarray]:
    """Finds which elements have each number, in time that does not depend on how many numbers there are.

    Args:
      numbers: integer [n], from 0, such as the inverse of `np.unique`.

    Yields:
      int64 [m], ascending indices of the elements with the number 0, 1, and so on.
    """
    order = np.argsort(numbers, kind='stable')
    ends = np.cumsum(np.bincount(numbers))
    begin = 0
    for end in ends.tolist():
        yield order[begin:end]
        begin = end


def remap(
    labels: np.ndarray,
    ids: np.ndarray,
    replacements: np.ndarray,
    *,
    others: Literal['keep', 'background'],
) -> np.ndarray:
    """Replaces ids in a segmentation.

    Args:
      labels: integer [z, y, x]; values below 0, and 2^64-1, count as 0.
      ids: uint64 [n], ascending.
      replacements: uint64 [n], what each becomes.
      others: what becomes of ids that are not listed.

    Returns:
      uint64 [z, y, x], a new array.
    """
    labels = clear_unlabelled(labels)
    greatest = int(ids[-1]) if len(ids) else 0
    if others == 'background' and greatest < _DENSE_IDS:
        table = np.zeros(greatest + 2, np.uint64)  # its last entry is for all ids beyond
        table[ids] = replacements
        if labels.dtype == np.uint64:
            labels = np.minimum(labels, len(table) - 1).astype(np.int64)
        return table.take(labels, mode='clip')
    data = labels.astype(np.uint64)
    present = fastremap.unique(data)
    at, found = find_ids(ids, present)
    new = present.copy() if others == 'keep' else np.zeros_like(present)
    new[found] = replacements[at[found]]
    mapping = dict(zip(present.tolist(), new.tolist(), strict=True))
    return fastremap.remap(data, mapping, in_place=True)
