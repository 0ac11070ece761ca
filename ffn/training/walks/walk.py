"""Walks over examples: the field of view moves, and each step sees what earlier steps wrote.

Januszewski et al., arXiv:1611.00421, section on training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

from ffn.models.info import ModelInfo
from ffn.training.config import SOFT_LABELS, WalkConfig
from ffn.training.input.example import Example
from ffn.training.walks.movement import CENTER, make_policy
from ffn.utils.geometry import Position, Xyz
from ffn.utils.logits import logit


class Source(Protocol):
    """Where examples come from."""

    def __next__(self) -> Example:
        """The next example; there is no end."""
        ...

    def load(self, number: int, center: Xyz, volume: str) -> Example:
        """An example that was returned before."""
        ...


class Batch(NamedTuple):
    """What one training step sees; all float32 [b, z, y, x, 1] of the field of view.

    Attributes:
      images: normalized image.
      seeds: logits so far.
      labels: soft labels.
      weights: weight of each voxel in the loss.
    """

    images: np.ndarray
    seeds: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Walk:
    """One example, the canvas over it, and the position of the field of view.

    Attributes:
      example: the example that the field of view walks over.
      canvas: float32 [z, y, x] logits.
      position: of the field of view, z, y, x from the centre.
      reach: how far from the centre it may go, z, y, x.
    """

    def __init__(self, example: Example, info: ModelInfo, config: WalkConfig):
        """Begins in the centre; the order of moves depends on the example alone."""
        self.example = example
        self._fov = info.input_image_size.zyx
        self._threshold = logit(config.threshold)
        self._label_threshold = np.float32(config.threshold)  # NumPy 1 would compare in float64
        shape = example.image.shape
        self._center = tuple(n // 2 for n in shape)
        self.canvas = np.full(shape, logit(config.seed_pad), dtype=np.float32)
        self.canvas[self._center] = logit(SOFT_LABELS[0])
        self._policy = make_policy(config, info, np.random.default_rng(example.walk_seed))
        z, y, x = ((n - f) // 2 for n, f in zip(shape, self._fov, strict=True))
        self.reach: Position = (z, y, x)
        self.position: Position = CENTER

    def _voxel(self, position: Position) -> Position:
        """The voxel of the patch at a position."""
        z, y, x = (c + p for c, p in zip(self._center, position, strict=True))
        return z, y, x

    def is_predicted(self, position: Position) -> bool:
        """Whether the canvas at a position reaches the move threshold."""
        return bool(self.canvas[self._voxel(position)] >= self._threshold)

    def is_in_object(self, position: Position) -> bool:
        """Whether the object is at a position."""
        return bool(self.example.labels[self._voxel(position)] >= self._label_threshold)

    def has_weight(self, position: Position) -> bool:
        """Whether the voxel at a position counts in the loss."""
        return bool(self.example.weights[self._voxel(position)] > 0)

    def any_predicted(self, positions: np.ndarray) -> bool:
        """Whether the canvas reaches the move threshold at any of some positions, int [n, 3]."""
        z, y, x = (positions + self._center).T
        return bool((self.canvas[z, y, x] >= self._threshold).any())

    def field_of_view(self) -> tuple[slice, slice, slice]:
        """The part of the patch that the field of view covers."""
        z, y, x = (
            slice(c + p - f // 2, c + p + f // 2 + 1)
            for c, p, f in zip(self._center, self.position, self._fov, strict=True)
        )
        return z, y, x

    def advance(self, logits: np.ndarray) -> bool:
        """Takes in the logits [z, y, x] of a step and moves; returns False at the end of the walk."""
        self.canvas[self.field_of_view()] = logits
        self._policy.update(logits, self.position)
        position = self._policy.next(self)
        if position is None:
            return False
        self.position = position
        return True

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that is needed to continue, besides the example's image and labels."""
        return {
            'number': np.array(self.example.number, np.int64),
            'center': np.array(self.example.center, np.int64),
            'volume': np.array(self.example.volume),
            'canvas': self.canvas,
            'offset': np.array(self.position, np.int64),
            **self._policy.get_state(),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `get_state` returned."""
        self.canvas[:] = state['canvas']
        z, y, x = state['offset'].tolist()
        self.position = (z, y, x)
        self._policy.set_state(state)


class BatchWalker:
    """Walks over as many examples as there are elements in a batch, each at its own pace."""

    def __init__(self, source: Source, info: ModelInfo, config: WalkConfig, batch_size: int):
        """Makes a walker; the first examples are loaded when they are needed.

        Args:
          source: examples without end.
          info: sizes of the network.
          config: how the field of view moves.
          batch_size: number of walks.
        """
        self._source, self._info, self._config = source, info, config
        self._size = batch_size
        self._walks: list[Walk] = []

    def _new_walk(self) -> Walk:
        return Walk(next(self._source), self._info, self._config)

    def batch(self) -> Batch:
        """What the network sees next."""
        while len(self._walks) < self._size:
            self._walks.append(self._new_walk())
        parts = []
        for walk in self._walks:
            fov, example = walk.field_of_view(), walk.example
            parts.append(
                (example.image[fov], walk.canvas[fov], example.labels[fov], example.weights[fov])
            )
        return Batch(*(np.stack(arrays)[..., np.newaxis] for arrays in zip(*parts, strict=True)))

    def advance(self, logits: np.ndarray) -> list[Walk]:
        """Moves every walk on, and replaces those that end.

        Args:
          logits: float32 [b, z, y, x, 1], the network's output for the last batch.

        Returns:
          The walks that ended.
        """
        ended = []
        for i, walk in enumerate(self._walks):
            if not walk.advance(logits[i, ..., 0]):
                ended.append(walk)
                self._walks[i] = self._new_walk()
        return ended

    def volumes(self) -> list[str]:
        """Names of the volumes in the batch, for messages."""
        return sorted({walk.example.volume for walk in self._walks})

    def clear(self) -> None:
        """Gives up all walks; new ones begin with the next batch."""
        self._walks = []

    def get_state(self) -> dict[str, np.ndarray]:
        """The states of all walks, named 'INDEX/name'."""
        return {
            f'{i}/{name}': array
            for i, walk in enumerate(self._walks)
            for name, array in walk.get_state().items()
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `get_state` returned; loads the examples again.

        Raises:
          KeyError, ValueError: it is of another batch size, policy or patch size.
        """
        walks = []
        for i in range(len({name.partition('/')[0] for name in state})):
            own = {
                name.partition('/')[2]: array
                for name, array in state.items()
                if name.startswith(f'{i}/')
            }
            center = Xyz(*own['center'].tolist())
            example = self._source.load(int(own['number']), center, str(own['volume']))
            walk = Walk(example, self._info, self._config)
            walk.set_state(own)
            walks.append(walk)
        if len(walks) != self._size:
            raise ValueError(f'{len(walks)} examples, not {self._size}')
        self._walks = walks
