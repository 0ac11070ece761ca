"""The demo's end: the segmentation is scored, and pictures and a report are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from ffn.evaluation.rand import RandScore, rand_score
from ffn.inference import storage
from ffn.visualization.curve import plot_scalars, read_scalars
from ffn.visualization.overlay import planes_picture
from ffn.visualization.page import write_page

MAX_ERROR = 0.10


def score_and_report(folder: Path, commands: Sequence[str]) -> RandScore:
    """Scores the segmentation and writes pictures and the report.

    Args:
      folder: where the stages wrote their results.
      commands: the command lines that were run, for the report.
    """
    with h5py.File(folder / 'unseen.h5', 'r') as file:
        image, truth = file['image'][:], file['labels'][:]
    labels, origins = storage.load_segmentation(folder / 'results', (0, 0, 0))
    score = rand_score(truth, labels)
    labelled = (truth > 0) | (labels > 0)
    write_page(
        folder / 'report.html',
        'Flood-filling network: demo',
        {
            'Adapted Rand error': f'{score.error:.4f} (at most {MAX_ERROR:.2f})',
            'Rand precision, recall': f'{score.precision:.4f}, {score.recall:.4f}',
            'Objects in truth, found': f'{len(np.unique(truth)) - 1}, {len(origins)}',
            'Labelled voxels filled': f'{np.mean(labels[labelled] > 0):.1%}',
        },
        _draw(folder, image, truth, labels),
        commands,
    )
    return score


def _draw(
    folder: Path, image: np.ndarray, truth: np.ndarray, labels: np.ndarray
) -> list[tuple[Path, str]]:
    """Draws all pictures, and returns those of the report with their captions."""
    pictures = []
    for name, over, caption in (
        ('image', None, 'The unseen sample: planes xy, xz, yz through its centre.'),
        ('truth', truth, 'Ground truth: the generated objects.'),
        ('segmentation', labels, 'What the network found.'),
    ):
        pictures.append((folder / f'{name}.png', caption))
        planes_picture(image, over).save(pictures[-1][0])
    join_planes([picture for picture, _ in pictures], folder / 'overview.png')
    plot_scalars(
        read_scalars(folder / 'model'),
        [
            ['pixel_loss', 'eval/patch_loss'],
            ['eval/all/precision', 'eval/all/recall', 'eval/all/f1'],
        ],
        folder / 'training.png',
    )
    caption = 'Training: loss, and scores of finished patches.'
    return [*pictures, (folder / 'training.png', caption)]


def join_planes(paths: Sequence[Path], output: Path) -> None:
    """Joins the xy planes of pictures of cubic samples side by side, for the README."""
    tiles = [np.asarray(Image.open(path)) for path in paths]
    tiles = [tile[:, : tile.shape[0]] for tile in tiles]
    gap = np.full((tiles[0].shape[0], 8, 3), 255, dtype=np.uint8)
    joined = [part for tile in tiles for part in (tile, gap)][:-1]
    Image.fromarray(np.concatenate(joined, axis=1)).save(output)
