"""A network small enough to be written and read many times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from ffn.models.model import FFNModel, create_model
from ffn.utils.errors import UserError

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


def check_equal(model: FFNModel, other: FFNModel) -> None:
    """Checks that two networks have the same weights."""
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, values(other)[name])


@contextlib.contextmanager
def refused(*words: str) -> Iterator[None]:
    """Expects one line that has these words."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message, (word, message)
