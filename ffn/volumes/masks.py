"""Boolean masks from MaskConfig messages: of another volume, of the image, or of coordinates."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.volumes import expression
from ffn.volumes.volume import Volume, open_decorated


class MaskBuilder(contextlib.ExitStack):
    """Builds masks; keeps the volumes they are made from open until it is closed.

    Threads may share one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._volumes: dict[bytes, Volume] = {}
        self._opening = threading.Lock()

    def build(
        self, configs: Iterable[Any], box: Box, image: np.ndarray | None = None
    ) -> np.ndarray | None:
        """Computes where any of the masks holds.

        Args:
          configs: MaskConfig messages, OR-ed.
          box: voxels to compute, in absolute coordinates.
          image: [z, y, x] or [c, z, y, x] image of that box, for masks made from the image.

        Returns:
          bool [z, y, x] of the box, or None when there are no masks.

        Raises:
          UserError: a mask that is incomplete, or a volume that does not cover the box.
        """
        mask = None
        for config in configs:
            one = self._build_one(config, box, image) ^ config.invert
            mask = one if mask is None else mask | one
        return mask

    def _build_one(self, config: Any, box: Box, image: np.ndarray | None) -> np.ndarray:
        source = config.WhichOneof('source')
        if source == 'coordinate_expression':
            return coordinate_mask(config.coordinate_expression.expression, box)
        if source == 'image':
            if image is None:
                raise UserError('a mask made from the image is given where there is no image')
            return _select(config.image.channels, image, 'image mask')
        if source == 'volume':
            volume = self._volume(config.volume.mask)
            return _select(config.volume.channels, volume.read(box), f'mask {volume.name}')
        raise UserError('a mask has no source; set volume, image or coordinate_expression')

    def _volume(self, decorated: Any) -> Volume:
        key = decorated.SerializeToString()
        with self._opening:
            if key not in self._volumes:
                self._volumes[key] = self.enter_context(open_decorated(decorated, 'mask'))
            return self._volumes[key]


def coordinate_mask(text: str, box: Box) -> np.ndarray:
    """Evaluates an expression in the absolute voxel indices x, y, z over a box.

    Returns:
      bool [z, y, x].

    Raises:
      UserError: see `ffn.volumes.expression`.
    """
    ranges = (
        np.arange(start, start + size)
        for start, size in zip(box.start.zyx, box.size.zyx, strict=True)
    )
    z, y, x = np.meshgrid(*ranges, indexing='ij', sparse=True)
    value = expression.evaluate(text, {'x': x, 'y': y, 'z': z})
    return np.broadcast_to(np.asarray(value) != 0, box.size.zyx).copy()


def _held(values: Iterable[int], dtype: np.dtype) -> np.ndarray:
    """Those of the values that a type can hold, in that type; no voxel has one of the others."""
    values = np.array(list(values), dtype=np.uint64)
    with np.errstate(all='ignore'):
        cast = values.astype(dtype)
        return cast[(cast >= 0) & (cast.astype(np.uint64) == values)]


def _select(channels: Iterable[Any], data: np.ndarray, what: str) -> np.ndarray:
    """Where any of the channel conditions holds, bool [z, y, x]."""
    data = data[np.newaxis] if data.ndim == 3 else data
    mask = np.zeros(data.shape[1:], dtype=bool)
    channels = list(channels)
    if not channels:
        raise UserError(f'{what} selects no channel; expected channels {{ channel: 0 ... }}')
    for config in channels:
        if not 0 <= config.channel < data.shape[0]:
            raise UserError(f'{what}: channel {config.channel} of {data.shape[0]} does not exist')
        voxels = data[config.channel]
        if len(config.values):
            selected = np.isin(voxels, _held(config.values, voxels.dtype))
        elif config.HasField('min_value') or config.HasField('max_value'):
            selected = np.ones(voxels.shape, dtype=bool)
            if config.HasField('min_value'):
                selected &= voxels >= config.min_value
            if config.HasField('max_value'):
                selected &= voxels <= config.max_value
        else:
            raise UserError(f'{what}: channel {config.channel} has neither values nor a range')
        mask |= selected ^ config.invert
    return mask
