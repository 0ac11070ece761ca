"""Finds the seed policy that a request names. A new policy of ours gets a line in the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffn.inference.seeds.policy import SeedPolicy, SeedView
from ffn.utils.errors import UserError
from ffn.utils.plugins import json_args, load_class

# Name in a request → module of this package; imported when it is asked for.
POLICIES = {
    'PolicyPeaks': 'peaks',
    'PolicyPeaks2d': 'peaks',
    'PolicyFillEmptySpace': 'peaks',
    'PolicyMax': 'intensity',
    'PolicyMaxPeaks': 'intensity',
    'PolicyImagePeaks3D2D': 'intensity',
    'PolicyImagePeaks2DDisk': 'intensity',
    'PolicyDenseSeeds': 'intensity',
    'PolicyGrid3d': 'grids',
    'PolicyGrid2d': 'grids',
    'PolicyInvertOrigins': 'earlier_run',
    'ReverseCoords': 'combined',
    'SequentialPolicies': 'combined',
}


def make_policy(view: SeedView, name: str, args: str | Mapping[str, Any]) -> SeedPolicy:
    """Makes the seed policy that a request names.

    Args:
      view: the canvas.
      name: seed_policy, one of POLICIES or 'package.module.Class'.
      args: seed_policy_args, as JSON or parsed.

    Raises:
      UserError: unknown policy, or arguments that it does not take.
    """
    kwargs = json_args(args, 'seed_policy_args')
    cls = policy_class(name)
    try:
        policy: SeedPolicy = cls(view, **kwargs)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'seed_policy_args {args!r} do not fit {name}: {error}') from error
    return policy


def policy_class(name: str) -> type[SeedPolicy]:
    """Finds the class of a seed policy.

    Raises:
      UserError: there is none of this name.
    """
    if name not in POLICIES and '.' not in name:
        raise UserError(
            f'seed_policy {name!r} does not exist; known are {", ".join(POLICIES)}, or '
            'package.module.Class'
        )
    package = f'{__package__}.{POLICIES[name]}' if name in POLICIES else ''
    return load_class(name, package, SeedPolicy, 'seed_policy', lambda: POLICIES)
