"""Guidance while training: how many steps it usually takes, and warnings of known bad patterns."""

from __future__ import annotations

import math
from collections.abc import Mapping

from absl import logging

from ffn.training.fov_count import FovCount

# No warnings before this many steps, nor from fewer finished patches than this.
PATIENCE_STEPS = 2000
_FEWEST_PATCHES = 20
# A network has learned something once its loss is below this fraction of the best constant answer's.
_LEARNED = 0.9
# … or once it finds this much more of the object than of what surrounds it.
_INFORMED = 0.02


def suggested_steps(labelled_voxels: int, fovs: FovCount) -> int:
    """The step after which as many fields of view are seen as there are labelled voxels; 0 if they are already."""
    left = labelled_voxels - fovs.seen
    return fovs.step + math.ceil(left / fovs.per_step) if left > 0 else 0


def log_suggestion(labelled_voxels: int | None, fovs: FovCount, max_steps: int) -> None:
    """Logs how long training usually takes for this number of labelled voxels."""
    if not labelled_voxels:
        logging.info(
            'each step sees %d fields of view; a network is usually trained until it has seen as '
            'many as there are labelled voxels',
            fovs.per_step,
        )
        return
    steps = suggested_steps(labelled_voxels, fovs)
    if not steps:
        so_far = f'; it has seen {fovs.seen}'
    elif fovs.seen:
        so_far = f', which it has after step {steps}: it has seen {fovs.seen}, and each step sees {fovs.per_step}'
    else:
        so_far = f', which are {steps} steps of {fovs.per_step}'
    logging.info(
        '%d voxels are labelled: a network is usually trained until it has seen as many fields of '
        'view%s; max_steps is %d. What partitions have left out, such as small '
        'objects, is counted here: their log tells how many voxels remain',
        labelled_voxels,
        so_far,
        max_steps,
    )


class TrainingMonitor:
    """Checks the metrics of each summary for patterns that usually mean that something is wrong.

    A pattern is reported when it appears in two consecutive summaries, and again only after it has
    disappeared and returned.
    """

    def __init__(self, patience_steps: int = PATIENCE_STEPS):
        """Makes a monitor that is silent before `patience_steps`."""
        self._patience = patience_steps
        self._seen: dict[str, int] = {}

    def check(self, step: int, scalars: Mapping[str, float]) -> list[str]:
        """Checks one summary.

        Args:
          step: training step.
          scalars: see `metrics.PatchMetrics.scalars`.

        Returns:
          Warnings, for the log.
        """
        if step < self._patience or scalars.get('eval/patches', 0) < _FEWEST_PATCHES:
            return []
        found = _patterns(step, scalars)
        self._seen = {name: self._seen.get(name, 0) + 1 for name in found}
        return [found[name] for name, times in self._seen.items() if times == 2]


def _patterns(step: int, scalars: Mapping[str, float]) -> dict[str, str]:
    """The bad patterns in the metrics, name → warning."""
    found = {}
    precision, recall = scalars['eval/all/precision'], scalars['eval/all/recall']
    informed = recall + scalars['eval/all/specificity'] - 1
    as_constant = scalars['eval/patch_loss'] > _LEARNED * scalars['eval/constant_loss']
    if as_constant and informed < _INFORMED:
        found['nothing'] = (
            f'nothing learned in {step} steps: the loss of a patch is '
            f'{scalars["eval/patch_loss"]:.3f}, that of the best constant prediction '
            f'{scalars["eval/constant_loss"]:.3f}, recall {recall:.3f}. Do --image_mean and --image_stddev fit the image, '
            'are labels and image aligned, is --learning_rate too low or too high?'
        )
    elif precision > 0.8 and recall < 0.1:
        found['low_recall'] = (
            f'precision is {precision:.2f} and recall {recall:.2f} at step {step}: the network predicts '
            'object only where it is certain. Train longer, or raise --learning_rate; loss weights and '
            'coordinates with more large objects help as well'
        )
    spurious, correct = scalars['moves/all/spurious'], scalars['moves/all/correct']
    if scalars['moves/total'] and correct + spurious > 0 and spurious > 0.9 * (correct + spurious):
        found['spurious'] = (
            f'{spurious / (correct + spurious):.0%} of the moves at step {step} lead out of the '
            'object: the network floods into neighbours. Are labels and image aligned, and in the same '
            'order of axes?'
        )
    return found
