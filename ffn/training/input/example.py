"""What training sees of a place: image, labels and weights of a patch, and where it was taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffn.utils.geometry import Xyz


@dataclass(frozen=True)
class Example:
    """A patch to train on.

    Attributes:
      image: float32 [z, y, x], normalized.
      labels: float32 [z, y, x], soft labels of the object in the centre.
      weights: float32 [z, y, x], weight of each voxel in the loss.
      center: centre of the patch in its volume.
      volume: name of the volume.
      number: of its coordinate in the stream.
      walk_seed: seed of the random order of moves in the walk over it.
    """

    image: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    center: Xyz
    volume: str
    number: int = 0
    walk_seed: tuple[int, ...] = (0,)
