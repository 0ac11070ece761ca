"""A network small enough to be written and read many times."""

from __future__ import annotations

import numpy as np

from ffn.models.model import FFNModel, create_model

NAME = 'convstack_3d.ConvStack3DFFNModel'
ARGS = {'fov_size': [9, 7, 5], 'deltas': [2, 2, 1], 'depth': 2, 'features': 3}


def make(seed: int = 0, **args) -> FFNModel:
    """The network, or one that differs in some arguments, with weights drawn from a seed."""
    model = create_model(NAME, {**ARGS, **args})
    model.initialize(np.random.default_rng(seed))
    return model


def values(model: FFNModel) -> dict[str, np.ndarray]:
    """All weights, by the names that checkpoints have for them."""
    return {name: np.asarray(variable) for name, variable in model.named_variables().items()}
