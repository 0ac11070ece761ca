"""Variation of information of a segmentation.

Meilă, Comparing clusterings—an information based distance, J. Multivariate Analysis 98, 2007; split
into its two parts as Nunez-Iglesias et al., PLoS ONE 8(8), 2013, do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from skimage.metrics import variation_of_information

from ffn.evaluation.counted import Counted, counted_labels


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
        """The variation of information itself."""
        return self.split + self.merge


def voi_score(truth: np.ndarray, segmentation: np.ndarray, counted: Counted = 'either') -> VoiScore:
    """Compares two label volumes.

    Background counts as a segment of its own where the other volume has a label, as in
    `ffn.evaluation.rand.rand_score`.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.
      counted: over which voxels: those labelled in 'either', in the 'truth', or in 'both'.

    Raises:
      UserError: different shapes, or no voxel counts.
    """
    labels = counted_labels(truth, segmentation, counted)
    # With the truth first, the entropy of the segmentation comes first; rounding may leave -1e-17.
    split, merge = np.maximum(variation_of_information(*labels), 0)
    return VoiScore(float(split), float(merge))
