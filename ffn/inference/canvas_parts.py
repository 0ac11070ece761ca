"""What belongs to a canvas: what it needs of the network, what policies see, the growing object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ffn.utils.geometry import Xyz, Zyx

if TYPE_CHECKING:
    from ffn.inference.canvas import Canvas

Position = tuple[int, int, int]


class Network(Protocol):
    """What the canvas needs of the executor."""

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """float32 [z, y, x] image and seed logits → new logits, which nobody writes to."""


class FieldOfView(Protocol):
    """Sizes of a model, x, y, z (ffn.training.model.ModelInfo)."""

    deltas: Xyz
    pred_mask_size: Xyz
    input_seed_size: Xyz
    input_image_size: Xyz


class CanvasView:
    """What policies see: arrays that cannot be written to, and where one may go."""

    def __init__(self, canvas: Canvas, corner_zyx: Zyx, voxel_size_zyx: tuple[float, float, float]):
        self.image = _read_only(canvas.image)
        self.segmentation = _read_only(canvas.segmentation)
        self.mask = None if canvas.restrictor.mask is None else _read_only(canvas.restrictor.mask)
        self.margin_zyx = canvas.margin_zyx
        self.corner_zyx = corner_zyx
        self.voxel_size_zyx = voxel_size_zyx
        self.is_valid_pos = canvas.is_valid_pos


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass
class GrowingObject:
    """The object that is being grown.

    Attributes:
      start: its seed, z, y, x.
      iters: network steps so far.
      seconds: time so far.
      voxels: those from segment_threshold on; counted only where there is a limit to them.
      limit: the option that ended its growth, '' where none did.
    """

    start: Position
    iters: int = 0
    seconds: float = 0.0
    voxels: int = 0
    limit: str = ''


class Interrupted(Exception):  # noqa: N818 - not a failure
    """The run was asked to stop; its state has been saved."""
