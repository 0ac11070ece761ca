"""Steps on the device with JAX: one compiled call, which changes the seeds in place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ffn.models.device_steps import WATCHED, DeviceSteps, Extent, StepRules
from ffn.models.model import FFNModel
from ffn.utils.geometry import Zyx

# A seed is read in blocks of one size, since JAX compiles for every size.
_BLOCK = 64


class JaxSteps(DeviceSteps):
    """See base class. The seeds are donated to every call that changes them, and replaced by its result."""

    def __init__(self, model: FFNModel, rules: StepRules, slots: int, tf32: bool):
        """See base class; `tf32`: see `ffn.models.predictor.make_predictor`."""
        super().__init__(model, rules, slots)
        self._images: Any = jnp.zeros((slots, 0, 0, 0), jnp.float32)
        self._seeds: Any = self._images
        self._variables = model.trainable_variables, model.non_trainable_variables
        self._weights: Any = None
        self._precision = 'tensorfloat32' if tf32 else 'float32'
        self._whole = jax.jit(self._whole_step, donate_argnums=2)

    def _whole_step(self, weights: Any, images: Any, seeds: Any, rows: Any) -> tuple[Any, Any]:
        """The seeds after the steps, and what is told of these; see `run`."""

        def network(image: Any, seed: Any) -> Any:
            with jax.default_matmul_precision(self._precision):
                return self.model.stateless_call(*weights, (image, seed), training=False)[0]

        info = self.model.info
        cut = jax.vmap(lambda pool, row: _cut(pool, row, info.input_image_size.zyx), (None, 0))
        logits, told = self._step(network, cut(images, rows[:, :4]), cut(seeds, rows[:, :4]))
        first = rows[:, :4] + jnp.array([0, *info.edge.zyx], jnp.int32)
        # Backwards, so that the first row is the last to be written; it may be there more than once.
        for i in reversed(range(len(rows))):
            seeds = jax.lax.dynamic_update_slice(seeds, logits[i][None], tuple(first[i]))
        positions = rows[:, 4:].reshape(-1, WATCHED, 3)
        watched = seeds[rows[:, :1], positions[..., 0], positions[..., 1], positions[..., 2]]
        return seeds, jnp.concatenate([watched, *told], axis=1)

    def _resize(self, slots: int, shape: Zyx) -> None:
        self._images, self._seeds = (
            _enlarged(pool, (slots, *shape)) for pool in (self._images, self._seeds)
        )

    def _put_image(self, slot: int, image: np.ndarray) -> None:
        self._images = _replaced(self._images, image, slot)
        self._weights = tuple([variable.value for variable in group] for group in self._variables)

    def _put_seed(self, slot: int, seed: np.ndarray) -> None:
        self._seeds = _replaced(self._seeds, seed, slot)

    def _begin(self, place: np.ndarray, logit: float) -> None:
        self._seeds = _begun(self._seeds, place, logit)

    def _run(self, rows: np.ndarray, size: int) -> Any:
        self._seeds, told = self._whole(self._weights, self._images, self._seeds, rows)
        return told

    def _logits(self, slot: int, positions: np.ndarray) -> Any:
        return _at(self._seeds, slot, positions)

    def _read(self, slot: int, extent: Extent) -> Callable[[], np.ndarray]:
        size = tuple(min(_BLOCK, n) for n in self._shape)
        starts = itertools.product(
            *(range(s.start, s.stop, n) for s, n in zip(extent, size, strict=True))
        )
        # The last ones reach back, so that they end where the slot does.
        firsts = [
            tuple(min(a, n - m) for a, n, m in zip(start, self._shape, size, strict=True))
            for start in starts
        ]
        blocks = [_cut(self._seeds, np.array([slot, *first], np.int32), size) for first in firsts]

        def collect() -> np.ndarray:
            found = np.empty([s.stop - s.start for s in extent], np.float32)
            for first, block in zip(firsts, blocks, strict=True):
                lower = [max(s.start - a, 0) for s, a in zip(extent, first, strict=True)]
                upper = [min(s.stop - a, n) for s, a, n in zip(extent, first, size, strict=True)]
                into = tuple(
                    slice(a + low - s.start, a + up - s.start)
                    for a, low, up, s in zip(first, lower, upper, extent, strict=True)
                )
                found[into] = np.asarray(block)[tuple(map(slice, lower, upper))]
            return found

        return collect

    def _fetched(self, array: Any) -> np.ndarray:
        return np.asarray(array)


def _jit(**options: Any) -> Callable[[Callable], Callable]:
    return lambda function: jax.jit(function, **options)


@_jit(static_argnums=2)
def _cut(pool: Any, row: Any, size: tuple[int, int, int]) -> Any:
    """A part of a slot; row: int32 [4], slot and first voxel."""
    return jax.lax.dynamic_slice(pool, tuple(row), (1, *size))[0]


@_jit(static_argnums=1)
def _enlarged(pool: Any, shape: tuple[int, ...]) -> Any:
    return jnp.pad(pool, [(0, n - m) for n, m in zip(shape, pool.shape, strict=True)])


@_jit(donate_argnums=0)
def _replaced(pool: Any, array: Any, slot: Any) -> Any:
    return pool.at[slot].set(array)


@_jit(donate_argnums=0)
def _begun(seeds: Any, place: Any, logit: Any) -> Any:
    return seeds.at[place[0]].set(jnp.nan).at[tuple(place)].set(logit)


@jax.jit
def _at(seeds: Any, slot: Any, positions: Any) -> Any:
    return seeds[slot, positions[:, 0], positions[:, 1], positions[:, 2]]
