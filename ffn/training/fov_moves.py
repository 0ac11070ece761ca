"""Where the field of view goes on an example: the policies of training.

Januszewski et al., arXiv:1611.00421, section on training. A policy holds no random state: its whole
state is arrays, which a checkpoint keeps.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ffn.models.model import ModelInfo
from ffn.training.config import WalkConfig
from ffn.utils import moves
from ffn.utils.logits import logit

Offset = tuple[int, int, int]
CENTER: Offset = (0, 0, 0)


class Surroundings(Protocol):
    """What a policy may ask about an example.

    Attributes:
      reach: how far the field of view may go from the centre, z, y, x.
    """

    reach: Offset

    def is_valid(self, offset: Offset) -> bool:
        """Whether the canvas at an offset (z, y, x from the centre) reaches the threshold."""
        ...

    def is_wanted(self, offset: Offset) -> bool:
        """Whether the object is there."""
        ...

    def any_valid(self, offsets: np.ndarray) -> bool:
        """Whether any of some offsets, int [n, 3], is valid."""
        ...


class NoStep:
    """The field of view stays in the centre."""

    def saw(self, offset: Offset, logits: np.ndarray) -> None:
        """Takes in the logits [z, y, x] of a step at an offset."""

    def next(self, around: Surroundings) -> Offset | None:
        """Where to go next, None at the end."""
        return None

    def state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to go on."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over what `state` gave."""


class FixedMoves(NoStep):
    """Every neighbour at ±delta is visited once, if the canvas there reaches the threshold."""

    def __init__(self, offsets: Sequence[Offset]):
        """Takes the offsets in the order of visits."""
        self._left = collections.deque(offsets)

    def next(self, around: Surroundings) -> Offset | None:
        """See base class."""
        while self._left:
            offset = self._left.popleft()
            if self._is_valid(offset, around):
                return offset
        return None

    def _is_valid(self, offset: Offset, around: Surroundings) -> bool:
        return around.is_valid(offset)

    def state(self) -> dict[str, np.ndarray]:
        """See base class."""
        return {'left': _as_array(self._left)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """See base class."""
        self._left = collections.deque(_as_offsets(state['left']))


class WindowMoves(FixedMoves):
    """As FixedMoves, but one voxel near the neighbour on the shell of ±delta is enough."""

    def __init__(self, offsets: Sequence[Offset], deltas: Offset, radius: int):
        """Makes a policy.

        Args:
          offsets: in the order of visits.
          deltas: half the size of the shell, z, y, x.
          radius: how far from a neighbour voxels of the shell count, along each axis.
        """
        super().__init__(offsets)
        self._deltas, self._radius = deltas, radius

    def _is_valid(self, offset: Offset, around: Surroundings) -> bool:
        return around.any_valid(shell_window(offset, self._deltas, self._radius))


class MaxPredMoves(NoStep):
    """As in inference: to the maxima of the faces, breadth first, where the object is as well."""

    def __init__(self, deltas: Offset, threshold: float):
        """Makes a policy.

        Args:
          deltas: half the size of the box whose faces count, z, y, x.
          threshold: least logit of a maximum.
        """
        self._deltas, self._threshold = deltas, threshold
        self._queue: collections.deque[Offset] = collections.deque()
        self._done: set[Offset] = set()

    def saw(self, offset: Offset, logits: np.ndarray) -> None:
        """See base class."""
        self._done.add(moves.quantize(offset, self._deltas))
        z, y, x = offset
        self._queue.extend(
            (z + dz, y + dy, x + dx)
            for _, (dz, dy, dx) in moves.face_maxima(logits, self._deltas, self._threshold)
        )

    def next(self, around: Surroundings) -> Offset | None:
        """See base class."""
        while self._queue:
            offset = self._queue.popleft()
            if any(abs(o) > r for o, r in zip(offset, around.reach, strict=True)):
                continue
            done = moves.quantize(offset, self._deltas) in self._done
            if not done and around.is_valid(offset) and around.is_wanted(offset):
                return offset
        return None

    def state(self) -> dict[str, np.ndarray]:
        """See base class."""
        return {'queue': _as_array(self._queue), 'done': _as_array(sorted(self._done))}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """See base class."""
        self._queue = collections.deque(_as_offsets(state['queue']))
        self._done = set(_as_offsets(state['done']))


def make_policy(config: WalkConfig, info: ModelInfo, rng: np.random.Generator) -> NoStep:
    """Makes the policy of one example; every example begins in its centre.

    Args:
      config: which one.
      info: sizes of the network.
      rng: orders the moves of `fixed` and `window`.
    """
    deltas = info.deltas.zyx
    if config.fov_policy == 'no_step':
        return NoStep()
    if config.fov_policy == 'max_pred_moves':
        return MaxPredMoves(deltas, logit(config.threshold))
    offsets = fixed_offsets(deltas)
    if config.shuffle_moves:
        rng.shuffle(offsets)
    offsets = [(z, y, x) for z, y, x in offsets]
    if config.fov_policy == 'window':
        return WindowMoves(offsets, deltas, config.window_radius)
    return FixedMoves(offsets)


def fixed_offsets(deltas_zyx: Sequence[int]) -> list[Offset]:
    """The neighbours of the centre at ±delta: 26, fewer where a delta is 0; without the centre."""
    steps = ((-d, 0, d) if d else (0,) for d in deltas_zyx)
    return [offset for offset in itertools.product(*steps) if any(offset)]


def shell_window(offset: Offset, deltas_zyx: Sequence[int], radius: int) -> np.ndarray:
    """Voxels of the shell around ±delta that are near a voxel of it.

    Args:
      offset: that voxel, z, y, x from the centre.
      deltas_zyx: half the size of the shell; an axis with delta 0 is flat.
      radius: how far to go along each axis.

    Returns:
      Offsets, int [n, 3].
    """
    deltas = np.array(deltas_zyx)
    ranges = [
        range(max(o - radius, -d), min(o + radius, d) + 1)
        for o, d in zip(offset, deltas_zyx, strict=True)
    ]
    near = np.array(list(itertools.product(*ranges)))
    return near[((np.abs(near) == deltas) & (deltas > 0)).any(axis=1)]


def _as_array(offsets: Sequence[Offset]) -> np.ndarray:
    return np.array(list(offsets), dtype=np.int64).reshape(-1, 3)


def _as_offsets(array: np.ndarray) -> list[Offset]:
    return [(z, y, x) for z, y, x in array.tolist()]
