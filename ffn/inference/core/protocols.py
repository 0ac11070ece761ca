"""What the canvas needs from outside: a network, and seeds. For movement, see `ffn.inference.core.movement`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from ffn.inference.core.movement import FaceMaxima
from ffn.utils.geometry import Position, Zyx


class Network(Protocol):
    """What the canvas needs of the executor."""

    def predict(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """float32 [z, y, x] image and seed logits → new logits, which must not be written to."""


class DeviceStep(NamedTuple):
    """What is told of a step on a device.

    Attributes:
      maxima: for every box, those of its faces.
      watched: logits at the positions that were asked for, after the step.
      deleted: voxels that it turned from object into background, see `NetworkStep.count_deleted`.
      gained: voxels that it added to the object, see `NetworkStep.count_gained`.
    """

    maxima: Sequence[FaceMaxima]
    watched: Sequence[float]
    deleted: int
    gained: int


class DeviceArea(Protocol):
    """The image and the seed of a canvas on a device; positions and extents are those of the canvas.

    Attributes:
      most_watched: number of positions that a step can tell of.
    """

    most_watched: int

    def begin(self, pos: Position, logit: float) -> None:
        """Clears the seed and sets the starting voxel."""

    def step(self, pos: Position, watched: Sequence[Position]) -> DeviceStep:
        """Makes a step as `NetworkStep` does, and writes it to the seed."""

    def logits(self, positions: Sequence[Position]) -> Sequence[float]:
        """The seed at some positions."""

    def read(self, extent: tuple[slice, slice, slice]) -> np.ndarray:
        """A part of the seed, float32 [z, y, x]."""

    def write(self, seed: np.ndarray) -> None:
        """Replaces the seed, float32 [z, y, x]."""

    def close(self) -> None:
        """Makes room for another canvas."""


class DeviceNetwork(Network, Protocol):
    """A network that can also make whole steps on its device."""

    def open(self, image: np.ndarray, boxes: Sequence[Zyx]) -> DeviceArea:
        """Brings an image there, float32 [z, y, x]; `boxes` are those of the movement policy."""


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
