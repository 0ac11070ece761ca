"""What the canvas needs from outside: a network, and seeds. For movement, see `ffn.inference.core.movement`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ffn.utils.geometry import Position


class Network(Protocol):
    """What the canvas needs of the executor."""

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """float32 [z, y, x] image and seed logits → new logits, which must not be written to."""


class Seeds(Protocol):
    """What the canvas needs of a seed policy; see `ffn.inference.seeds.policy.SeedPolicy`."""

    def __next__(self) -> Position:
        """Returns the next seed, z, y, x, or raises StopIteration."""

    @property
    def total(self) -> int | None:
        """Number of seeds, None until they are known."""

    @property
    def index(self) -> int:
        """Number of seeds returned so far."""

    def get_state(self) -> dict[str, Any]:
        """Returns the state as arrays and plain numbers, for a checkpoint."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores what `get_state` returned."""
