"""Adapted Rand error of a segmentation."""

from __future__ import annotations

from typing import NamedTuple

import fastremap
import numpy as np
from skimage.metrics import adapted_rand_error

from ffn.utils.errors import UserError


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


def rand_score(truth: np.ndarray, segmentation: np.ndarray) -> RandScore:
    """Compares two label volumes over the voxels that are labelled in either.

    Background counts as a segment of its own where the other volume has a label, so that leaving
    an object out costs as much as merging it with the rest that is left out.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.

    Raises:
      UserError: different shapes, or nothing labelled in either.
    """
    if truth.shape != segmentation.shape:
        raise UserError(
            f'ground truth has shape {truth.shape}, segmentation has {segmentation.shape}; they '
            'must be of the same box'
        )
    counted = (truth > 0) | (segmentation > 0)
    if not counted.any():
        raise UserError('neither ground truth nor segmentation has a label')
    labels = [fastremap.renumber(volume[counted])[0] for volume in (truth, segmentation)]
    # scikit-image divides its "precision" by the pairs of the first volume and its "recall" by those
    # of the second; with the truth first, the two names change places.
    error, of_truth, of_segmentation = adapted_rand_error(*labels, ignore_labels=())
    return RandScore(float(error), precision=float(of_segmentation), recall=float(of_truth))
