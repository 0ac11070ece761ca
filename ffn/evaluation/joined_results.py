"""Results of several boxes as one array, of which some are in memory at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from ffn.utils.geometry import Box, Xyz
from ffn.utils.kept import Kept
from ffn.utils.npz import memory

# Ids of the i-th of several subvolumes are offset by i times this.
SUBVOLUME_IDS = 2**32
# Results are kept up to so many bytes, and a few whatever their size: a block may lie in that many.
_KEPT_BYTES, _LEAST_KEPT = min(memory() // 8, 2**33), 4


class JoinedResults:
    """Labels of several boxes as one array; where they overlap, the first one counts, and 0 where there is none.

    Attributes:
      box: around all of them.
      boxes: where each lies, in coordinates of the array.
      shape: z, y, x.
      dtype: uint64.
    """

    dtype = np.dtype(np.uint64)

    def __init__(self, boxes: Sequence[Box], read: Callable[[int], np.ndarray]):
        """Joins results.

        Args:
          boxes: position of each.
          read: returns the labels of one, given its number: integer [z, y, x], ids below SUBVOLUME_IDS.
        """
        start = Xyz(*(min(box.start[i] for box in boxes) for i in range(3)))
        end = (max(box.end[i] for box in boxes) for i in range(3))
        self.box = Box(start, Xyz(*(b - a for a, b in zip(start, end, strict=True))))
        self.boxes = [box.relative_to(start) for box in boxes]
        self.shape = tuple(self.box.size.zyx)
        self._index = _Index(self.boxes)
        self._kept = Kept[int, np.ndarray](read, lambda one: one.nbytes, _KEPT_BYTES, _LEAST_KEPT)

    def __getitem__(self, index: tuple[slice, slice, slice]) -> np.ndarray:
        wanted = Box.from_zyx([s.start for s in index], [s.stop - s.start for s in index])
        joined = np.zeros(wanted.size.zyx, np.uint64)
        for number in reversed(self._index.overlapping(wanted)):
            part = wanted.intersection(self.boxes[number])
            if part is not None:
                inside = part.relative_to(self.boxes[number].start).slices_zyx
                labels = self._kept.get(number)[inside]
                ids = labels.astype(np.uint64) + np.uint64(number * SUBVOLUME_IDS)
                joined[part.relative_to(wanted.start).slices_zyx] = np.where(labels > 0, ids, 0)
        return joined


class _Index:
    """Boxes, sorted along z, so that those around a place are found without looking at all of them."""

    def __init__(self, boxes: Sequence[Box]):
        start, end = (
            np.array(corners, np.int64).reshape(-1, 3)
            for corners in ([box.start for box in boxes], [box.end for box in boxes])
        )
        self._order = np.argsort(start[:, 2], kind='stable')
        self._start, self._end = start[self._order], end[self._order]
        self._depth = int((end - start)[:, 2].max(initial=0))

    def overlapping(self, box: Box) -> list[int]:
        """Numbers of the boxes that share voxels with one, in ascending order."""
        z = self._start[:, 2]
        rows = slice(*np.searchsorted(z, (box.start.z - self._depth + 1, box.end.z)))
        near = (self._start[rows] < box.end) & (self._end[rows] > box.start)
        return sorted(self._order[rows][near.all(axis=1)].tolist())


def count_uncovered(box: Box, boxes: Sequence[Box]) -> int:
    """Returns how many voxels of a box lie in none of the others, which may overlap."""
    parts = [part for one in boxes if (part := box.intersection(one)) is not None]
    x, y, z = (
        sorted({n for part in parts for n in (part.start[axis], part.end[axis])})
        for axis in range(3)
    )
    x_at, y_at = ({place: i for i, place in enumerate(places)} for places in (x, y))
    index, covered = _Index(parts), 0
    for low, high in itertools.pairwise(z):
        cells = np.zeros((len(y) - 1, len(x) - 1), bool)
        slab = Box(box.start._replace(z=low), box.size._replace(z=high - low))
        for number in index.overlapping(slab):
            part = parts[number]
            rows = slice(y_at[part.start.y], y_at[part.end.y])
            cells[rows, x_at[part.start.x] : x_at[part.end.x]] = True
        covered += (high - low) * int(np.diff(y) @ cells @ np.diff(x))
    return math.prod(box.size) - covered
