"""Policies made of other policies: one of them reversed, or several in sequence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffn.inference.seeds.policy import SeedPolicy, SeedView
from ffn.inference.seeds.registry import make_policy
from ffn.utils.geometry import Position


class ReverseCoords(SeedPolicy):
    """The points of another policy in reverse order."""

    def __init__(self, view: SeedView, policy_to_reverse: str, **kwargs: Any):
        """Makes a policy.

        Args:
          view: the canvas.
          policy_to_reverse: name of the policy.
          **kwargs: its arguments.
        """
        super().__init__(view)
        self._inner = make_policy(view, policy_to_reverse, kwargs)

    def points(self) -> np.ndarray:
        """See base class."""
        return np.asarray(self._inner.points())[::-1]


class SequentialPolicies(SeedPolicy):
    """One policy after the other; each computes its points once the one before is exhausted."""

    def __init__(self, view: SeedView, policies: Sequence[tuple[str, dict[str, Any]]]):
        """Makes a policy.

        Args:
          view: the canvas.
          policies: [name, arguments] of each.
        """
        super().__init__(view)
        if not policies:
            raise ValueError('policies is empty; expected one or more')
        made = [make_policy(view, name, kwargs) for name, kwargs in policies]
        # Sequences within the sequence become part of it, since a state has the points of one.
        nested = [p._policies if type(p) is SequentialPolicies else [p] for p in made]
        self._policies: list[SeedPolicy] = list(itertools.chain.from_iterable(nested))
        self._current = 0

    def points(self) -> np.ndarray:
        """See base class; of all policies at once, for a policy that reverses them."""
        return np.concatenate([np.asarray(p.points()).reshape(-1, 3) for p in self._policies])

    def __next__(self) -> Position:
        while self._current < len(self._policies):
            try:
                return next(self._policies[self._current])
            except StopIteration:
                self._current += 1
        raise StopIteration

    @property
    def total(self) -> int | None:
        """See base class; counts the policies that have started."""
        totals = [p.total for p in self._policies if p.total is not None]
        return sum(totals) if totals else None

    @property
    def index(self) -> int:
        """See base class."""
        return sum(policy.index for policy in self._policies)

    def get_state(self) -> dict[str, Any]:
        """See base class; the states of the policies are joined."""
        states = [policy.get_state() for policy in self._policies]
        started = [s['points'] for s in states if s['points'] is not None]
        return {
            'points': np.concatenate(started) if started else None,
            'index': self._current,
            'parts': np.array(
                [[-1 if s['points'] is None else len(s['points']), s['index']] for s in states]
            ),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """See base class."""
        self._current = int(state['index'])
        first = 0
        for policy, (count, index) in zip(self._policies, state['parts'].tolist(), strict=True):
            points = None if count < 0 else state['points'][first : first + count]
            policy.set_state({'points': points, 'index': index})
            first += max(count, 0)
