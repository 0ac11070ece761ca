"""What movement and seed policies may see of a canvas, where it lies, and where the field of view may be centred."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ffn.inference.core.counters import Counters
from ffn.inference.core.movement import FaceMaxima
from ffn.utils.geometry import Position, Xyz, Zyx

# Goes where absl logs, as the rest of the code does; the core does without absl, which has to make its logger itself.
_log = logging.getLogger('absl.ffn')


@dataclass(frozen=True)
class Alignment:
    """Where a canvas lies in the volume; for notebooks that unpack what `Runner.make_canvas` returns.

    Attributes:
      corner_zyx: first voxel of the canvas.
      size_zyx: its shape.
    """

    corner_zyx: Zyx
    size_zyx: Zyx


class CanvasView:
    """A read-only window on a canvas; policies hold it rather than the canvas itself.

    Attributes:
      image: float32 [z, y, x], normalized.
      segmentation: int32 [z, y, x]; > 0 segments, 0 free, -1 rejected seeds.
      mask: bool [z, y, x] where the field of view may not be centred, or None.
      seed_mask: bool [z, y, x] where no seed is placed, or None.
      margin_zyx: half the field of view.
      reach_zyx: half of what the network predicts.
      corner_zyx: first voxel of the subvolume.
      voxel_size_zyx: physical size of a voxel, in any unit.
      move_threshold: least logit of a voxel to move to.
    """

    def __init__(
        self,
        image: np.ndarray,
        seed: np.ndarray,
        segmentation: np.ndarray,
        mask: np.ndarray | None,
        seed_mask: np.ndarray | None,
        *,
        margin_zyx: Zyx,
        reach_zyx: Zyx,
        move_threshold: float,
        counters: Counters,
        corner_zyx: Zyx,
        voxel_size_zyx: tuple[float, float, float],
    ):
        """Looks at a canvas' own arrays; see `Canvas`."""
        self.image = _read_only(image)
        self.segmentation = _read_only(segmentation)
        self.mask = None if mask is None else _read_only(mask)
        self.seed_mask = None if seed_mask is None else _read_only(seed_mask)
        self.margin_zyx = margin_zyx
        self.reach_zyx = reach_zyx
        self.corner_zyx = corner_zyx
        self.voxel_size_zyx = voxel_size_zyx
        self._shape = seed.shape
        self.look_at_seed_by(seed.__getitem__, lambda extent: np.isnan(seed[extent]))
        self.move_threshold = move_threshold
        self._counters = counters

    def look_at_seed_by(
        self,
        logit_at: Callable[[Position], np.float32],
        unvisited: Callable[[tuple[slice, slice, slice]], np.ndarray],
    ) -> None:
        """Says who knows the seed, if not the array.

        Args:
          logit_at: position z, y, x on the canvas → logit.
          unvisited: part of the canvas → where no field of view has been, bool [z, y, x].
        """
        self._logit_at, self._unvisited = logit_at, unvisited

    def contains(self, pos: Position) -> bool:
        """Whether a voxel lies on the canvas."""
        (z, y, x), (nz, ny, nx) = pos, self._shape
        return 0 <= z < nz and 0 <= y < ny and 0 <= x < nx

    def is_valid_pos(self, pos_zyx: Sequence[int], ignore_move_threshold: bool = False) -> bool:
        """Whether the field of view may be centred at a position; masks are not considered.

        Args:
          pos_zyx: position within the subvolume.
          ignore_move_threshold: accept a voxel of any logit there, as for a starting seed.
        """
        z, y, x = pos_zyx
        pos = (z, y, x)
        if not ignore_move_threshold and not self.reaches_threshold(pos):
            self._counters.add('skip_threshold')
            return False
        (mz, my, mx), (nz, ny, nx) = self.margin_zyx, self._shape
        inside = mz <= z < nz - mz and my <= y < ny - my and mx <= x < nx - mx
        if not inside or self.segmentation[pos] > 0:
            self._counters.add('skip_invalid_pos')
            return False
        return True

    def unvisited_share(self, pos_zyx: Sequence[int]) -> float:
        """Which share of what a step at a position would predict no step of this object has predicted yet."""
        (z, y, x), (rz, ry, rx) = pos_zyx, self.reach_zyx
        part = slice(z - rz, z + rz + 1), slice(y - ry, y + ry + 1), slice(x - rx, x + rx + 1)
        unvisited = self._unvisited(part)
        return float(np.count_nonzero(unvisited)) / unvisited.size

    def reaches_threshold(self, pos: Position) -> bool:
        """Whether a voxel lies on the canvas and is likely enough to move to."""
        return self.contains(pos) and bool(self._logit_at(pos) >= self.move_threshold)

    def check_numbers(self, pos: Position, middle: float, faces: Sequence[FaceMaxima]) -> None:
        """Counts a step that gave NaN, which counts as never visited, and tells the first one.

        Looks where moves come from, at what is known by then; another pass over all logits would make every step slower.

        Args:
          pos: of the step.
          middle: the logit there.
          faces: maxima of the faces, for every box of the movement policy.
        """
        without = [logit for maxima in faces for logit, _ in maxima if math.isnan(logit)]
        if not without and not math.isnan(middle):
            return
        if not self._counters['nan-steps']:
            where = Xyz(*(a + b for a, b in zip(Zyx(*pos).xyz, self.corner_zyx.xyz, strict=True)))
            _log.warning(
                'the network gives no numbers (NaN) around %s; objects end there or have holes, and such steps are '
                'counted as nan-steps. Where it runs in float16, which ends at 65504, precision "float32" or "bfloat16" may help',
                where,
            )
        self._counters.add('nan-steps')


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
