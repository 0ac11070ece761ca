"""Probabilities as logits: what the network adds to, and what the canvas holds."""

from __future__ import annotations

import math

import numpy as np


def logit(probability: float) -> float:
    """log(p / (1 - p)), for 0 < p < 1, rounded to a number that float32 holds.

    It is compared with float32: with arrays and, one voxel at a time, with scalars, which NumPy 1 compares in
    float64. Of a number that float32 holds, every comparison says the same.

    `scipy.special.logit` rounds differently in the last bit (0.6 is an example); stored results depend on
    these thresholds, so the formula stays as it is.
    """
    return float(np.float32(math.log(probability / (1 - probability))))
