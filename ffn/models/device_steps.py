"""Images and seeds of canvases on the device of the network, and whole steps there: field of view in, maxima out.

What a step does with the seed is written once, for Keras' backends; `device_steps_jax` and `device_steps_torch` have
what differs: how arrays are changed in place, and what is compiled. It is the rule of
`ffn.inference.core.step.NetworkStep`, which this is tested against.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ffn.models.model import FFNModel
from ffn.utils import moves
from ffn.utils.geometry import Zyx

# Positions whose logits every step tells.
WATCHED = 9
Extent = tuple[slice, slice, slice]


@dataclass(frozen=True)
class StepRules:
    """What a step does with the seed; all but the share are logits.

    Attributes:
      pad_value: what the network sees where no field of view has been.
      move_threshold: from here on, a voxel counts for `disco_seed_threshold`.
      segment_threshold: least value of a voxel of the object.
      deleted_from: a voxel that had at least this and becomes background is deleted.
      disco_seed_threshold: when more than this fraction of a field of view is filled, background that was visited
        is not raised; negative: off.
    """

    pad_value: float
    move_threshold: float
    segment_threshold: float
    deleted_from: float
    disco_seed_threshold: float


class DeviceSteps:
    """The images and seeds of several canvases on the device, a slot for each, and steps on them.

    All slots have the size of the largest canvas so far; more or larger ones are made when they are needed, and then
    the step is compiled again. May be called from several threads.

    Attributes:
      model: the network.
      rules: what steps do.
      faces: for every box of the movement policy, flat indices of what a step predicts, int [faces, voxels].
    """

    def __init__(self, model: FFNModel, rules: StepRules, slots: int):
        """Makes one.

        Args:
          model: the network.
          rules: what steps do.
          slots: number of canvases that there is room for at first.
        """
        self.model, self.rules = model, rules
        self.faces: list[np.ndarray] = []
        self._device_faces: list[Any] = []
        self._boxes: tuple[Zyx, ...] | None = None
        self._predicted = model.info.pred_mask_size.zyx
        # Held while arrays of the device are replaced or changed, which others then must not be given.
        self._lock = threading.Lock()
        self._slots, self._shape = slots, Zyx(0, 0, 0)
        # Numbers of slots; appending and popping need no lock.
        self._free: list[int] = list(range(slots))

    def open(self, image: np.ndarray, boxes: Sequence[Zyx]) -> int:
        """Brings an image to the device; its seed is not defined yet.

        Args:
          image: float32 [z, y, x], normalized.
          boxes: distances of the faces from the centre whose maxima steps tell, the same for all canvases.

        Returns:
          The slot.
        """
        with self._lock:
            if self._boxes is None:
                self._boxes = tuple(boxes)
                self.faces = [moves.face_indices(self._predicted, tuple(box)) for box in boxes]
                self._device_faces = [keras.ops.convert_to_tensor(f, 'int32') for f in self.faces]
            if self._boxes != tuple(boxes):
                raise ValueError(f'boxes are {boxes}; those of other canvases are {self._boxes}')
            shape = Zyx(*map(max, zip(self._shape, image.shape, strict=True)))
            slots = self._slots if self._free else 2 * self._slots
            if shape != self._shape or slots != self._slots:
                self._resize(slots, shape)
                self._free.extend(range(self._slots, slots))
                self._slots, self._shape = slots, shape
            slot = self._free.pop()
            self._put_image(slot, self._filled_up(image, 0))
            return slot

    def close(self, slot: int) -> None:
        """Makes room for another canvas."""
        self._free.append(slot)

    def begin(self, slot: int, pos_zyx: Sequence[int], logit: float) -> None:
        """Clears a seed and sets its starting voxel."""
        with self._lock:
            self._begin(np.array([slot, *pos_zyx], np.int32), logit)

    def run(self, rows: np.ndarray) -> np.ndarray:
        """Makes steps of different canvases.

        Args:
          rows: int32 [b, 4 + 3 * WATCHED]: the slot, the first voxel of the field of view, and WATCHED positions.

        Returns:
          float32 [b, n]: the logits at these positions after the step; for every box the maxima of its faces, and
          where in `faces` they are; the numbers of deleted and of gained voxels.
        """
        size = len(rows)
        # Few sizes have to be compiled for. The first step is made more than once, with the same result.
        missing = (1 << (size - 1).bit_length()) - size
        rows = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)])
        with self._lock:
            found = self._run(rows, size)
        return self._fetched(found)[:size]

    def logits(self, slot: int, positions: np.ndarray) -> np.ndarray:
        """The seed at positions, int32 [n, 3] → float32 [n]."""
        with self._lock:
            found = self._logits(slot, positions)
        return self._fetched(found)

    def read(self, slot: int, extent: Extent) -> np.ndarray:
        """A part of a seed, float32 [z, y, x]."""
        with self._lock:
            collect = self._read(slot, extent)
        return collect()

    def write(self, slot: int, seed: np.ndarray) -> None:
        """Replaces a seed, float32 [z, y, x]."""
        with self._lock:
            self._put_seed(slot, self._filled_up(seed, np.nan))

    def _filled_up(self, array: np.ndarray, value: float) -> np.ndarray:
        """An array of a canvas in the size of the slots."""
        missing = [(0, n - m) for n, m in zip(self._shape, array.shape, strict=True)]
        return np.pad(array, missing, constant_values=value)

    def _step(
        self, network: Callable[[Any, Any], Any], image: Any, seed: Any
    ) -> tuple[Any, list[Any]]:
        """What a step makes of fields of view, float32 [b, z, y, x].

        Args:
          network: (images, seeds), float32 [b, z, y, x, 1] → logits.
          image: normalized.
          seed: logits, NaN where no field of view has been.

        Returns:
          float32 [b, z, y, x] logits of what is predicted, and what is told of them, float32 [b, n] each.
        """
        ops, rules = keras.ops, self.rules
        pad, move, segment, deleted_from = (
            float(np.float32(value))
            for value in (
                rules.pad_value,
                rules.move_threshold,
                rules.segment_threshold,
                rules.deleted_from,
            )
        )

        def count(mask: Any) -> Any:
            return ops.sum(ops.cast(mask, 'int32'), axis=(1, 2, 3))

        unvisited = ops.isnan(seed)
        shown = ops.where(unvisited, pad, seed)
        part = (slice(None), *self.model.info.predicted)
        logits = network(image[..., None], shown[..., None])[..., 0][part]
        old, before, unvisited = shown[part], seed[part], unvisited[part]
        if rules.disco_seed_threshold >= 0:
            most = math.floor(rules.disco_seed_threshold * math.prod(self._predicted))
            filled = (count(logits >= move) > most)[:, None, None, None]
            kept = filled & (old < 0) & ~unvisited & (logits > old)
            logits = ops.where(kept, old, logits)
        deleted = count((old >= deleted_from) & (logits < 0) & ~unvisited)
        gained = count(logits >= segment) - count(before >= segment)
        told = []
        flat = ops.reshape(logits, (-1, math.prod(self._predicted)))
        for faces in self._device_faces:
            if math.prod(faces.shape):
                values = ops.take(flat, faces, axis=1)
                told += [ops.max(values, axis=2), ops.cast(ops.argmax(values, axis=2), 'float32')]
        told.append(ops.cast(ops.stack([deleted, gained], axis=1), 'float32'))
        return logits, told

    def _resize(self, slots: int, shape: Zyx) -> None:
        """Makes larger arrays, [slots, z, y, x], with the contents of those there are."""
        raise NotImplementedError

    def _put_image(self, slot: int, image: np.ndarray) -> None:
        raise NotImplementedError

    def _put_seed(self, slot: int, seed: np.ndarray) -> None:
        raise NotImplementedError

    def _begin(self, place: np.ndarray, logit: float) -> None:
        """See `begin`; place: int32 [4], slot and position."""
        raise NotImplementedError

    def _run(self, rows: np.ndarray, size: int) -> Any:
        """See `run`; only the first `size` rows are to be written, or they must be the last to be."""
        raise NotImplementedError

    def _logits(self, slot: int, positions: np.ndarray) -> Any:
        raise NotImplementedError

    def _read(self, slot: int, extent: Extent) -> Callable[[], np.ndarray]:
        """Begins to read; what is returned waits for the result."""
        raise NotImplementedError

    def _fetched(self, array: Any) -> np.ndarray:
        """An array of the device as one of NumPy; waits for it."""
        raise NotImplementedError
