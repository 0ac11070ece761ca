"""Moved to `ffn.inference.seeds`; kept for requests and programs that name `ffn.inference.seed`."""

from ffn.inference.seeds.combined import ReverseCoords, SequentialPolicies
from ffn.inference.seeds.earlier_run import PolicyInvertOrigins
from ffn.inference.seeds.grids import PolicyGrid2d, PolicyGrid3d
from ffn.inference.seeds.intensity import (
    PolicyDenseSeeds,
    PolicyImagePeaks2DDisk,
    PolicyImagePeaks3D2D,
    PolicyMax,
    PolicyMaxPeaks,
)
from ffn.inference.seeds.peaks import PolicyFillEmptySpace, PolicyPeaks, PolicyPeaks2d
from ffn.inference.seeds.policy import SeedPolicy, SeedView

__all__ = [
    'PolicyDenseSeeds',
    'PolicyFillEmptySpace',
    'PolicyGrid2d',
    'PolicyGrid3d',
    'PolicyImagePeaks2DDisk',
    'PolicyImagePeaks3D2D',
    'PolicyInvertOrigins',
    'PolicyMax',
    'PolicyMaxPeaks',
    'PolicyPeaks',
    'PolicyPeaks2d',
    'ReverseCoords',
    'SeedPolicy',
    'SeedView',
    'SequentialPolicies',
]
