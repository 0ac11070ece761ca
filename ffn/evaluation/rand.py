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


def rand_of(table: Contingency) -> RandScore:
    """The score of a table whose voxels all count; see `Contingency.counted`."""

    def pairs(voxels: np.ndarray) -> float:
        # Floating: the square of a large count is no 64-bit integer.
        return float(np.sum(voxels * (voxels - 1.0)))

    both = pairs(table.voxels)
    of_truth, of_segmentation = (
        pairs(np.bincount(np.unique(ids, return_inverse=True)[1], table.voxels))
        for ids in (table.truth, table.segmentation)
    )
    # Without pairs there is nothing that could be merged, or nothing that could be split.
    precision = both / of_segmentation if of_segmentation else 1.0
    recall = both / of_truth if of_truth else 1.0
    f_score = 2 * both / (of_truth + of_segmentation) if of_truth + of_segmentation else 1.0
    return RandScore(1 - f_score, precision, recall)


def rand_score(
    truth: np.ndarray, segmentation: np.ndarray, counted: Counted = 'either'
) -> RandScore:
    """Compares two label volumes.

    Background counts as a segment of its own where the other volume has a label, so that leaving
    an object out costs as much as merging it with the rest that is left out.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.
      counted: over which voxels: those labelled in 'either', in the 'truth', in the 'segmentation', or
        in 'both'.

    Raises:
      UserError: different shapes, or no voxel counts.
    """
    return rand_of(Contingency.of(truth, segmentation).counted(counted))
