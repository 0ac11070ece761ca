"""Which object and which segment are taken for the same: each has its largest overlap with the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffn.evaluation.contingency import Contingency


@dataclass(frozen=True)
class Side:
    """One of two label volumes: where each of its labels is on the other side.

    Attributes:
      ids: uint64 [n], labels, ascending.
      partner: uint64 [n], the label on the other side that shares most voxels with each; 0: none.
      matched: bool [n], whether it is also the partner of its partner.
    """

    ids: np.ndarray
    partner: np.ndarray
    matched: np.ndarray

    def partners(self, labels: np.ndarray) -> np.ndarray:
        """Looks up partners: uint64 of the labels' shape, 0 where there is none."""
        at, known = self._find(labels)
        return np.where(known, np.append(self.partner, np.uint64(0))[at], np.uint64(0))

    def are_matched(self, labels: np.ndarray) -> np.ndarray:
        """Looks up which labels are matched: bool of the labels' shape; background is not."""
        at, known = self._find(labels)
        found: np.ndarray = known & np.append(self.matched, False)[at]
        return found

    def _find(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of each label, and whether it is known; unknown ones may have an index behind the last."""
        numbers = np.where(labels > 0, labels, 0).astype(np.uint64)
        at = np.searchsorted(self.ids, numbers)
        return at, (np.append(self.ids, np.uint64(0))[at] == numbers) & (numbers > 0)


@dataclass(frozen=True)
class Matches:
    """Which labels of two volumes are taken for the same.

    Attributes:
      objects: labels of the truth.
      segments: labels of the segmentation.
    """

    objects: Side
    segments: Side


NO_MATCHES = Matches(
    *(Side(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, bool)) for _ in range(2))
)


def find_matches(table: Contingency) -> Matches:
    """Matches the objects and segments of a table."""
    objects, segments = _partners(table), _partners(table.swapped())
    return Matches(
        Side(*objects, matched=_is_mutual(objects, segments)),
        Side(*segments, matched=_is_mutual(segments, objects)),
    )


def _partners(table: Contingency) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the truth, and the segment that each shares most voxels with; of equal ones the lowest."""
    rows = table.rows(table.truth > 0)
    shared = np.where(rows.segmentation > 0, rows.voxels, 0)
    order = np.lexsort((rows.segmentation, -shared, rows.truth))
    ids, first = np.unique(rows.truth[order], return_index=True)
    best = order[first]
    return ids, np.where(shared[best] > 0, rows.segmentation[best], np.uint64(0))


def _is_mutual(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    ids, partner = one
    other_ids, back = other
    at = np.searchsorted(other_ids, partner)  # a partner that is not 0 is among them
    mutual: np.ndarray = (partner > 0) & (np.append(back, np.uint64(0))[at] == ids)
    return mutual
