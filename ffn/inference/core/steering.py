"""A canvas whose objects are grown by hand: stopped, gone on with other thresholds, kept or dropped.

The network is run by one thread, which holds `SteeredCanvas.lock` except while the network computes. Whoever
holds the lock owns the canvas: others wait no longer than for the bookkeeping of a step, however slow the network
is, and find the canvas as it was before the step that is being computed.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ffn.inference.core.canvas import Canvas, Extent, Interrupted
from ffn.inference.core.growing import GrowingObject
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.protocols import Network
from ffn.models.info import ModelInfo
from ffn.utils.geometry import Position

# Positions whose moves are looked at between two moments in which others may use the canvas.
_AT_A_TIME = 100


class SteeredCanvas(Canvas):
    """A canvas with one object at a time, which is there until it is kept or dropped.

    All methods are called with `lock` held, and so is everything inherited.

    Attributes:
      lock: see the module.
      grown: the object that is there, whether it still grows or not; None where there is none.
      position: centre of the field of view of the object's last step, or its start, z, y, x.
      voxels: of the object, as a segment would be made of it.
      extents: id of a segment that was kept → where all its voxels are.
    """

    def __init__(
        self,
        info: ModelInfo,
        network: Network,
        image: np.ndarray,
        options: CanvasOptions,
        *,
        movement_policy: tuple[str, str | Mapping[str, Any]] = ('', ''),
        **others: Any,
    ):
        """Makes an empty canvas; see `Canvas`."""
        self.lock = threading.Lock()
        self.grown: GrowingObject | None = None
        self.position: Position = (0, 0, 0)
        self.voxels = self._counted = 0
        self.extents: dict[int, Extent] = {}
        self._visits: list[Position] = []
        # Those of them whose moves are looked at again.
        self._reopened: collections.deque[Position] = collections.deque()
        self._info, self._movement = info, movement_policy
        shared = _SharedTime(network, self)
        super().__init__(info, shared, image, options, movement_policy=movement_policy, **others)

    def begin(self, start_zyx: Position) -> None:
        """Begins an object in place of the one that is there; nothing is grown yet."""
        self.grown = self._start(start_zyx)
        self.position = self.grown.start
        self._visits.clear()
        self._reopened.clear()
        self._count()

    def go_on(self, after_step: Callable[[], None]) -> None:
        """Grows the object until it has no place left to go to.

        Args:
          after_step: called after every step; raises Interrupted to stop. Calling `go_on` again then continues
            as if nothing had been.

        Raises:
          Interrupted: by `after_step`; also if the object is no longer there after a step.
        """
        if (growing := self.grown) is not None:
            self._reopen(growing)
            self.growing = growing
            self._grow(growing, lambda *_: after_step())

    def _reopen(self, growing: GrowingObject) -> None:
        """Offers the moves from where the object has been once more, to a lower threshold."""
        while self._reopened:
            position = self._reopened.popleft()
            self.movement_policy.update(self.seed[self._field(position)], position)
            if len(self._reopened) % _AT_A_TIME == 0:
                self._give_turn(growing)

    def _give_turn(self, growing: GrowingObject | None) -> None:
        """Lets others use the canvas."""
        self.lock.release()
        self.lock.acquire()
        self.check_object(growing)

    def check_object(self, grown: GrowingObject | None) -> None:
        """Checks that the object is still there that was before the lock was given away.

        Raises:
          Interrupted: it is gone, or another one is there.
        """
        if self.grown is not grown:
            raise Interrupted('the object is gone')

    def update_at(self, pos_zyx: Sequence[int]) -> np.ndarray:
        """Makes one step of the network; see `Canvas.update_at`."""
        z, y, x = pos_zyx
        field = self._field((z, y, x))
        before, counted = np.count_nonzero(self._is_object(field)), self._counted
        logits = super().update_at(pos_zyx)
        if counted == self._counted:
            self.voxels += int(np.count_nonzero(self._is_object(field)) - before)
        else:  # meanwhile, thresholds or segments have changed
            self._count()
        self.position = (z, y, x)
        self._visits.append(self.position)
        return logits

    def keep(self) -> int:
        """Makes the object a segment, whatever its size, and leaves it there otherwise.

        Returns:
          Id of the segment, 0 where no voxel reaches the threshold.
        """
        segment = self._make_segment(self.grown, 1) if self.grown is not None else 0
        if segment:
            self.extents[segment] = self.visited_extent()
        return segment

    def drop(self) -> None:
        """Forgets the object; a step that is being computed for it is discarded."""
        self.grown = self.growing = None
        self.voxels = 0

    def forget_segment(self, segment: int) -> None:
        """Frees the voxels of a segment that was kept, as if it had never been."""
        extent = self.extents.pop(segment)
        mask = self.segmentation[extent] == segment
        self.segmentation[extent][mask] = 0
        self.seg_prob[extent][mask] = 0
        for known in (self.origins, self.overlaps, self.limited):
            known.pop(segment, None)
        self._count()

    def change_thresholds(self, move: float, segment: float) -> None:
        """Changes the thresholds, also in the midst of an object.

        A lower one opens moves that steps so far did not offer: they are taken from the object as it is now. A
        `score_threshold` of the movement policy stays as the request has it.

        Args:
          move: the new move_threshold, a logit.
          segment: the new segment_threshold, a logit.
        """
        before = self.options.move_threshold
        self.options = self._step.options = dataclasses.replace(
            self.options, move_threshold=move, segment_threshold=segment
        )
        if move != before:
            self._change_moves(move, lowered=move < before)
        self._count()

    def _change_moves(self, threshold: float, lowered: bool) -> None:
        self.view.move_threshold = threshold
        before = self.movement_policy
        self.movement_policy = self._make_movement(self._info, *self._movement)
        if self._visits:
            self.movement_policy.set_state(before.get_state())
            if lowered:
                self._reopened = collections.deque(self._visits)
        elif self.grown is not None:  # its start may have been below the threshold
            self.movement_policy.reset_state(self.grown.start)

    def object_mask(self, part: Extent) -> np.ndarray:
        """Where the object is in a part of the canvas, bool [z, y, x]."""
        if self.grown is None:
            return np.zeros(self.segmentation[part].shape, bool)
        return self._is_object(part)

    def _field(self, pos: Position) -> Extent:
        """What a step at a position predicts."""
        z, y, x = (slice(p - r, p + r + 1) for p, r in zip(pos, self.view.reach_zyx, strict=True))
        return z, y, x

    def _is_object(self, extent: Extent) -> np.ndarray:
        likely = self.seed[extent] >= self.options.segment_threshold
        return np.logical_and(likely, self.segmentation[extent] <= 0)

    def _count(self) -> None:
        self._counted += 1
        if self.grown is not None:
            self.voxels = int(np.count_nonzero(self._is_object(self.visited_extent())))


class _SharedTime:
    """A network that gives the lock of a canvas away while it computes."""

    def __init__(self, network: Network, canvas: SteeredCanvas):
        self._network, self._canvas = network, canvas

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """See `ffn.inference.core.protocols.Network`.

        Raises:
          Interrupted: the object for which this is computed is gone.
        """
        canvas, grown = self._canvas, self._canvas.grown
        canvas.lock.release()
        try:
            logits = self._network.predict(image, seed)
        finally:
            canvas.lock.acquire()
        canvas.check_object(grown)
        return logits
