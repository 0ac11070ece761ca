"""Summaries for TensorBoard: scalars, histograms, and pictures of finished patches."""

from __future__ import annotations

import collections
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw

from ffn.training.walks.walk import Walk
from ffn.utils.errors import UserError

_PICTURES = 16


class Summaries:
    """Writes event files, and keeps the last finished patches until they are drawn."""

    def __init__(self, directory: str):
        """Creates an event file in a folder."""
        self._writer = tf.summary.create_file_writer(directory)
        self._walks: collections.deque[Walk] = collections.deque(maxlen=_PICTURES)

    def keep(self, walk: Walk) -> None:
        """Keeps a finished patch for the next pictures."""
        self._walks.append(walk)

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        weights: Mapping[str, np.ndarray] | None = None,
        gradients: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Writes one summary.

        Args:
          step: training step.
          scalars: name → value.
          weights: name → array, shown as histograms.
          gradients: name → gradient of that array, shown as histograms.

        Raises:
          UserError: the disk is full, or the folder is gone.
        """
        try:
            with self._writer.as_default(step=step):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)
                for prefix, arrays in (('weights', weights), ('gradients', gradients)):
                    for name, array in (arrays or {}).items():
                        tf.summary.histogram(f'{prefix}/{name}', array)
                for plane in ('xy', 'xz', 'yz'):
                    rows = [_draw_row(walk, plane) for walk in self._walks]
                    if rows:
                        tf.summary.image(f'patches/{plane}', np.stack(rows), max_outputs=_PICTURES)
            self._writer.flush()
        except tf.errors.OpError as error:
            reason = str(error).splitlines()[0].rpartition('}} ')[2]
            raise UserError(f'the event file cannot be written: {reason}') from error
        self._walks.clear()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def _draw_row(walk: Walk, plane: str) -> np.ndarray:
    """Draws labels, prediction and weights of a patch side by side: uint8 [rows, columns, 3]."""
    prediction = 1 / (1 + np.exp(-np.clip(walk.canvas, -30, 30)))
    tiles = []
    for volume in (walk.example.labels, prediction, walk.example.weights):
        z, y, x = (n // 2 for n in volume.shape)
        cut = {'xy': volume[z], 'xz': volume[:, y], 'yz': volume[:, :, x]}[plane]
        tiles.append(np.clip(cut * 255, 0, 255).astype(np.uint8))
    picture = Image.fromarray(np.concatenate(tiles, axis=1)).convert('RGB')
    center = walk.example.center
    text = f'{center.x},{center.y},{center.z} {walk.example.volume}'
    ImageDraw.Draw(picture).text((1, 1), text, fill=(255, 80, 80))
    return np.asarray(picture)
