"""Variation of information of a segmentation.

Meilă, Comparing clusterings—an information based distance, J. Multivariate Analysis 98, 2007; split
into its two parts as Nunez-Iglesias et al., PLoS ONE 8(8), 2013, do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ffn.evaluation.contingency import Contingency, Counted


class VoiScore(NamedTuple):
    """The two parts of the variation of information, in bits; 0 is perfect.

    Attributes:
      split: H(segmentation | truth), grows where objects are split.
      merge: H(truth | segmentation), grows where objects are merged.
    """

    split: float
    merge: float

    @property
    def total(self) -> float:
        """The variation of information."""
        return self.split + self.merge


def conditional_entropy(voxels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes each group's contribution to the conditional entropy of its parts.

    Args:
      voxels: int64 [n], sizes of parts.
      groups: [n], id of the group that each part belongs to.

    Returns:
      Ids of the groups, ascending; float64 contributions in bits, which sum to the entropy.
    """
    ids, group = np.unique(groups, return_inverse=True)
    of_group = np.bincount(group, voxels)[group]
    bits = voxels / voxels.sum() * np.log2(of_group / voxels)
    return ids, np.bincount(group, bits)


def compute_voi(table: Contingency) -> VoiScore:
    """Scores a table all of whose voxels count; see `Contingency.counted`."""
    split, merge = (
        float(conditional_entropy(table.voxels, ids)[1].sum())
        for ids in (table.truth, table.segmentation)
    )
    return VoiScore(split, merge)


def voi_score(truth: np.ndarray, segmentation: np.ndarray, counted: Counted = 'either') -> VoiScore:
    """Scores a label volume against the truth.

    Background counts as one more segment where the other volume has a label, as in
    `ffn.evaluation.rand.rand_score`.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.
      counted: which voxels count: those labelled in 'either', in the 'truth', in the 'segmentation',
        or in 'both'.

    Raises:
      UserError: different shapes, or no voxel counts.
    """
    return compute_voi(Contingency.of(truth, segmentation).counted(counted))
