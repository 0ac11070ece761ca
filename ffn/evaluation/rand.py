"""Adapted Rand error of a segmentation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from skimage.metrics import adapted_rand_error

from ffn.evaluation.counted import Counted, counted_labels


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


def rand_score(
    truth: np.ndarray, segmentation: np.ndarray, counted: Counted = 'either'
) -> RandScore:
    """Compares two label volumes.

    Background counts as a segment of its own where the other volume has a label, so that leaving
    an object out costs as much as merging it with the rest that is left out.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.
      counted: over which voxels: those labelled in 'either', in the 'truth', or in 'both'.

    Raises:
      UserError: different shapes, or no voxel counts.
    """
    labels = counted_labels(truth, segmentation, counted)
    # scikit-image divides its "precision" by the pairs of the first volume and its "recall" by those
    # of the second; with the truth first, the two names change places.
    error, of_truth, of_segmentation = adapted_rand_error(*labels, ignore_labels=())
    return RandScore(float(error), precision=float(of_segmentation), recall=float(of_truth))
