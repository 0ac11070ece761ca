"""Which ids of two neighbouring subvolumes are the same object."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.settings import setting

CONFLICTS = ('join', 'largest')


@dataclass(frozen=True)
class Matching:
    """When two ids of neighbouring subvolumes are one object."""

    min_voxels: int = setting(
        'voxels that two ids must share to be one object',
        default=50,
        flag='min_overlap_voxels',
        metavar='N',
    )
    min_fraction_smaller: float = setting(
        'they must share at least this fraction of the one with fewer voxels in the overlap',
        default=0.5,
        metavar='F',
    )
    min_fraction_larger: float = setting(
        'the same for the one with more voxels in the overlap', default=0.0, metavar='F'
    )
    conflicts: str = setting(
        'if an id matches several ids of a neighbour, each by these thresholds: largest keeps a pair only if neither '
        'of the two shares more voxels with another one of them; join makes all of them one object',
        default='largest',
        choices=CONFLICTS,
    )

    def __post_init__(self) -> None:
        if self.min_voxels < 1:
            raise UserError(f'min_overlap_voxels is {self.min_voxels}; expected 1 or more')
        for name in ('min_fraction_smaller', 'min_fraction_larger'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{name} is {getattr(self, name):g}; expected 0 to 1')
        if self.conflicts not in CONFLICTS:
            raise UserError(f'conflicts is {self.conflicts!r}; expected {" or ".join(CONFLICTS)}')

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class MatchedIds(NamedTuple):
    """The pairs of ids of two neighbours that are one object.

    Attributes:
      pairs: uint64 [m, 2].
      candidates: how many pairs share voxels.
      conflicts: uint64 [c, 2], side (0 or 1) and id of those that matched several of the other side.
    """

    pairs: np.ndarray
    candidates: int
    conflicts: np.ndarray


def match_ids(shared: np.ndarray, matching: Matching) -> MatchedIds:
    """Picks the pairs of ids that are one object.

    Args:
      shared: uint64 [m, 3], see `ffn.utils.labels.joint_histogram`.
      matching: thresholds.
    """
    totals = [_sum_by_id(shared[:, side], shared[:, 2]) for side in (0, 1)]
    both = (shared[:, 0] > 0) & (shared[:, 1] > 0)
    voxels, first, second = shared[both, 2], totals[0][both], totals[1][both]
    pairs = shared[both, :2]
    kept = (
        (voxels >= matching.min_voxels)
        & (voxels >= matching.min_fraction_smaller * np.minimum(first, second))
        & (voxels >= matching.min_fraction_larger * np.maximum(first, second))
    )
    pairs, voxels = pairs[kept], voxels[kept]
    conflicts, best = [np.zeros((0, 2), np.uint64)], np.ones(len(pairs), bool)
    for side in (0, 1):
        ids, numbers, counts = np.unique(pairs[:, side], return_inverse=True, return_counts=True)
        several = ids[counts > 1]
        conflicts.append(np.stack([np.full_like(several, side), several], axis=1))
        # The largest pair of each id; of equally large ones, the first in the order of ids.
        order = np.lexsort((-np.arange(len(voxels)), voxels, numbers))
        largest = np.zeros(len(pairs), bool)
        largest[order[np.cumsum(counts) - 1]] = True
        best &= largest
    if matching.conflicts == 'largest':
        pairs = pairs[best]
    return MatchedIds(pairs, int(both.sum()), np.concatenate(conflicts))


def _sum_by_id(ids: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Sums, for each row, the voxels of all rows with its id."""
    _, numbers = np.unique(ids, return_inverse=True)
    return np.bincount(numbers, voxels.astype(np.float64))[numbers]
