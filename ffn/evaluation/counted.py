"""Which voxels of a ground truth and a segmentation are compared."""

from __future__ import annotations

from typing import Literal, get_args

import fastremap
import numpy as np

from ffn.utils.errors import UserError

Counted = Literal['either', 'truth', 'both']
"""Voxels that are labelled in truth or segmentation, in the truth, or in both."""


def counted_labels(
    truth: np.ndarray, segmentation: np.ndarray, counted: Counted = 'either'
) -> tuple[np.ndarray, np.ndarray]:
    """Picks the voxels that count.

    Where a counted voxel has no label in one of the volumes, that background is a segment like any
    other: leaving objects out costs as much as merging them with each other.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      segmentation: integer [z, y, x], 0 is unlabelled.
      counted: which voxels.

    Returns:
      Ids of truth and segmentation, unsigned [n] each, made small.

    Raises:
      UserError: different shapes, or no voxel counts.
    """
    if truth.shape != segmentation.shape:
        raise UserError(
            f'ground truth has shape {truth.shape}, segmentation has {segmentation.shape}; they '
            'must be of the same box'
        )
    in_truth, in_segmentation = truth > 0, segmentation > 0
    if counted == 'either':
        which, missing = (
            in_truth | in_segmentation,
            'neither ground truth nor segmentation has a label',
        )
    elif counted == 'truth':
        which, missing = in_truth, 'the ground truth has no label'
    elif counted == 'both':
        which = in_truth & in_segmentation
        missing = 'no voxel is labelled in both ground truth and segmentation'
    else:
        raise UserError(f'counted is {counted!r}; expected {", ".join(get_args(Counted))}')
    if not which.any():
        raise UserError(missing)
    first, second = (fastremap.renumber(a[which])[0] for a in (truth, segmentation))
    return first, second
