"""Adapted Rand error of a segmentation.

Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for connectomics,
Front. Neuroanat. 9:142, 2015.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ffn.evaluation.contingency import Contingency, Counted


class RandScore(NamedTuple):
    """Adapted Rand error and its parts, all between 0 and 1.

    Attributes:
      error: 1 - F score of precision and recall; 0 is perfect.
      precision: low where objects are merged.
      recall: low where objects are split.
    """

    error: float
    precision: float
    recall: float


def compute_rand(table: Contingency) -> RandScore:
    """Scores a table all of whose voxels count; see `Contingency.counted`."""

    def pairs(voxels: np.ndarray) -> float:
        # In floating point, because the square of a large count overflows 64-bit integers.
        return float(np.sum(voxels * (voxels - 1.0)))

    both = pairs(table.voxels)
    of_truth, of_segmentation = (
        pairs(np.bincount(np.unique(ids, return_inverse=True)[1], table.voxels))
        for ids in (table.truth, table.segmentation)
    )
    # Without pairs, nothing can be merged, or nothing can be split.
    precision = both / of_segmentation if of_segmentation else 1.0
    recall = both / of_truth if of_truth else 1.0
    f_score = 2 * both / (of_truth + of_segmentation) if of_truth + of_segmentation else 1.0
    return RandScore(1 - f_score, precision, recall)


def rand_score(
    truth: np.ndarray, segmentation: np.ndarray, counted: Counted = 'either'
) -> RandScore:
    """Scores a label volume against the truth.

    Background counts as one more segment where the other volume has a label, so omitting an object is
    penalized as much as merging it with everything else that is omitted.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.
      counted: which voxels count: those labelled in 'either', in the 'truth', in the 'segmentation',
        or in 'both'.

    Raises:
      UserError: different shapes, or no voxel counts.
    """
    return compute_rand(Contingency.of(truth, segmentation).counted(counted))
