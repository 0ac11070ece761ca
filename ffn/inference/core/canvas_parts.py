"""What belongs to a canvas: what it needs of the network, what policies see, the growing object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ffn.inference.core.counters import Counters
from ffn.utils.geometry import Xyz, Zyx

if TYPE_CHECKING:
    from ffn.inference.core.canvas import Canvas

Position = tuple[int, int, int]


class Network(Protocol):
    """What the canvas needs of the executor."""

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """float32 [z, y, x] image and seed logits → new logits, which nobody writes to."""


class FieldOfView(Protocol):
    """Sizes of a model, x, y, z (ffn.models.model.ModelInfo)."""

    deltas: Xyz
    pred_mask_size: Xyz
    input_seed_size: Xyz
    input_image_size: Xyz


class Places:
    """Where on a canvas the field of view may be centred.

    Canvas and policies share it, so that policies need not hold the canvas.
    """

    def __init__(
        self, seed: np.ndarray, segmentation: np.ndarray, margin_zyx: Zyx, move_threshold: float,
        counters: Counters,
    ):  # fmt: skip
        """Looks at a canvas' own arrays; see `Canvas`."""
        self._seed, self._segmentation, self._counters = seed, segmentation, counters
        self._shape, self.margin_zyx = seed.shape, margin_zyx
        self._move_threshold = move_threshold

    def is_valid_pos(self, pos: Position, ignore_move_threshold: bool = False) -> bool:
        """See `Canvas.is_valid_pos`."""
        z, y, x = pos
        if not ignore_move_threshold and not self.reaches(pos):
            self._counters.add('skip_threshold')
            return False
        (mz, my, mx), (nz, ny, nx) = self.margin_zyx, self._shape
        inside = mz <= z < nz - mz and my <= y < ny - my and mx <= x < nx - mx
        if not inside or self._segmentation[pos] > 0:
            self._counters.add('skip_invalid_pos')
            return False
        return True

    def reaches(self, pos: Position) -> bool:
        """Whether a voxel is on the canvas and likely enough to move to."""
        (z, y, x), (nz, ny, nx) = pos, self._shape
        inside = 0 <= z < nz and 0 <= y < ny and 0 <= x < nx
        return inside and bool(self._seed[pos] >= self._move_threshold)


class CanvasView:
    """What policies see: arrays that cannot be written to, and where one may go."""

    def __init__(
        self,
        image: np.ndarray,
        segmentation: np.ndarray,
        mask: np.ndarray | None,
        places: Places,
        corner_zyx: Zyx,
        voxel_size_zyx: tuple[float, float, float],
    ):
        self.image = _read_only(image)
        self.segmentation = _read_only(segmentation)
        self.mask = None if mask is None else _read_only(mask)
        self.margin_zyx = places.margin_zyx
        self.corner_zyx = corner_zyx
        self.voxel_size_zyx = voxel_size_zyx
        self._places = places

    def is_valid_pos(self, pos_zyx: Sequence[int], ignore_move_threshold: bool = False) -> bool:
        """See `Canvas.is_valid_pos`."""
        return self._places.is_valid_pos(tuple(pos_zyx), ignore_move_threshold)


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
    """The run was asked to stop; its state has been saved.

    Attributes:
      canvas: as it was saved.
    """

    def __init__(self, message: str, canvas: Canvas):
        super().__init__(message)
        self.canvas = canvas
