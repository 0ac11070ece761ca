"""Steps of several canvases whose image and seed are on the device of the network, in batches."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ffn.inference.core.counters import Calls, Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.core.protocols import DeviceStep
from ffn.inference.core.step import DELETED_FROM
from ffn.inference.executor import Client, Executor, Predict
from ffn.utils import moves
from ffn.utils.geometry import Position, Zyx

if TYPE_CHECKING:
    from ffn.models.device_steps import DeviceSteps
    from ffn.models.model import FFNModel

# Positions are asked for in multiples of this, since what asks is compiled for every number.
_ASKED = 64


class DeviceExecutor(Executor):
    """Makes whole steps on the device, for canvases that have their image and seed there, and others as well."""

    def __init__(self, predict: Predict, steps: DeviceSteps, batch_size: int = 1):
        """Makes an executor.

        Args:
          predict: see `Executor`.
          steps: makes steps of canvases that are on the device.
          batch_size: greatest number of steps that are made together.
        """
        super().__init__(predict, batch_size)
        self.steps = steps

    def client(self, counters: Counters) -> DeviceClient:
        """Makes the network that a canvas is given; see `Executor.client`."""
        return DeviceClient(self, counters)

    def _compute(self, requests: list[Any]) -> Sequence[np.ndarray]:
        rows = [request for request in requests if isinstance(request, np.ndarray)]
        if not rows:
            return super()._compute(requests)
        told = iter(self.steps.run(np.stack(rows)))
        others = [request for request in requests if not isinstance(request, np.ndarray)]
        predicted = iter(super()._compute(others) if others else ())
        return [next(told if isinstance(r, np.ndarray) else predicted) for r in requests]


class DeviceClient(Client):
    """The network as one canvas sees it; see `ffn.inference.core.protocols.DeviceNetwork`."""

    def __init__(self, executor: DeviceExecutor, counters: Counters):
        super().__init__(executor, counters)
        self._device = executor

    def open(self, image: np.ndarray, boxes: Sequence[Zyx]) -> Area:
        """Brings an image to the device."""
        return Area(self._device, self._calls, image, boxes)


class Area:
    """The image and the seed of a canvas; see `ffn.inference.core.protocols.DeviceArea`."""

    def __init__(
        self,
        executor: DeviceExecutor,
        calls: Calls,
        image: np.ndarray,
        boxes: Sequence[Zyx],
    ):
        """Brings an image to the device, float32 [z, y, x]; see `DeviceSteps.open`."""
        from ffn.models.device_steps import WATCHED

        self.most_watched = WATCHED
        self._executor, self._calls, self._steps = executor, calls, executor.steps
        info = self._steps.model.info
        self._margin = [n // 2 for n in info.input_image_size.zyx]
        self._slot = self._steps.open(image, boxes)
        # Also where nobody closes it.
        self._close = weakref.finalize(self, self._steps.close, self._slot)
        predicted = info.pred_mask_size.zyx
        self._offsets = [
            [[moves.offset_of(voxel, predicted) for voxel in face] for face in faces.tolist()]
            for faces in self._steps.faces
        ]

    def begin(self, pos: Position, logit: float) -> None:
        """Clears the seed and sets the starting voxel."""
        self._steps.begin(self._slot, pos, logit)

    def step(self, pos: Position, watched: Sequence[Position]) -> DeviceStep:
        """Makes a step, and tells of it."""
        row = np.zeros(4 + 3 * self.most_watched, np.int32)
        row[0], row[1:4] = self._slot, np.subtract(pos, self._margin)
        row[4 : 4 + 3 * len(watched)] = [n for position in watched for n in position]
        told = self._executor.ask(row, self._calls)
        values = iter(told[self.most_watched :].tolist())
        maxima = [list(_maxima(values, faces)) for faces in self._offsets]
        deleted, gained = map(int, values)
        return DeviceStep(maxima, told[: len(watched)].tolist(), deleted, gained)

    def logits(self, positions: Sequence[Position]) -> Sequence[float]:
        """The seed at some positions."""
        places = np.zeros((-(-len(positions) // _ASKED) * _ASKED, 3), np.int32)
        places[: len(positions)] = positions
        return self._steps.logits(self._slot, places)[: len(positions)].tolist()

    def read(self, extent: tuple[slice, slice, slice]) -> np.ndarray:
        """A part of the seed, float32 [z, y, x]."""
        return self._steps.read(self._slot, extent)

    def write(self, seed: np.ndarray) -> None:
        """Replaces the seed, float32 [z, y, x]."""
        self._steps.write(self._slot, seed)

    def close(self) -> None:
        """Makes room for another canvas."""
        self._close()


def _maxima(
    values: Iterator[float], faces: list[list[moves.Offset]]
) -> Iterator[tuple[float, moves.Offset]]:
    """The maxima of the faces of a box: their logits come first, then where they are."""
    logits = [next(values) for _ in faces]
    for logit, face in zip(logits, faces, strict=True):
        yield logit, face[int(next(values))]


def make_steps(
    model: FFNModel, options: CanvasOptions, slots: int, tf32: bool = False
) -> DeviceSteps:
    """Makes steps for the active Keras backend, JAX or PyTorch.

    Args:
      model: the network; its weights are those that it has when a canvas is opened.
      options: of the canvases.
      slots: number of canvases that there is room for at first.
      tf32: see `ffn.models.predictor.make_predictor`.

    Raises:
      ValueError: another backend.
    """
    from ffn.models.device_steps import StepRules
    from ffn.models.precision import backend

    rules = StepRules(
        pad_value=options.pad_value,
        move_threshold=options.move_threshold,
        segment_threshold=options.segment_threshold,
        deleted_from=DELETED_FROM,
        disco_seed_threshold=options.disco_seed_threshold,
    )
    if backend() == 'jax':
        from ffn.models.device_steps_jax import JaxSteps

        return JaxSteps(model, rules, slots, tf32)
    if backend() == 'torch':
        from ffn.models.device_steps_torch import TorchSteps

        return TorchSteps(model, rules, slots, tf32)
    raise ValueError(f'steps are not made on the device with {backend()}')
