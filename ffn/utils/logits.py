"""Probabilities as logits: what the network adds to, and what the canvas holds."""

from __future__ import annotations

import math


def logit(probability: float) -> float:
    """log(p / (1 - p)), for 0 < p < 1.

    `scipy.special.logit` rounds differently in the last bit (0.6 is an example); stored results depend on
    these thresholds, so the formula stays as it is.
    """
    return math.log(probability / (1 - probability))
