"""Steps on the device with PyTorch: fields of view are cut out and written with indices, in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ffn.models.device_steps import WATCHED, DeviceSteps, Extent, StepRules
from ffn.models.model import FFNModel
from ffn.utils.geometry import Zyx


class TorchSteps(DeviceSteps):
    """See base class. On a GPU, the network and what a step makes of its logits are compiled together."""

    def __init__(self, model: FFNModel, rules: StepRules, slots: int, tf32: bool):
        """See base class; `tf32`: see `ffn.models.predictor.make_predictor`."""
        super().__init__(model, rules, slots)
        on_gpu = torch.cuda.is_available()
        self._device = torch.device('cuda' if on_gpu else 'cpu')
        self._images = self._seeds = torch.zeros((slots, 0, 0, 0), device=self._device)
        self._compiled: Callable = self._told
        if on_gpu:
            torch.backends.cudnn.allow_tf32 = tf32
            # What its compiler cannot do runs as it is.
            torch._dynamo.config.suppress_errors = True
            self._compiled = torch.compile(self._told)

    def _told(self, image: Any, seed: Any) -> tuple[Any, Any]:
        """Logits, and what is told of them in one array."""

        def network(image: Any, seed: Any) -> Any:
            return self.model((image, seed), training=False)

        logits, told = self._step(network, image, seed)
        return logits, torch.cat(told, dim=1)

    def _on_device(self, array: np.ndarray) -> Any:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def _resize(self, slots: int, shape: Zyx) -> None:
        self._images, self._seeds = (
            self._enlarged(pool, (slots, *shape)) for pool in (self._images, self._seeds)
        )
        z, y, x = shape
        # Of slot, z, y and x in the flat array of all slots.
        self._strides = z * y * x, y * x, x, 1
        self._field, self._part = (
            self._indices(tuple(self._on_device(np.indices(size))))
            for size in (self.model.info.input_image_size.zyx, self._predicted)
        )

    def _enlarged(self, pool: Any, shape: tuple[int, ...]) -> Any:
        larger = torch.zeros(shape, device=self._device)
        larger[tuple(map(slice, pool.shape))] = pool
        return larger

    def _indices(self, places: Sequence[Any]) -> Any:
        """Flat indices of places: z, y, x in a slot, with the slot before them or without."""
        return sum(n * p for n, p in zip(self._strides[-len(places) :], places, strict=True))

    def _put_image(self, slot: int, image: np.ndarray) -> None:
        self._images[slot] = self._on_device(image)

    def _put_seed(self, slot: int, seed: np.ndarray) -> None:
        self._seeds[slot] = self._on_device(seed)

    def _begin(self, place: np.ndarray, logit: float) -> None:
        slot, z, y, x = place.tolist()
        self._seeds[slot] = torch.nan
        self._seeds[slot, z, y, x] = logit

    def _run(self, rows: np.ndarray, size: int) -> Any:
        with torch.inference_mode():
            places = self._on_device(rows).to(torch.int64)
            first = self._indices(tuple(places[:, :4].T))[:, None, None, None]
            images, seeds = self._images.view(-1), self._seeds.view(-1)
            field = first + self._field
            logits, told = self._compiled(images[field], seeds[field])
            part = first + self._indices(self.model.info.edge.zyx) + self._part
            seeds[part[:size]] = logits[:size]
            watched = self._indices(tuple(places[:, 4:].reshape(-1, WATCHED, 3).permute(2, 0, 1)))
            found = seeds[self._strides[0] * places[:, :1] + watched]
            return torch.cat([found, told], dim=1)

    def _logits(self, slot: int, positions: np.ndarray) -> Any:
        z, y, x = self._on_device(positions).to(torch.int64).T
        return self._seeds[slot, z, y, x]

    def _read(self, slot: int, extent: Extent) -> Callable[[], np.ndarray]:
        part = self._seeds[(slot, *extent)].clone()
        return lambda: self._fetched(part)

    def _fetched(self, array: Any) -> np.ndarray:
        return array.cpu().numpy()
