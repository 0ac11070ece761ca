"""Movement policies of training: where the field of view goes next on an example.

Januszewski et al., arXiv:1611.00421, section on training. Positions are z, y, x from the centre of the
example. A policy holds no random state: its whole state is arrays, which a checkpoint keeps.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from ffn.models.info import ModelInfo
from ffn.training.config import WalkConfig
from ffn.utils import moves
from ffn.utils.geometry import Position
from ffn.utils.logits import logit

CENTER: Position = (0, 0, 0)


class WalkView(Protocol):
    """What a policy may ask about the example and its canvas.

    Attributes:
      reach: how far the field of view may go from the centre, z, y, x.
    """

    reach: Position

    def is_predicted(self, position: Position) -> bool:
        """Whether the canvas at a position reaches the move threshold."""
        ...

    def is_in_object(self, position: Position) -> bool:
        """Whether the object is at a position."""
        ...

    def any_predicted(self, positions: np.ndarray) -> bool:
        """Whether the canvas reaches the move threshold at any of some positions, int [n, 3]."""
        ...


class MovementPolicy(Protocol):
    """Decides where the field of view goes; every example begins in its centre."""

    def update(self, logits: np.ndarray, position: Position) -> None:
        """Takes in the network's output, logits [z, y, x], for the field of view at a position."""
        ...

    def next(self, view: WalkView) -> Position | None:
        """Returns the next position, None at the end of the walk."""
        ...

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to continue."""
        ...

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `get_state` returned."""
        ...


class NoStep:
    """The field of view stays in the centre."""

    def update(self, logits: np.ndarray, position: Position) -> None:
        """See MovementPolicy."""

    def next(self, view: WalkView) -> Position | None:
        """See MovementPolicy."""
        return None

    def get_state(self) -> dict[str, np.ndarray]:
        """See MovementPolicy."""
        return {}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See MovementPolicy."""


class FixedMoves:
    """Every neighbour at ±delta is visited once, if the canvas there reaches the threshold."""

    def __init__(self, positions: Iterable[Position]):
        """Takes the neighbours in the order in which they are visited."""
        self._left = collections.deque(positions)

    def update(self, logits: np.ndarray, position: Position) -> None:
        """See MovementPolicy."""

    def next(self, view: WalkView) -> Position | None:
        """See MovementPolicy."""
        while self._left:
            position = self._left.popleft()
            if self._may_move(position, view):
                return position
        return None

    def _may_move(self, position: Position, view: WalkView) -> bool:
        return view.is_predicted(position)

    def get_state(self) -> dict[str, np.ndarray]:
        """See MovementPolicy."""
        return {'left': _as_array(self._left)}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See MovementPolicy."""
        self._left = collections.deque(_as_positions(state['left']))


class WindowMoves(FixedMoves):
    """Like FixedMoves, but one voxel near the neighbour on the shell of ±delta is enough."""

    def __init__(self, positions: Iterable[Position], deltas: Position, radius: int):
        """Makes a policy.

        Args:
          positions: the neighbours in the order in which they are visited.
          deltas: half the size of the shell, z, y, x.
          radius: how far from a neighbour voxels of the shell count, along each axis.
        """
        super().__init__(positions)
        self._deltas, self._radius = deltas, radius

    def _may_move(self, position: Position, view: WalkView) -> bool:
        return view.any_predicted(shell_window(position, self._deltas, self._radius))


class MaxPredMoves:
    """As in inference: to the maxima of the faces, breadth first, but only within the object."""

    def __init__(self, deltas: Position, threshold: float):
        """Makes a policy.

        Args:
          deltas: half the size of the box whose faces count, z, y, x.
          threshold: least logit of a maximum.
        """
        self._deltas, self._threshold = deltas, threshold
        self._queue: collections.deque[Position] = collections.deque()
        self._done: set[Position] = set()

    def update(self, logits: np.ndarray, position: Position) -> None:
        """See MovementPolicy."""
        self._done.add(moves.quantize(position, self._deltas))
        z, y, x = position
        self._queue.extend(
            (z + dz, y + dy, x + dx)
            for _, (dz, dy, dx) in moves.face_maxima(logits, self._deltas, self._threshold)
        )

    def next(self, view: WalkView) -> Position | None:
        """See MovementPolicy."""
        while self._queue:
            position = self._queue.popleft()
            if any(abs(p) > r for p, r in zip(position, view.reach, strict=True)):
                continue
            done = moves.quantize(position, self._deltas) in self._done
            if not done and view.is_predicted(position) and view.is_in_object(position):
                return position
        return None

    def get_state(self) -> dict[str, np.ndarray]:
        """See MovementPolicy."""
        return {'queue': _as_array(self._queue), 'done': _as_array(sorted(self._done))}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See MovementPolicy."""
        self._queue = collections.deque(_as_positions(state['queue']))
        self._done = set(_as_positions(state['done']))


def make_policy(config: WalkConfig, info: ModelInfo, rng: np.random.Generator) -> MovementPolicy:
    """Makes the policy of one example.

    Args:
      config: names the policy.
      info: sizes of the network.
      rng: orders the moves of `fixed` and `window`.
    """
    deltas = info.deltas.zyx
    if config.fov_policy == 'no_step':
        return NoStep()
    if config.fov_policy == 'max_pred_moves':
        return MaxPredMoves(deltas, logit(config.threshold))
    positions = neighbors(deltas)
    if config.shuffle_moves:
        rng.shuffle(positions)
    if config.fov_policy == 'window':
        return WindowMoves(positions, deltas, config.window_radius)
    return FixedMoves(positions)


def neighbors(deltas_zyx: Sequence[int]) -> list[Position]:
    """The neighbours of the centre at ±delta: 26, or fewer where a delta is 0."""
    z_steps, y_steps, x_steps = ((-d, 0, d) if d else (0,) for d in deltas_zyx)
    positions = itertools.product(z_steps, y_steps, x_steps)
    return [position for position in positions if position != CENTER]


def shell_window(position: Position, deltas_zyx: Sequence[int], radius: int) -> np.ndarray:
    """Voxels of the shell around ±delta that are near a voxel of it.

    Args:
      position: that voxel, z, y, x from the centre.
      deltas_zyx: half the size of the shell; an axis with delta 0 is flat.
      radius: how far to go along each axis.

    Returns:
      Positions, int [n, 3].
    """
    deltas = np.array(deltas_zyx)
    ranges = [
        range(max(p - radius, -d), min(p + radius, d) + 1)
        for p, d in zip(position, deltas_zyx, strict=True)
    ]
    near = np.array(list(itertools.product(*ranges)))
    on_shell: np.ndarray = ((np.abs(near) == deltas) & (deltas > 0)).any(axis=1)
    shell: np.ndarray = near[on_shell]
    return shell


def _as_array(positions: Iterable[Position]) -> np.ndarray:
    return np.array(list(positions), dtype=np.int64).reshape(-1, 3)


def _as_positions(array: np.ndarray) -> list[Position]:
    return [(z, y, x) for z, y, x in array.tolist()]
