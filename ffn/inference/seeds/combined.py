"""Seeds of earlier runs, policies made of policies, and finding a policy by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffn.inference import storage
from ffn.inference.core.movement import json_args, load_class
from ffn.inference.seeds import grids, intensity, policies
from ffn.inference.seeds.policies import SeedPolicy, SeedView
from ffn.utils.errors import UserError


class PolicyInvertOrigins(SeedPolicy):
    """The seeds of an earlier run of the same subvolume, by falling segment id.

    Segmenting once in each order and splitting where the two disagree removes mergers
    (Januszewski et al. 2018, Methods: oversegmentation consensus).
    """

    def __init__(self, view: SeedView, segmentation_dir: str):
        """Makes a policy.

        Args:
          view: the canvas.
          segmentation_dir: folder of the earlier run.
        """
        super().__init__(view)
        self._directory = segmentation_dir

    def points(self) -> np.ndarray:
        """See base class."""
        origins = storage.load_origins(self._directory, self.view.corner_zyx)
        starts = [origins[i].start_zyx for i in sorted(origins, reverse=True)]
        return np.array(starts, dtype=np.int32).reshape(-1, 3)


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
    """One policy after the other; each computes its points when the one before is exhausted."""

    def __init__(self, view: SeedView, policies: Sequence[tuple[str, dict[str, Any]]]):
        """Makes a policy.

        Args:
          view: the canvas.
          policies: [name, arguments] of each.
        """
        super().__init__(view)
        self._policies = [make_policy(view, name, kwargs) for name, kwargs in policies]
        self._current = 0

    def points(self) -> np.ndarray:
        """See base class; of all policies at once, for those who reverse them."""
        return np.concatenate([np.asarray(p.points()).reshape(-1, 3) for p in self._policies])

    def __next__(self) -> policies.Position:
        while self._current < len(self._policies):
            try:
                return next(self._policies[self._current])
            except StopIteration:
                self._current += 1
        raise StopIteration

    @property
    def total(self) -> int | None:
        """See base class; counts the policies begun so far."""
        totals = [p.total for p in self._policies if p.total is not None]
        return sum(totals) if totals else None

    @property
    def index(self) -> int:
        """See base class."""
        return sum(policy.index for policy in self._policies)

    def get_state(self) -> dict[str, Any]:
        """See base class; the parts' states are joined."""
        states = [policy.get_state() for policy in self._policies]
        begun = [s['points'] for s in states if s['points'] is not None]
        return {
            'points': np.concatenate(begun) if begun else None,
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


POLICIES: dict[str, type[SeedPolicy]] = {
    cls.__name__: cls
    for cls in (
        policies.PolicyPeaks,
        policies.PolicyPeaks2d,
        policies.PolicyFillEmptySpace,
        intensity.PolicyMax,
        intensity.PolicyMaxPeaks,
        intensity.PolicyImagePeaks3D2D,
        intensity.PolicyImagePeaks2DDisk,
        intensity.PolicyDenseSeeds,
        grids.PolicyGrid3d,
        grids.PolicyGrid2d,
        PolicyInvertOrigins,
        ReverseCoords,
        SequentialPolicies,
    )
}


def make_policy(view: SeedView, name: str, args: str | dict[str, Any]) -> SeedPolicy:
    """Makes the seed policy that a request names.

    Args:
      view: the canvas.
      name: seed_policy, one of POLICIES or 'package.module.Class'.
      args: seed_policy_args, JSON or already parsed.

    Raises:
      UserError: unknown policy, or arguments that it does not take.
    """
    kwargs = json_args(args, 'seed_policy_args') if isinstance(args, str) else args
    cls = POLICIES.get(name)
    if cls is None:
        if '.' not in name:
            raise UserError(
                f'seed_policy {name!r} does not exist; known are {", ".join(POLICIES)}, or '
                'package.module.Class'
            )
        cls = load_class(name, '', 'seed_policy', list(POLICIES))
    try:
        return cls(view, **kwargs)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'seed_policy_args {args!r} do not fit {name}: {error}') from error
