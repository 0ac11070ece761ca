"""Metrics of finished patches: how well they are segmented, and whether moves were right."""

from __future__ import annotations

import collections
import math

import numpy as np

from ffn.models.info import ModelInfo
from ffn.training.config import WalkConfig
from ffn.training.walks.movement import neighbors
from ffn.training.walks.walk import Walk
from ffn.utils.logits import logit


class PatchMetrics:
    """Sums over the patches finished since the last summary.

    A voxel counts as predicted if its probability is at least 0.9, and as part of the object if its
    soft label is above one half. A move to a neighbour at ±delta is correct if the canvas reaches the
    move threshold there and the object is there, spurious if only the former, missed if only the latter.
    Voxels of weight 0 are no part of this, nor are moves to them: nothing is known of them.
    """

    def __init__(self, info: ModelInfo, config: WalkConfig):
        """Starts with no patches.

        Args:
          info: sizes of the network.
          config: gives the size of the middle part of a patch that is evaluated.
        """
        self._size = config.eval_size(info)
        self._neighbors = neighbors(info.deltas.zyx)
        self.clear()

    def clear(self) -> None:
        """Forgets all patches."""
        self._sums: dict[str, float] = collections.defaultdict(float)
        self._moves: dict[str, int] = collections.defaultdict(int)
        self.last: Walk | None = None

    def add(self, walk: Walk) -> None:
        """Adds a finished patch."""
        shape: tuple[int, ...] = walk.canvas.shape
        part = tuple(
            slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(shape, self._size, strict=True)
        )
        logits, soft = walk.canvas[part], walk.example.labels[part]
        weights = walk.example.weights[part]
        predicted, true = logits >= logit(0.9), soft > 0.5
        sums = self._sums
        sums['patches'] += 1
        sums['loss'] += float(np.mean(cross_entropy(logits, soft) * weights))
        sums['labels'] += float(np.mean(soft * weights))
        sums['weights'] += float(np.mean(weights))
        sums['masked'] += float(np.mean(weights == 0))
        known = weights > 0
        sums['tp'] += np.count_nonzero(known & predicted & true)
        sums['fp'] += np.count_nonzero(known & predicted & ~true)
        sums['fn'] += np.count_nonzero(known & ~predicted & true)
        sums['tn'] += np.count_nonzero(known & ~predicted & ~true)
        for position in filter(walk.has_weight, self._neighbors):
            possible, wanted = walk.is_predicted(position), walk.is_in_object(position)
            if possible or wanted:
                kind = 'correct' if possible and wanted else 'spurious' if possible else 'missed'
                radius = round(float(np.linalg.norm(position)))
                self._moves[f'all/{kind}'] += 1
                self._moves[f'r={radius}/{kind}'] += 1
        self.last = walk

    def scalars(self) -> dict[str, float]:
        """The metrics by their names in TensorBoard; empty before the first patch."""
        sums = self._sums
        patches = sums['patches']
        if not patches:
            return {}
        tp, fp, fn, tn = (sums[name] for name in ('tp', 'fp', 'fn', 'tn'))
        precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
        total = sum(count for name, count in self._moves.items() if name.startswith('all/'))
        radii = {name.split('/')[0] for name in self._moves} | {'all'}
        return {
            'eval/patches': patches,
            'eval/patch_loss': sums['loss'] / patches,
            'eval/constant_loss': _constant_loss(sums['labels'], sums['weights']) / patches,
            'eval/all/accuracy': (tp + tn) / max(tp + fp + fn + tn, 1),
            'eval/all/precision': precision,
            'eval/all/recall': recall,
            'eval/all/specificity': tn / max(tn + fp, 1),
            'eval/all/f1': 2 * precision * recall / max(precision + recall, 1e-9),
            'fov/masked_voxel_fraction': sums['masked'] / patches,
            'moves/total': total,
            **{
                f'moves/{radius}/{kind}': self._moves.get(f'{radius}/{kind}', 0) / max(total, 1)
                for radius in sorted(radii)
                for kind in ('correct', 'spurious', 'missed')
            },
        }


def _constant_loss(labels: float, weights: float) -> float:
    """Loss of the best constant prediction, from the sums of weighted labels and of weights."""
    mean = labels / weights if weights else 0.0
    if not 0 < mean < 1:
        return 0.0
    return -weights * (mean * math.log(mean) + (1 - mean) * math.log(1 - mean))


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sigmoid cross-entropy of each voxel, computed without overflow."""
    entropy: np.ndarray = (
        np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    )
    return entropy
