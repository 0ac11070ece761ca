"""Volumes opened for reading, whatever format they are stored in.

A volume is [z, y, x], or [c, z, y, x] with channels first. Boxes are absolute: a volume may start
elsewhere than at 0,0,0 (Neuroglancer precomputed volumes with a voxel offset do).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from ffn.utils import trust
from ffn.utils.arrays import native
from ffn.utils.errors import UnreadableError, UserError, reason
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.volumes import formats, tensorstores
from ffn.volumes.missing import OnMissing
from ffn.volumes.opened_array import MADE_FROM, OpenedArray, VoxelArray
from ffn.volumes.resampled import Means, Repeated
from ffn.volumes.specs import split_channel
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.unlabelled import Unlabelled

if TYPE_CHECKING:
    from ffn.inference import inference_pb2


class Volume:
    """A volume opened for reading; a context manager.

    Attributes:
      name: what messages call it.
      box: the voxels it covers.
      shape_zyx: its size.
      channels: number of channels of a [c, z, y, x] volume, None for [z, y, x].
      dtype: NumPy dtype of the voxels as `read` returns them, in native byte order.
      attrs: attributes stored with the dataset.
      voxel_size: of a voxel, None where the volume does not say.
      origin_from: what says where it begins; '' where nothing does, and 0,0,0 is assumed.
      unlabelled: of labels, which voxels have none: `read` returns them as 0. None: read as stored.
    """

    def __init__(
        self,
        name: str,
        array: VoxelArray,
        attrs: Mapping[str, Any],
        origin_zyx: Sequence[int] = (0, 0, 0),
        close: Callable[[], None] | None = None,
        voxel_size: KnownVoxelSize | None = None,
        origin_from: str = '',
    ):
        """Wraps an array.

        Args:
          name: what messages call it.
          array: [z, y, x] or [c, z, y, x], indexed from 0.
          attrs: attributes stored with it.
          origin_zyx: index of its first voxel.
          close: closes the file, if there is one.
          voxel_size: see the attribute.
          origin_from: see the attribute.

        Raises:
          UserError: the array is neither 3-d nor 4-d, or holds no voxels.
        """
        if len(array.shape) not in (3, 4):
            raise UserError(
                f'{name} has shape {tuple(array.shape)}; expected 3-d [z, y, x] or 4-d [c, z, y, x]'
            )
        if 0 in array.shape:
            raise UserError(f'{name} has shape {tuple(array.shape)}: it holds no voxels')
        self.name = name
        self.attrs = dict(attrs)
        self.dtype = np.dtype(array.dtype).newbyteorder('=')
        self.channels = int(array.shape[0]) if len(array.shape) == 4 else None
        self.shape_zyx = Zyx.of(array.shape[-3:])
        self.box = Box.from_zyx(origin_zyx, self.shape_zyx)
        self.voxel_size = voxel_size
        self.origin_from = origin_from
        self.unlabelled: Unlabelled | None = None
        self._clears = False
        self._array = array
        self._close = close
        # Volumes written here may begin with empty space before the box, and their axes are right.
        if MADE_FROM not in attrs and self.shape_zyx.x < min(self.shape_zyx.z, self.shape_zyx.y):
            logging.warning(
                '%s: x is the shortest axis of shape %s; if it holds sections of an image stack, its '
                'axes are in the wrong order (expected [z, y, x])',
                name,
                both_orders(self.shape_zyx),
            )

    def read(self, box: Box) -> np.ndarray:
        """Reads a box, [z, y, x] or [c, z, y, x], in native byte order.

        Raises:
          UserError: the box is not inside the volume.
          UnreadableError: the stored data is damaged.
        """
        if not self.box.contains(box):
            raise UserError(f'box {box} is not inside {self.name}, which covers {self.box}')
        index: tuple[slice, ...] = box.relative_to(self.box.start).slices_zyx
        if self.channels is not None:
            index = (slice(None), *index)
        try:
            data = native(np.asarray(self._array[index]))
        except (UserError, MemoryError):
            raise
        except Exception as error:  # libraries raise any for a damaged chunk
            raise UnreadableError(
                f'{self.name} cannot be read, it may be damaged: {reason(error)}'
            ) from error
        return self.unlabelled.clear(data) if self._clears and self.unlabelled else data

    def single_channel(self) -> Volume:
        """Returns the volume as [z, y, x].

        Raises:
          UserError: it has several channels.
        """
        if self.channels is None:
            return self
        if self.channels != 1:
            raise UserError(
                f'{self.name} has {self.channels} channels; expected one: add #0 to '
                f'#{self.channels - 1} to its name to choose'
            )
        return self.choose_channel(0)

    def choose_channel(self, channel: int) -> Volume:
        """Returns one channel of the volume as [z, y, x].

        Args:
          channel: its number, from 0; a volume [z, y, x] has one.

        Raises:
          UserError: there is no such channel.
        """
        if not 0 <= channel < (self.channels or 1):
            raise UserError(
                f'{self.name} has {self.channels or 1} channels; channel {channel} is asked for'
            )
        if self.channels is None:
            return self
        return Volume(
            self.name,
            _OneChannel(self._array, channel),
            self.attrs,
            self.box.start.zyx,
            self._close,
            self.voxel_size,
            self.origin_from,
        )

    def require_labels(self, unlabelled: int | None = None) -> Volume:
        """Returns the volume as [z, y, x], checked to hold integer labels; what is not labelled reads as 0.

        Args:
          unlabelled: a label that means 'not labelled', besides those that always do.

        Raises:
          UserError: it holds another type, or has several channels.
        """
        if self.dtype.kind not in 'iub':
            raise UserError(f'{self.name} holds {self.dtype}; labels must be integers')
        volume, rule = self.single_channel(), self.label_rule(unlabelled)
        if rule.is_needed:
            volume = copy.copy(volume)
            volume.unlabelled, volume._clears = rule, True
        return volume

    def with_voxel_size(self, size: KnownVoxelSize) -> Volume:
        """Returns the volume with a voxel size in place of the one that it states, if it states one."""
        volume = copy.copy(self)
        volume.voxel_size = size
        return volume

    def as_stored(self) -> Volume:
        """Returns the volume as [z, y, x], whose labels, if it has labels, are read as they are stored.

        Raises:
          UserError: it has several channels.
        """
        volume = copy.copy(self.single_channel())
        volume.unlabelled, volume._clears = None, False
        return volume

    def label_rule(self, unlabelled: int | None = None) -> Unlabelled:
        """Which of its labels mean 'not labelled'; see `require_labels`."""
        return Unlabelled(self.name, self.dtype, self.attrs, unlabelled)

    def resample(self, kind: type[Means] | type[Repeated], factors: Xyz) -> Volume:
        """Returns the volume as [z, y, x] at another resolution; it is closed with that one.

        Args:
          kind: `Means` for an image that is read coarser, `Repeated` for labels that are read finer.
          factors: x, y, z voxels that become one, or that one becomes.

        Raises:
          UserError: it has several channels, or fewer voxels than become one.
        """
        given = self.single_channel()
        array, size = kind(given.read, given.box, given.dtype, factors), given.voxel_size
        if size is not None:
            x, y, z = (n * f for n, f in zip(size.xyz, array.scale, strict=True))
            size = KnownVoxelSize((x, y, z), size.source)
        return Volume(
            self.name, array, self.attrs, array.box.start.zyx, self._close, size, self.origin_from
        )

    def close(self) -> None:
        """Closes the file."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Volume:
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _OneChannel:
    """One channel of a [c, z, y, x] array, as [z, y, x]."""

    def __init__(self, array: VoxelArray, channel: int):
        self.shape, self.dtype = array.shape[1:], array.dtype
        self._array, self._channel = array, channel

    def __getitem__(self, index: tuple[slice, ...]) -> Any:
        return self._array[(slice(self._channel, self._channel + 1), *index)][0]


def open_volume(spec: str, missing: OnMissing = 'tell') -> Volume:
    """Opens a volume for reading, without locking it.

    Args:
      spec: 'path:dataset' of an HDF5 file, a directory that holds Zarr or N5 with an optional
        ':dataset' below it, or a URL (see doc/formats.md); '#N' at its end chooses a channel.
      missing: what is done about chunks that do not exist.

    Raises:
      UserError: wrong form, no such file or dataset, or an array that is no volume.
    """
    stored, channel = split_channel(spec)
    volume = _as_volume(spec, formats.open_array(stored), missing)
    if channel is None:
        return volume
    try:
        return volume.choose_channel(channel)
    except UserError:
        volume.close()
        raise


@dataclass(frozen=True)
class VolumeSource:
    """A volume as a request names it; one of the first two is set.

    Attributes:
      spec: string that `open_volume` takes.
      tensorstore: TensorStore spec, JSON.
      downsample: x, y, z voxels of an image that are read as one, their mean; None: it is read as it is.
      upsample: x, y, z voxels that each voxel of labels is read as; None: one.
      field: the field of the request, for messages.
      missing: what is done about chunks that do not exist; no part of the volume's identity.
    """

    spec: str = ''
    tensorstore: str = ''
    downsample: Xyz | None = None
    upsample: Xyz | None = None
    field: str = 'volume'
    missing: OnMissing = dataclasses.field(default='tell', compare=False)

    @classmethod
    def from_proto(cls, decorated: inference_pb2.DecoratedVolume, field: str) -> VolumeSource:
        """Reads a DecoratedVolume.

        Raises:
          UserError: no path or an unsupported one is set, or one on another machine that is not trusted; see
            `ffn.utils.trust`.
        """
        if decorated.decorator_specs:
            raise UserError(f'{field}.decorator_specs is set but not supported; leave it out')
        kind = decorated.WhichOneof('volume_path')
        place = getattr(decorated, kind) if kind else ''
        if tensorstores.is_remote(place) and not trust.current().allows_remote(place):
            raise UserError(
                f'{field} of the request is or may be on another machine, {place}, which is not opened because a request '
                'says so; name it on the command line as well, or give --allow_remote if you trust it'
            )
        coarser, finer = (_factors(decorated, name, field) for name in ('downsample', 'upsample'))
        if coarser and field != 'image':
            raise UserError(
                f'{field} sets downsample, which averages voxels and so suits images only; make a coarser volume with '
                'ffn import-labels --downsample'
            )
        if coarser and finer:
            raise UserError(f'{field} sets both downsample and upsample; expected one of them')
        if kind == 'hdf5':
            return cls(decorated.hdf5, '', coarser, finer, field)
        if kind == 'tensorstore':
            return cls('', decorated.tensorstore, coarser, finer, field)
        if kind == 'volinfo':
            raise UserError(f'{field}.volinfo is set but not supported; use hdf5 or tensorstore')
        raise UserError(f'{field} is not set; expected {field} {{ hdf5: "path:dataset" }}')

    @property
    def name(self) -> str:
        """What messages call the volume."""
        return f'{self.field}.tensorstore' if self.tensorstore else self.spec

    def refusing_missing(self) -> VolumeSource:
        """The same, with an error where chunks do not exist."""
        return dataclasses.replace(self, missing='error')

    def open(self) -> Volume:
        """Opens the volume for reading, without locking it.

        Raises:
          UserError: see `open_volume`; also a TensorStore spec that is not JSON.
        """
        volume = self._open()
        try:
            if self.downsample is not None:
                return volume.resample(Means, self.downsample)
            return volume if self.upsample is None else volume.resample(Repeated, self.upsample)
        except UserError:
            volume.close()
            raise

    def _open(self) -> Volume:
        if not self.tensorstore:
            return open_volume(self.spec, self.missing)
        store = tensorstores.parse_spec(self.tensorstore, self.field)
        return _as_volume(self.name, tensorstores.open_store(self.name, store), self.missing)


def _factors(decorated: inference_pb2.DecoratedVolume, name: str, field: str) -> Xyz | None:
    if not decorated.HasField(name):
        return None
    factors = Xyz.from_proto(getattr(decorated, name))
    if min(factors) < 1:
        raise UserError(f'{field}.{name} is {factors}; expected 1 or more along each axis')
    return factors


def _as_volume(name: str, opened: OpenedArray, missing: OnMissing) -> Volume:
    if opened.missing is not None:
        opened.missing.set_action(missing)
    try:
        return Volume(
            name,
            opened.array,
            opened.attrs,
            opened.origin_zyx,
            opened.close,
            opened.voxel_size,
            opened.origin_from,
        )
    except UserError:
        if opened.close is not None:
            opened.close()
        raise


def check_place(
    labels: Volume, volume: Volume, where: str = '', what: str = 'the image covers'
) -> None:
    """Checks that labels lie on a volume: they may be of a part of it, but only where they say of which.

    Args:
      labels: the labels.
      volume: what they belong to.
      where: begins the message, such as 'volume a: '.
      what: the volume and a verb, for the message.

    Raises:
      UserError: they do not.
    """
    is_placed = labels.origin_from and volume.box.contains(labels.box)
    if volume.box != labels.box and not is_placed:
        raise UserError(
            f'{where}{what} {volume.box}, its labels cover {labels.box}; they must be equal, or the labels lie '
            'inside and say where (an offset, see doc/formats.md)'
        )
