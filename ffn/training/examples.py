"""Walks over examples: the field of view moves, and each step sees what the last ones wrote.

Januszewski et al., arXiv:1611.00421, section on training.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ffn.training.config import SOFT_LABELS, WalkConfig
from ffn.training.inputs import Example
from ffn.training.model import ModelInfo
from ffn.utils import moves
from ffn.utils.logits import logit

Offset = tuple[int, int, int]


class Batch(NamedTuple):
    """What one training step sees; all float32 [b, z, y, x, 1] of the field of view.

    Attributes:
      images: normalised image.
      seeds: logits so far.
      labels: soft labels.
      weights: of each voxel in the loss.
    """

    images: np.ndarray
    seeds: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


class Walk:
    """One example, the canvas over it, and where the field of view goes.

    Attributes:
      example: what is walked over.
      canvas: float32 [z, y, x] logits.
      offset: from the centre, z, y, x: where the field of view is.
    """

    def __init__(
        self, example: Example, info: ModelInfo, config: WalkConfig, rng: np.random.Generator
    ):
        self.example = example
        self._fov = info.input_image_size.zyx
        self._deltas = info.deltas.zyx
        self._config = config
        self._threshold = logit(config.threshold)
        self._rng = rng
        shape = example.image.shape
        self._center = tuple(n // 2 for n in shape)
        self.canvas = np.full(shape, logit(config.seed_pad), dtype=np.float32)
        self.canvas[self._center] = logit(SOFT_LABELS[0])
        policies = {
            'fixed': self._fixed,
            'max_pred_moves': self._max_pred,
            'no_step': lambda: iter([(0, 0, 0)]),
        }
        self._offsets = policies[config.fov_policy]()
        self._last_logits: np.ndarray | None = None
        self.offset: Offset = next(self._offsets)

    def _at(self, offset: Offset) -> Offset:
        z, y, x = (c + o for c, o in zip(self._center, offset, strict=True))
        return z, y, x

    def is_valid(self, offset: Offset) -> bool:
        """Whether the canvas allows to move there."""
        return bool(self.canvas[self._at(offset)] >= self._threshold)

    def is_wanted(self, offset: Offset) -> bool:
        """Whether the object is there."""
        return bool(self.example.labels[self._at(offset)] >= self._config.threshold)

    def _fixed(self) -> Iterator[Offset]:
        yield 0, 0, 0
        neighbours = fixed_offsets(self._deltas)
        if self._config.shuffle_moves:
            self._rng.shuffle(neighbours)
        for offset in map(tuple, neighbours):
            if self.is_valid(offset):
                yield offset

    def _max_pred(self) -> Iterator[Offset]:
        reach = [(n - f) // 2 for n, f in zip(self.canvas.shape, self._fov, strict=True)]
        queue: collections.deque[Offset] = collections.deque([(0, 0, 0)])
        done: set[Offset] = set()
        while queue:
            offset = queue.popleft()
            cell = moves.quantize(offset, self._deltas)
            at_center = offset == (0, 0, 0)
            if cell in done or not (
                at_center or (self.is_valid(offset) and self.is_wanted(offset))
            ):
                continue
            done.add(cell)
            yield offset
            for _, step in moves.face_maxima(self._last_logits, self._deltas, self._threshold):
                target = tuple(o + s for o, s in zip(offset, step, strict=True))
                if all(abs(t) <= r for t, r in zip(target, reach, strict=True)):
                    queue.append(target)

    def field_of_view(self) -> tuple[slice, slice, slice]:
        """The part of the patch that the field of view covers."""
        z, y, x = (
            slice(c + o - f // 2, c + o + f // 2 + 1)
            for c, o, f in zip(self._center, self.offset, self._fov, strict=True)
        )
        return z, y, x

    def advance(self, logits: np.ndarray) -> bool:
        """Takes in a step's logits [z, y, x] and moves; returns False when there is nowhere to go."""
        self.canvas[self.field_of_view()] = logits
        self._last_logits = logits
        offset = next(self._offsets, None)
        if offset is None:
            return False
        self.offset = offset
        return True


def fixed_offsets(deltas_zyx: tuple[int, int, int]) -> list[Offset]:
    """The neighbours of the centre at ±delta: 26, fewer where a delta is 0; without the centre."""
    steps = ((-d, 0, d) if d else (0,) for d in deltas_zyx)
    return [offset for offset in itertools.product(*steps) if any(offset)]


class BatchWalker:
    """Walks over as many examples as there are elements in a batch, each at its own pace."""

    def __init__(
        self,
        source: Iterator[Example],
        info: ModelInfo,
        config: WalkConfig,
        batch_size: int,
        rng: np.random.Generator,
    ):
        """Loads the first examples.

        Args:
          source: examples without end.
          info: sizes of the network.
          config: how to move.
          batch_size: number of walks.
          rng: shuffles the moves.
        """
        self._source, self._info, self._config, self._rng = source, info, config, rng
        self._walks = [self._new_walk() for _ in range(batch_size)]

    def _new_walk(self) -> Walk:
        return Walk(next(self._source), self._info, self._config, self._rng)

    def batch(self) -> Batch:
        """What the network sees next."""
        parts = []
        for walk in self._walks:
            fov, example = walk.field_of_view(), walk.example
            parts.append((example.image[fov], walk.canvas[fov], example.labels[fov],
                          example.weights[fov]))  # fmt: skip
        return Batch(*(np.stack(arrays)[..., np.newaxis] for arrays in zip(*parts, strict=True)))

    def advance(self, logits: np.ndarray) -> list[Walk]:
        """Moves every walk on; those that end are replaced.

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
