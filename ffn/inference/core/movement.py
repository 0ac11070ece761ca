"""Where the field of view goes next while one object grows."""

from __future__ import annotations

import collections
import importlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ffn.utils import moves
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx

Position = tuple[int, int, int]


class MovementView(Protocol):
    """What a movement policy may ask of the canvas."""

    def is_valid_pos(self, pos_zyx: Sequence[int], ignore_move_threshold: bool = False) -> bool:
        """Whether the field of view may be centred there."""


class FaceMaxMovementPolicy:
    """Goes to the greatest logit on each face of the box of ±deltas around the centre.

    Candidates wait in a first-in-first-out queue, the greatest of a step first. Space is divided in
    cells of the size of the deltas, counted from the start; each cell is visited once.
    (Januszewski et al. 2018, Methods.)
    """

    def __init__(self, view: MovementView, deltas_zyx: Sequence[int], score_threshold: float):
        """Makes a policy.

        Args:
          view: the canvas.
          deltas_zyx: distance of the faces from the centre.
          score_threshold: least logit of a candidate.
        """
        self._view = view
        self._deltas = tuple(int(d) for d in deltas_zyx)
        self._threshold = float(score_threshold)
        self.reset_state((0, 0, 0))
        self._queue.clear()

    def reset_state(self, start_zyx: Sequence[int]) -> None:
        """Forgets everything and queues a start."""
        start = tuple(int(v) for v in start_zyx)
        self._start: Position = start
        self._queue: collections.deque[Position] = collections.deque([start])
        self._done: set[Position] = set()

    def _cell(self, pos_zyx: Sequence[int]) -> Position:
        z, y, x = pos_zyx
        z0, y0, x0 = self._start
        return moves.quantize((z - z0, y - y0, x - x0), self._deltas)

    def __iter__(self) -> Iterator[Position]:
        return self

    def __next__(self) -> Position:
        while self._queue:
            position = self._queue.popleft()
            if self._cell(position) not in self._done and self._view.is_valid_pos(position):
                return position
        raise StopIteration

    def update(self, logits: np.ndarray, position_zyx: Sequence[int]) -> None:
        """Takes in the result of a step.

        Args:
          logits: float32 [z, y, x] around the position, as written to the canvas; only valid during
            the call.
          position_zyx: centre of the field of view.
        """
        self._done.add(self._cell(position_zyx))
        z, y, x = position_zyx
        for _, (dz, dy, dx) in moves.face_maxima(logits, self._deltas, self._threshold):
            self._queue.append((z + dz, y + dy, x + dx))

    def get_state(self) -> dict[str, Any]:
        """Everything needed to go on later, as plain JSON-able data."""
        return {
            'start': list(self._start),
            'queue': [list(p) for p in self._queue],
            'done': sorted(list(p) for p in self._done),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `get_state` returned."""
        self._start = tuple(state['start'])
        self._queue = collections.deque(tuple(p) for p in state['queue'])
        self._done = {tuple(p) for p in state['done']}


def load_class(name: str, package: str, what: str, known: Sequence[str]) -> type:
    """Finds a class by 'Class' in a module of ours or by 'package.module.Class'.

    Args:
      name: what the request says.
      package: module that plain names are looked up in.
      what: the field, for errors.
      known: names to list when it does not exist.

    Raises:
      UserError: no such class.
    """
    module, _, class_name = name.rpartition('.')
    try:
        return getattr(importlib.import_module(module or package), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f'{what} {name!r} does not exist ({error}); known are {", ".join(known)}, or '
            'package.module.Class'
        ) from error


def json_args(text: str, what: str) -> dict[str, Any]:
    """Parses the JSON object of a request's ..._args field; empty text means no arguments.

    Raises:
      UserError: not a JSON object.
    """
    try:
        args = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise UserError(f'{what} is not JSON: {error}; given was {text!r}') from error
    if not isinstance(args, dict):
        raise UserError(f'{what} must be a JSON object such as {{"a": 1}}; given was {text!r}')
    return args


def make_policy(
    view: MovementView, name: str, args: str, deltas_zyx: Sequence[int], score_threshold: float,
    reach_zyx: Sequence[int],
) -> FaceMaxMovementPolicy:  # fmt: skip
    """Makes the movement policy that a request names.

    Args:
      view: the canvas.
      name: movement_policy_name; '' is FaceMaxMovementPolicy.
      args: movement_policy_args, JSON; may give deltas (x, y, z) and score_threshold (a logit, as
        existing requests have it).
      deltas_zyx: the model's deltas.
      score_threshold: the move threshold, as logit.
      reach_zyx: half of what the network predicts; deltas cannot be greater.

    Raises:
      UserError: unknown policy, or arguments that it does not take.
    """
    kwargs = json_args(args, 'movement_policy_args')
    deltas = kwargs.pop('deltas', None)
    if deltas is not None:
        deltas_zyx = Xyz.parse(deltas, 'deltas of movement_policy_args').zyx
        if any(not 0 <= d <= r for d, r in zip(deltas_zyx, reach_zyx, strict=True)):
            raise UserError(
                f'deltas of movement_policy_args are {deltas_zyx.xyz}; expected 0 to half of what the '
                f'network predicts, {Zyx.of(reach_zyx).xyz}'
            )
    cls = load_class(
        name or 'FaceMaxMovementPolicy', __name__, 'movement_policy_name', ['FaceMaxMovementPolicy']
    )
    kwargs.setdefault('score_threshold', score_threshold)
    try:
        return cls(view, deltas_zyx, **kwargs)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f'movement_policy_args {args!r} do not fit {cls.__name__}: {error}'
        ) from error
