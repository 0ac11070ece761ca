"""Is it working, and how long will it take: a suggested number of steps, and known bad patterns."""

from __future__ import annotations

import math
from collections.abc import Mapping

from absl import logging

# Nothing is said before so many steps, nor from fewer finished patches than this.
PATIENCE_STEPS = 2000
_FEWEST_PATCHES = 20
# How far a network must come below the best loss of one that looks at nothing.
_LEARNED = 0.9


def suggested_steps(labelled_voxels: int, fovs_per_step: int) -> int:
    """Steps after which as many fields of view were seen as there are labelled voxels."""
    return math.ceil(labelled_voxels / fovs_per_step)


def log_suggestion(labelled_voxels: int | None, fovs_per_step: int, max_steps: int) -> None:
    """Says how long training usually takes for labels of this size."""
    if not labelled_voxels:
        logging.info(
            'each step sees %d fields of view; a network is usually trained until it has seen as '
            'many as there are labelled voxels', fovs_per_step,
        )  # fmt: skip
        return
    logging.info(
        '%d voxels are labelled: a network is usually trained until it has seen as many fields of '
        'view, which are %d steps of %d; max_steps is %d',
        labelled_voxels, suggested_steps(labelled_voxels, fovs_per_step), fovs_per_step, max_steps,
    )  # fmt: skip


class TrainingMonitor:
    """Looks at the metrics of each summary and warns of what usually means that something is wrong.

    Each pattern is warned of when it is first seen in two summaries running, and again after it has
    gone away and come back.
    """

    def __init__(self, patience_steps: int = PATIENCE_STEPS):
        """Begins; nothing is warned of before `patience_steps`."""
        self._patience = patience_steps
        self._seen: dict[str, int] = {}

    def check(self, step: int, scalars: Mapping[str, float]) -> list[str]:
        """Looks at one summary.

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
    """The bad patterns that metrics show, by name."""
    found = {}
    precision, recall = scalars['eval/all/precision'], scalars['eval/all/recall']
    if scalars['eval/patch_loss'] > _LEARNED * scalars['eval/constant_loss']:
        found['nothing'] = (
            f'nothing learned in {step} steps: the loss of a patch is '
            f'{scalars["eval/patch_loss"]:.3f}, that of a network that looks at nothing '
            f'{scalars["eval/constant_loss"]:.3f}. Is --image_mean/--image_stddev that of the image, '
            'do labels and image lie on each other, is --learning_rate too low or too high?'
        )
    elif precision > 0.8 and recall < 0.1:
        found['low_recall'] = (
            f'precision is {precision:.2f} and recall {recall:.2f} at step {step}: the network says '
            'object only where it is sure. Train longer, or raise --learning_rate; loss weights and '
            'coordinates with more large objects help as well'
        )
    spurious, correct = scalars['moves/all/spurious'], scalars['moves/all/correct']
    if scalars['moves/total'] and correct + spurious > 0 and spurious > 0.9 * (correct + spurious):
        found['spurious'] = (
            f'{spurious / (correct + spurious):.0%} of the moves at step {step} lead out of the '
            'object: the network floods into neighbours. Do labels and image lie on each other, and '
            'in the same order of axes?'
        )
    return found
