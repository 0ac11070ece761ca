"""The queue of positions that the field of view still visits while one object grows."""

from __future__ import annotations

import collections
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

import numpy as np

from ffn.utils import moves
from ffn.utils.errors import UserError
from ffn.utils.geometry import Position, Zyx, both_orders
from ffn.utils.plugins import json_args, load_class


class MovementView(Protocol):
    """What a movement policy may ask of the canvas.

    Attributes:
      reach_zyx: half of what the network predicts.
    """

    reach_zyx: Zyx

    def unvisited_share(self, pos_zyx: Sequence[int]) -> float:
        """Which share of what a step at a position would predict no step of this object has predicted yet."""

    def is_valid_pos(self, pos_zyx: Sequence[int], ignore_move_threshold: bool = False) -> bool:
        """Whether the field of view may be centred there."""


@runtime_checkable
class MovementPolicy(Protocol):
    """An iterator of positions that learns from the result of every step."""

    def __iter__(self) -> Iterator[Position]: ...

    def __next__(self) -> Position: ...

    def reset_state(self, start_zyx: Sequence[int]) -> None:
        """Forgets everything and queues a starting position."""

    def update(self, logits: np.ndarray, position_zyx: Sequence[int]) -> None:
        """Takes in the logits, float32 [z, y, x], that a step wrote around its position; only valid during the call."""

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue later, as plain JSON-able data."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from what `get_state` returned."""


# Of each face of a box around the centre: the greatest logit, and its offset z, y, x from the centre.
FaceMaxima = Sequence[tuple[float, moves.Offset]]


class FacePolicy(MovementPolicy, Protocol):
    """A policy to which the maxima on the faces of boxes are enough: the logits may stay on a device.

    Attributes:
      boxes: distances of the faces from the centre, z, y, x voxels, for every box.
    """

    @property
    def boxes(self) -> tuple[Zyx, ...]:
        """See the class."""

    def update_faces(self, maxima: Sequence[FaceMaxima], position_zyx: Sequence[int]) -> None:
        """Takes in the step that was made at a position, of which the maxima for every box are given."""

    def pending(self) -> Iterator[Position]:
        """The positions that come next, as far as is known; those among them that do not count any more are left out."""


class FaceMaxMovementPolicy:
    """Moves to the greatest logit on each face of the box of ±deltas around the centre.

    Candidates wait in a first-in-first-out queue, the greatest of a step first. Space is divided into
    cells of the size of the deltas, counted from the start; each cell is visited once. The rule for the
    faces is `ffn.utils.moves`, which training shares.
    (Januszewski et al. 2018, Methods.)
    """

    def __init__(self, view: MovementView, deltas_zyx: Sequence[int], score_threshold: float):
        """Makes a policy.

        Args:
          view: the canvas.
          deltas_zyx: distance of the faces from the centre, voxels.
          score_threshold: least logit of a candidate.

        Raises:
          ValueError: the threshold is no number, or one that nothing reaches.
        """
        if not float(score_threshold) < math.inf:
            raise ValueError(f'score_threshold is {score_threshold}; expected a logit')
        self._view = view
        self._deltas = Zyx.of(deltas_zyx)
        self._threshold = float(score_threshold)
        self._start: Position = (0, 0, 0)
        self._queue: collections.deque[Position] = collections.deque()
        self._done: set[Position] = set()

    def reset_state(self, start_zyx: Sequence[int]) -> None:
        """Forgets everything and queues a starting position."""
        z, y, x = start_zyx
        self._start = (int(z), int(y), int(x))
        self._queue = collections.deque([self._start])
        self._done = set()

    def _cell(self, pos_zyx: Sequence[int]) -> Position:
        return moves.quantize(pos_zyx, self._deltas, self._start)

    def __iter__(self) -> Iterator[Position]:
        return self

    def __next__(self) -> Position:
        while self._queue:
            position = self._queue.popleft()
            if self._cell(position) not in self._done and self._view.is_valid_pos(position):
                return position
        raise StopIteration

    def update(self, logits: np.ndarray, position_zyx: Sequence[int]) -> None:
        """Takes in the result of a step; see `MovementPolicy.update`."""
        self.update_faces([moves.all_maxima(logits, self._deltas)], position_zyx)

    def _add(
        self, candidates: list[tuple[float, moves.Offset]], position_zyx: Sequence[int]
    ) -> None:
        self._done.add(self._cell(position_zyx))
        z, y, x = position_zyx
        for _, (dz, dy, dx) in candidates:
            self._queue.append((z + dz, y + dy, x + dx))

    @property
    def boxes(self) -> tuple[Zyx, ...]:
        """See `FacePolicy`."""
        return (self._deltas,)

    def update_faces(self, maxima: Sequence[FaceMaxima], position_zyx: Sequence[int]) -> None:
        """See `FacePolicy`."""
        [own] = maxima
        self._add(moves.best_first(own, self._threshold), position_zyx)

    def pending(self) -> Iterator[Position]:
        """See `FacePolicy`."""
        while (
            self._queue and self._cell(self._queue[0]) in self._done
        ):  # not to be passed over again
            self._queue.popleft()
        return (position for position in self._queue if self._cell(position) not in self._done)

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue later, as plain JSON-able data."""
        return {
            'start': list(self._start),
            'queue': [list(p) for p in self._queue],
            'done': sorted(list(p) for p in self._done),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from what `get_state` returned."""
        self._start = _as_position(state['start'])
        self._queue = collections.deque(map(_as_position, state['queue']))
        self._done = set(map(_as_position, state['done']))


class CoarseToFineMovementPolicy:
    """Makes large moves as long as there are any, then the small ones that they left out.

    Large moves go to the faces of a box of `coarse` times the deltas, or less near the edge of what the network
    predicts, where predictions are poor and moves merge objects. Those to the faces of ±deltas wait; when no large
    move is left, they are made where the field of view would hold enough that was never visited, each followed by
    the large moves that it opens. The rule for the faces and the cells is that of `FaceMaxMovementPolicy`. The
    defaults were chosen by measurement, see doc/performance.md.
    """

    def __init__(
        self,
        view: MovementView,
        deltas_zyx: Sequence[int],
        score_threshold: float,
        coarse: float = 1.5,
        min_unvisited: float = 0.05,
        within: float = 5 / 6,
    ):
        """Makes a policy.

        Args:
          view: the canvas.
          deltas_zyx: distance of the faces of small moves from the centre, voxels.
          score_threshold: least logit of a candidate.
          coarse: those of large moves are this much farther away, as far as `within` allows.
          min_unvisited: least share of the field of view that no step has predicted yet, for a small move.
          within: share of the way from the centre to the edge of what the network predicts that large moves stay in.

        Raises:
          UserError: `coarse` is less than 1, or one of the others is no share.
        """
        if not (coarse >= 1 and 0 <= min_unvisited <= 1 and 0 <= within <= 1):
            raise UserError(
                f'movement_policy_args: coarse is {coarse:g}, min_unvisited {min_unvisited:g} and within {within:g}; '
                'expected 1 or more, and 0 to 1'
            )
        deltas = Zyx.of(deltas_zyx)
        far = [
            max(d, min(round(d * coarse), int(r * within)))
            for d, r in zip(deltas, view.reach_zyx, strict=True)
        ]
        self._view, self._min_unvisited = view, min_unvisited
        self._large = FaceMaxMovementPolicy(view, far, score_threshold)
        self._small = FaceMaxMovementPolicy(view, deltas, score_threshold)

    def reset_state(self, start_zyx: Sequence[int]) -> None:
        """Forgets everything and queues a starting position."""
        self._large.reset_state(start_zyx)
        self._small.reset_state(start_zyx)

    def __iter__(self) -> Iterator[Position]:
        return self

    def __next__(self) -> Position:
        for position in self._large:
            return position
        for position in self._small:
            if self._view.unvisited_share(position) >= self._min_unvisited:
                return position
        raise StopIteration

    def update(self, logits: np.ndarray, position_zyx: Sequence[int]) -> None:
        """Takes in the result of a step; see `MovementPolicy.update`."""
        self._large.update(logits, position_zyx)
        self._small.update(logits, position_zyx)

    @property
    def boxes(self) -> tuple[Zyx, ...]:
        """See `FacePolicy`."""
        return (*self._large.boxes, *self._small.boxes)

    def update_faces(self, maxima: Sequence[FaceMaxima], position_zyx: Sequence[int]) -> None:
        """See `FacePolicy`."""
        large, small = maxima
        self._large.update_faces([large], position_zyx)
        self._small.update_faces([small], position_zyx)

    def pending(self) -> Iterator[Position]:
        """See `FacePolicy`."""
        return itertools.chain(self._large.pending(), self._small.pending())

    def get_state(self) -> dict[str, Any]:
        """Everything needed to continue later, as plain JSON-able data."""
        return {'large': self._large.get_state(), 'small': self._small.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from what `get_state` returned."""
        self._large.set_state(state['large'])
        self._small.set_state(state['small'])


# Those derived from them may look at more.
_FACE_POLICIES = (FaceMaxMovementPolicy, CoarseToFineMovementPolicy)


def _as_position(value: Sequence[int]) -> Position:
    z, y, x = map(operator.index, value)
    return z, y, x


def _sees_faces(policy: MovementPolicy) -> TypeGuard[FacePolicy]:
    return type(policy) in _FACE_POLICIES


def learn(
    policy: MovementPolicy, logits: np.ndarray, position_zyx: Sequence[int]
) -> Sequence[FaceMaxima]:
    """Lets a policy take in a step, see `MovementPolicy.update`.

    Returns:
      The maxima that it was given, for every box; none where it looks at the logits itself.
    """
    if not _sees_faces(policy):
        policy.update(logits, position_zyx)
        return ()
    maxima = [moves.all_maxima(logits, box) for box in policy.boxes]
    policy.update_faces(maxima, position_zyx)
    return maxima


def make_policy(
    view: MovementView,
    name: str,
    args: str | Mapping[str, Any],
    deltas_zyx: Sequence[int],
    score_threshold: float,
    reach_zyx: Sequence[int],
) -> MovementPolicy:
    """Makes the movement policy that a request names.

    Args:
      view: the canvas.
      name: movement_policy_name; '' is FaceMaxMovementPolicy.
      args: movement_policy_args, as JSON or parsed; may give deltas (z, y, x) and score_threshold (a
        logit), as existing requests have them.
      deltas_zyx: the model's deltas.
      score_threshold: the move threshold, as a logit.
      reach_zyx: half of what the network predicts, which deltas cannot exceed.

    Raises:
      UserError: unknown policy, or arguments that it does not take.
    """
    kwargs = json_args(args, 'movement_policy_args')
    deltas_zyx = read_deltas(kwargs, reach_zyx) or deltas_zyx
    kwargs.pop('deltas', None)
    cls = policy_class(name)
    kwargs.setdefault('score_threshold', score_threshold)
    try:
        policy: MovementPolicy = cls(view, deltas_zyx, **kwargs)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f'movement_policy_args {args!r} do not fit {cls.__name__}: {error}'
        ) from error
    return policy


def policy_class(name: str) -> type[Any]:
    """Finds the class of a movement policy; '' is FaceMaxMovementPolicy.

    Raises:
      UserError: there is none of this name.
    """
    default = FaceMaxMovementPolicy.__name__
    return load_class(
        name or default,
        '' if '.' in name else __name__,
        MovementPolicy,
        'movement_policy_name',
        lambda: [default, CoarseToFineMovementPolicy.__name__],
    )


def is_face_policy(name: str) -> bool:
    """Whether a movement_policy_name stands for a `FacePolicy`.

    Raises:
      UserError: unknown policy.
    """
    return policy_class(name) in _FACE_POLICIES


def read_deltas(args: str | Mapping[str, Any], reach_zyx: Sequence[int]) -> Zyx | None:
    """Reads the deltas that movement_policy_args set instead of the model's.

    Their order is z, y, x, unlike that of the model's arguments: existing requests have it so.

    Args:
      args: movement_policy_args, as JSON or parsed.
      reach_zyx: half of what the network predicts.

    Returns:
      The deltas, or None where they are the model's.

    Raises:
      UserError: not three integers, negative, or greater than `reach_zyx`.
    """
    given = json_args(args, 'movement_policy_args').get('deltas')
    if given is None:
        return None
    deltas, reach = Zyx.parse(given, 'deltas of movement_policy_args'), Zyx.of(reach_zyx)
    if any(not 0 <= d <= r for d, r in zip(deltas, reach, strict=True)):
        raise UserError(
            f'deltas of movement_policy_args, whose order is z,y,x, are {both_orders(deltas)}; '
            f'expected 0 to half of what the network predicts, {both_orders(reach)}'
        )
    return deltas


def describe_deltas(args: str | Mapping[str, Any], reach_zyx: Sequence[int]) -> str:
    """Describes deltas that movement_policy_args set, for the log.

    Args:
      args: see `read_deltas`.
      reach_zyx: see `read_deltas`.

    Returns:
      One line; '' if none are set, or if they would mean the same in x, y, z.

    Raises:
      UserError: see `read_deltas`.
    """
    deltas = read_deltas(args, reach_zyx)
    if deltas is None or deltas.z == deltas.x:
        return ''
    return f'deltas of movement_policy_args are read as {both_orders(deltas)}'
