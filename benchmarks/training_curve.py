"""Draws how a training went: loss, precision and recall of finished patches, and the learning rate.

    python -m benchmarks.training_curve --train_dir models/small --output models/curve.png

Loss, precision and recall are means of five summaries; a summary sees a few patches only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks import measure
from ffn.visualization.curve import plot_scalars, read_scalars

SUMMARIES = 5
# Tag of TensorBoard → name in the picture.
SMOOTHED = {
    'eval/patch_loss': 'loss of finished patches',
    'eval/all/precision': 'precision',
    'eval/all/recall': 'recall',
}
AS_THEY_ARE = {'eval/constant_loss': 'looking at nothing', 'learning_rate': 'learning rate'}
GROUPS = (
    ('loss of finished patches', 'looking at nothing'),
    ('precision', 'recall'),
    ('learning rate',),
)


def smoothed(points: np.ndarray) -> np.ndarray:
    """Running means of [n, 2] steps and values, at the step in their middle."""
    kernel, margin = np.full(SUMMARIES, 1 / SUMMARIES), SUMMARIES // 2
    values = np.convolve(points[:, 1], kernel, 'valid')
    return np.stack([points[margin : len(points) - margin, 0], values], axis=1)


def main() -> None:
    """Draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--train_dir', required=True, help='folder of the training')
    parser.add_argument('--output', required=True, type=Path, help='PNG')
    args = parser.parse_args()
    scalars = read_scalars(args.train_dir)
    shown = {name: smoothed(scalars[tag]) for tag, name in SMOOTHED.items()}
    shown |= {name: scalars[tag] for tag, name in AS_THEY_ARE.items()}
    plot_scalars(shown, GROUPS, args.output)


if __name__ == '__main__':
    measure.run_bench(main)
