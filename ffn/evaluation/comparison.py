"""Two segmentations side by side, neither of which is taken for the truth."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ffn.evaluation.contingency import Contingency, Counted
from ffn.evaluation.error_cases import ErrorCase, MissedObject, find_missed_objects, find_splits
from ffn.evaluation.matches import NO_MATCHES, Matches, find_matches
from ffn.evaluation.plain import to_plain
from ffn.evaluation.rand import compute_rand
from ffn.evaluation.voi import compute_voi
from ffn.utils.geometry import Box

Cases = tuple[ErrorCase, ...] | tuple[MissedObject, ...]
_COUNTED: tuple[Counted, ...] = ('either', 'both')


@dataclass(frozen=True)
class Distance:
    """How far apart A and B are, over one choice of voxels.

    Attributes:
      voxels: number of voxels.
      voi_b_given_a: H(B | A), bits; grows where B splits objects of A.
      voi_a_given_b: H(A | B), bits; grows where B merges objects of A.
      rand_error: adapted Rand error, the same in both directions.
    """

    voxels: int
    voi_b_given_a: float
    voi_a_given_b: float
    rand_error: float


@dataclass(frozen=True)
class Comparison:
    """Two segmentations side by side.

    Attributes:
      box: what was compared, in coordinates of A.
      scores: over voxels labelled in 'either' and in 'both'; None if there are none.
      objects_a: number of objects in A.
      objects_b: number of objects in B.
      identical: number of objects with the same voxels in both.
      cut_in_b: objects of A that are split in B, worst first.
      joined_in_b: objects of B that merge several of A, worst first.
      missing_in_b: objects of A without a label in B, wholly or in part.
      missing_in_a: objects of B without a label in A, wholly or in part.
      matches: which objects of A and B are taken for the same; not in the JSON.
    """

    box: Box
    scores: dict[Counted, Distance | None]
    objects_a: int
    objects_b: int
    identical: int
    cut_in_b: tuple[ErrorCase, ...]
    joined_in_b: tuple[ErrorCase, ...]
    missing_in_b: tuple[MissedObject, ...]
    missing_in_a: tuple[MissedObject, ...]
    matches: Matches = field(default=NO_MATCHES, repr=False, compare=False)

    @classmethod
    def of(cls, table: Contingency, worst: int = 10) -> Comparison:
        """Compares the two sides of a table, with A in the place of the truth.

        Args:
          table: counts of all voxels.
          worst: maximum number of cases to list of each kind.
        """
        return cls(
            box=table.box,
            scores={counted: _distance(table, counted) for counted in _COUNTED},
            objects_a=len(np.unique(table.truth[table.truth > 0])),
            objects_b=len(np.unique(table.segmentation[table.segmentation > 0])),
            identical=_count_identical(table),
            cut_in_b=find_splits(table, worst),
            joined_in_b=find_splits(table.swapped(), worst),
            missing_in_b=find_missed_objects(table, worst),
            missing_in_a=find_missed_objects(table.swapped(), worst),
            matches=find_matches(table),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts, as doc/formats.md describes them."""
        box = {'start_xyz': list(self.box.start), 'size_xyz': list(self.box.size)}
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != 'matches'}
        return {**to_plain(values), 'box': box}

    def titled_cases(self) -> list[tuple[str, Cases]]:
        """The lists of differences, each with its heading."""
        return [
            ('Objects of A that are split in B', self.cut_in_b),
            ('Objects of B that merge several of A', self.joined_in_b),
            ('Objects of A that are missing in B', self.missing_in_b),
            ('Objects of B that are missing in A', self.missing_in_a),
        ]


def _distance(table: Contingency, counted: Counted) -> Distance | None:
    rows = table.where(counted)
    if not rows.any():
        return None
    chosen = table.rows(rows)
    return Distance(int(chosen.voxels.sum()), *compute_voi(chosen), compute_rand(chosen).error)


def _count_identical(table: Contingency) -> int:
    """Counts pairs that share all voxels of both, so that neither id occurs in another row."""
    alone = np.ones(len(table.truth), bool)
    for ids in (table.truth, table.segmentation):
        _, group, counts = np.unique(ids, return_inverse=True, return_counts=True)
        alone &= (counts[group] == 1) & (ids > 0)
    return int(np.count_nonzero(alone))
