"""Boolean masks: of another volume, of the image, or of coordinates."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.rounding import typed
from ffn.volumes import expression
from ffn.volumes.provenance import open_complete
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.volume import Volume, VolumeSource

if TYPE_CHECKING:
    from ffn.inference import inference_pb2


@dataclass(frozen=True)
class ChannelCondition:
    """Selects voxels of one channel: those with one of `values`, or those within a range.

    Attributes:
      channel: index of the channel.
      values: values to select; empty to select by range.
      min_value: least value; None for no limit.
      max_value: greatest value; None for no limit.
      invert: select the other voxels instead.
    """

    channel: int = 0
    values: tuple[int, ...] = ()
    min_value: float | None = None
    max_value: float | None = None
    invert: bool = False

    @classmethod
    def from_proto(cls, config: inference_pb2.MaskChannelConfig) -> ChannelCondition:
        """Reads a MaskChannelConfig.

        Raises:
          UserError: both values and a range, or a range that is none.
        """
        for name in ('min_value', 'max_value'):
            if math.isnan(getattr(config, name)):
                raise UserError(
                    f'{name} of channel {config.channel} of a mask is nan; expected a number'
                )
            if config.values and config.HasField(name):
                raise UserError(
                    f'channel {config.channel} of a mask has both values and {name}; expected one of them: a channel may '
                    'be listed twice to select what either holds for'
                )
        has_range = config.HasField('min_value') and config.HasField('max_value')
        if has_range and config.min_value > config.max_value:
            raise UserError(
                f'min_value {config.min_value:g} of channel {config.channel} of a mask is greater than its max_value '
                f'{config.max_value:g}, so that no voxel is selected'
            )
        return cls(
            config.channel,
            tuple(config.values),
            config.min_value if config.HasField('min_value') else None,
            config.max_value if config.HasField('max_value') else None,
            config.invert,
        )

    def apply(self, data: np.ndarray, name: str) -> np.ndarray:
        """Selects voxels.

        Args:
          data: [c, z, y, x].
          name: what messages call the data.

        Returns:
          bool [z, y, x].

        Raises:
          UserError: there is no such channel, or neither values nor a range.
        """
        if not 0 <= self.channel < data.shape[0]:
            raise UserError(f'{name}: channel {self.channel} of {data.shape[0]} does not exist')
        voxels = data[self.channel]
        if self.values:
            selected = np.isin(voxels, _representable(self.values, voxels.dtype))
        elif self.min_value is not None or self.max_value is not None:
            selected = np.ones(voxels.shape, dtype=bool)
            if self.min_value is not None:
                selected &= voxels >= _rounded(self.min_value, math.ceil, voxels.dtype)
            if self.max_value is not None:
                selected &= voxels <= _rounded(self.max_value, math.floor, voxels.dtype)
        else:
            raise UserError(f'{name}: channel {self.channel} has neither values nor a range')
        return selected ^ self.invert


@dataclass(frozen=True)
class CoordinateMask:
    """A mask computed from voxel positions.

    Attributes:
      expression: of the absolute voxel indices x, y and z; see `ffn.volumes.expression`.
    """

    expression: str


@dataclass(frozen=True)
class ImageMask:
    """A mask made from the image itself: where any of the conditions holds."""

    channels: tuple[ChannelCondition, ...]


@dataclass(frozen=True)
class VolumeMask:
    """A mask made from another volume of the same extent: where any of the conditions holds."""

    volume: VolumeSource
    channels: tuple[ChannelCondition, ...]


@dataclass(frozen=True)
class Mask:
    """One mask.

    Attributes:
      source: what it is made from.
      invert: whether it holds where the source's conditions do not.
      text: the MaskConfig that it was read from, in text format, for records.
    """

    source: CoordinateMask | ImageMask | VolumeMask
    invert: bool = False
    text: str = field(default='', repr=False, compare=False)

    @classmethod
    def from_proto(cls, config: inference_pb2.MaskConfig) -> Mask:
        """Reads a MaskConfig.

        Raises:
          UserError: it has no source, or the source's volume is not set or not supported.
        """
        kind = config.WhichOneof('source')
        source: CoordinateMask | ImageMask | VolumeMask
        if kind == 'coordinate_expression':
            source = CoordinateMask(config.coordinate_expression.expression)
        elif kind == 'image':
            source = ImageMask(tuple(map(ChannelCondition.from_proto, config.image.channels)))
        elif kind == 'volume':
            source = VolumeMask(
                VolumeSource.from_proto(config.volume.mask, 'mask'),
                tuple(map(ChannelCondition.from_proto, config.volume.channels)),
            )
        else:
            raise UserError('a mask has no source; set volume, image or coordinate_expression')
        return cls(source, config.invert, str(config))

    def refusing_missing(self) -> Mask:
        """The same, with an error where chunks of its volume do not exist."""
        if not isinstance(self.source, VolumeMask):
            return self
        source = dataclasses.replace(self.source, volume=self.source.volume.refusing_missing())
        return dataclasses.replace(self, source=source)


class MaskBuilder(contextlib.ExitStack):
    """Builds masks; keeps the volumes that they are made from open until it is closed.

    Threads may share one.
    """

    def __init__(self, voxel_size: KnownVoxelSize | None = None) -> None:
        """Makes a builder.

        Args:
          voxel_size: of what is masked; masks made from volumes of another one are told.
        """
        super().__init__()
        self._known = [] if voxel_size is None else [voxel_size]
        self._volumes: dict[VolumeSource, Volume] = {}
        self._opening = threading.Lock()

    def build(
        self,
        masks: Iterable[Mask],
        box: Box,
        image: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Computes where any of the masks holds.

        Args:
          masks: they are combined by OR.
          box: voxels to compute, in absolute coordinates.
          image: [z, y, x] or [c, z, y, x] image of that box, for masks made from the image.

        Returns:
          bool [z, y, x] of the box, or None when there are no masks.

        Raises:
          UserError: a mask that is incomplete, or a volume that is not written to its end or does not cover the box.
        """
        joined: np.ndarray | None = None
        for mask in masks:
            built = self._build_source(mask.source, box, image) ^ mask.invert
            joined = built if joined is None else joined | built
        return joined

    def _build_source(
        self, source: CoordinateMask | ImageMask | VolumeMask, box: Box, image: np.ndarray | None
    ) -> np.ndarray:
        if isinstance(source, CoordinateMask):
            return coordinate_mask(source.expression, box)
        if isinstance(source, ImageMask):
            if image is None:
                raise UserError('a mask made from the image is given where there is no image')
            return _select(source.channels, image, 'image mask')
        volume = self._open(source.volume)
        return _select(source.channels, volume.read(box), f'mask {volume.name}')

    def _open(self, source: VolumeSource) -> Volume:
        with self._opening:
            if source not in self._volumes:
                opened = self._volumes[source] = self.enter_context(open_complete(source))
                if opened.voxel_size is not None:
                    size = opened.voxel_size.of(f'mask {opened.name}')
                    agreed_voxel_size([*self._known, size])
            return self._volumes[source]


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


def _rounded(limit: float, rounding: Callable[[float], int], dtype: np.dtype) -> float:
    """Rounds the limit of integer voxels to an integer, as ids must not be compared as floats.

    That of 64-bit floats is within, whether they hold it as it was typed, or in the 32 bits of a request.
    """
    if dtype.kind in 'iu' and math.isfinite(limit):
        return rounding(limit)
    if dtype != np.float64:
        return limit
    return (min if rounding is math.ceil else max)(limit, typed(limit))


def _representable(values: Iterable[int], dtype: np.dtype) -> np.ndarray:
    """The values that a type can hold, in that type; no voxel has one of the others."""
    wanted = np.array(list(values), dtype=np.uint64)
    with np.errstate(all='ignore'):
        cast = wanted.astype(dtype)
        return cast[(cast >= 0) & (cast.astype(np.uint64) == wanted)]


def _select(channels: Sequence[ChannelCondition], data: np.ndarray, name: str) -> np.ndarray:
    """Where any of the channel conditions holds, bool [z, y, x]."""
    if not channels:
        raise UserError(f'{name} selects no channel; expected channels {{ channel: 0 ... }}')
    data = data[np.newaxis] if data.ndim == 3 else data
    mask = np.zeros(data.shape[1:], dtype=bool)
    for condition in channels:
        mask |= condition.apply(data, name)
    return mask
