"""Moved to `ffn.inference.seeds.policies`; kept for requests and programs that name `ffn.inference.seed`."""

from ffn.inference.seeds.policies import (
    PolicyFillEmptySpace,
    PolicyPeaks,
    PolicyPeaks2d,
    SeedPolicy,
    SeedView,
)

__all__ = ['PolicyFillEmptySpace', 'PolicyPeaks', 'PolicyPeaks2d', 'SeedPolicy', 'SeedView']
