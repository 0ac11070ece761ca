"""Volumes named by a string: 'path:dataset' for HDF5, and Zarr, N5 and precomputed by URL.

A volume is [z, y, x], or [c, z, y, x] with channels first. Boxes are absolute: a volume may start
elsewhere than at 0,0,0 (Neuroglancer precomputed volumes with a voxel offset do).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
from absl import logging

from ffn.utils.errors import UnreadableError, UserError
from ffn.utils.geometry import Box, Zyx, both_orders
from ffn.volumes import tensorstores

FORM = 'path:dataset (HDF5), or zarr://, zarr3://, n5:// or precomputed:// before a path or URL'

# What `ffn.volumes.stamps` marks a written volume with: an attribute of HDF5, or a file.
MADE_FROM, MADE_FROM_FILE = 'ffn_made_from', 'ffn.json'


class Volume:
    """A volume opened for reading; a context manager.

    Attributes:
      name: what was opened, for messages.
      box: the voxels it covers.
      shape_zyx: its size.
      channels: number of channels of a [c, z, y, x] volume, None for [z, y, x].
      dtype: NumPy dtype of the voxels.
      attrs: attributes stored with the dataset.
    """

    def __init__(self, name: str, array: Any, attrs: Mapping[str, Any], origin_zyx=(0, 0, 0),
                 close=None):  # fmt: skip
        """Wraps `array`, which is indexed [z, y, x] or [c, z, y, x] from 0 and has shape and dtype.

        Raises:
          UserError: the array is neither 3-d nor 4-d.
        """
        if len(array.shape) not in (3, 4):
            raise UserError(
                f'{name} has shape {tuple(array.shape)}; expected 3-d [z, y, x] or 4-d [c, z, y, x]'
            )
        self.name = name
        self.attrs = dict(attrs)
        self.dtype = np.dtype(array.dtype)
        self.channels = int(array.shape[0]) if len(array.shape) == 4 else None
        self.shape_zyx = Zyx.of(array.shape[-3:])
        self.box = Box.from_zyx(origin_zyx, self.shape_zyx)
        self._array = array
        self._close = close
        # Ours begin with what was before the box, and their axes are right.
        if MADE_FROM not in attrs and self.shape_zyx.x < min(self.shape_zyx.z, self.shape_zyx.y):
            logging.warning(
                '%s: x is the shortest axis of shape %s; if it holds sections of an image stack, its '
                'axes are in the wrong order (expected [z, y, x])',
                name, both_orders(self.shape_zyx),
            )  # fmt: skip

    def read(self, box: Box) -> np.ndarray:
        """Reads a box, [z, y, x] or [c, z, y, x].

        Raises:
          UserError: the box leaves the volume.
          UnreadableError: what is there is damaged.
        """
        if not self.box.contains(box):
            raise UserError(f'box {box} is not inside {self.name}, which covers {self.box}')
        index = box.relative_to(self.box.start).slices_zyx
        if self.channels is not None:
            index = (slice(None), *index)
        try:
            return np.asarray(self._array[index])
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UnreadableError(
                f'{self.name} cannot be read, it may be damaged: {reason}'
            ) from error

    def single_channel(self) -> Volume:
        """Returns the volume as [z, y, x].

        Raises:
          UserError: it has several channels.
        """
        if self.channels is None:
            return self
        if self.channels != 1:
            raise UserError(f'{self.name} has {self.channels} channels; expected one, or [z, y, x]')
        return Volume(self.name, _FirstChannel(self._array), self.attrs, self.box.start.zyx,
                      self._close)  # fmt: skip

    def require_labels(self) -> Volume:
        """Returns the volume as [z, y, x], checked to hold integer labels.

        Raises:
          UserError: it holds another type, or has several channels.
        """
        if self.dtype.kind not in 'iub':
            raise UserError(f'{self.name} holds {self.dtype}; labels must be integers')
        return self.single_channel()

    def close(self) -> None:
        """Closes the file; reading is over."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Volume:
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FirstChannel:
    """A [1, z, y, x] array seen as [z, y, x]."""

    def __init__(self, array: Any):
        self.shape, self.dtype, self._array = array.shape[1:], array.dtype, array

    def __getitem__(self, index):
        return self._array[(0, *index)]


def split_spec(spec: str) -> tuple[str, str]:
    """Splits 'path:dataset' at its last colon that is not part of a URL scheme.

    Returns:
      Path and dataset; the dataset is '' where none is given.
    """
    path, colon, dataset = spec.rpartition(':')
    port = (
        re.search(r'://[^/]*$', path) and re.match(r'\d+(/|$)', dataset) and path.count('://') > 1
    )
    if not colon or dataset.startswith('//') or port:
        return spec, ''
    return path, dataset


def absolute_spec(spec: str) -> str:
    """The string of a volume with an absolute path; URLs stay."""
    scheme, mark, path = spec.partition('://')
    if not mark:
        return os.path.abspath(spec)
    return spec if '://' in path else f'{scheme}://{os.path.abspath(path)}'


def split_named(specs: Sequence[str], what: str = 'volumes') -> dict[str, str]:
    """Splits 'name:path:dataset' entries.

    Args:
      specs: the entries.
      what: the flag they come from, for errors.

    Returns:
      {name: 'path:dataset'} in the order given.

    Raises:
      UserError: an entry of another form, or a name given twice.
    """
    named: dict[str, str] = {}
    for spec in specs:
        name, _, rest = spec.partition(':')
        is_url = rest.startswith('//')
        if not name or not rest or is_url or not (split_spec(rest)[1] or '://' in rest
                                                  or Path(rest).is_dir()):  # fmt: skip
            raise UserError(f'{what}: {spec!r} is not of the form name:path:dataset')
        if name in named:
            raise UserError(f'{what}: the name {name!r} is given twice')
        named[name] = rest
    if not named:
        raise UserError(f'{what}: no volume is given; expected name:path:dataset')
    return named


def open_volume(spec: str) -> Volume:
    """Opens a volume for reading, without locking it.

    Args:
      spec: 'path:dataset' of an HDF5 file, a directory that holds Zarr or N5 with an optional
        ':dataset' below it, or a URL (see doc/formats.md).

    Raises:
      UserError: wrong form, no such file or dataset, or an array that is no volume.
    """
    if '://' in spec:
        return _open_tensorstore(spec, tensorstores.spec_of_url(*split_spec(spec)))
    path, dataset = split_spec(spec)
    if path and Path(path).is_dir():
        return _open_tensorstore(spec, tensorstores.spec_of_directory(path, dataset))
    if not path or not dataset:
        raise UserError(f'{spec!r} names no dataset; expected {FORM}')
    return _open_hdf5(spec, path, dataset)


def open_decorated(decorated: Any, what: str) -> Volume:
    """Opens the volume of a DecoratedVolume message.

    Args:
      decorated: the message.
      what: the field it stands in, for errors.

    Raises:
      UserError: no path or an unsupported one is set.
    """
    kind = decorated.WhichOneof('volume_path')
    if decorated.decorator_specs:
        raise UserError(f'{what}.decorator_specs is set but not supported; leave it out')
    if kind == 'hdf5':
        return open_volume(decorated.hdf5)
    if kind == 'tensorstore':
        text = decorated.tensorstore
        return _open_tensorstore(f'{what}.tensorstore', tensorstores.spec_of_json(text, what))
    if kind == 'volinfo':
        raise UserError(f'{what}.volinfo is set but not supported; use hdf5 or tensorstore')
    raise UserError(f'{what} is not set; expected {what} {{ hdf5: "path:dataset" }}')


def _open_tensorstore(name: str, spec: dict[str, Any]) -> Volume:
    array, origin_zyx = tensorstores.open_array(name, spec)
    place = spec.get('kvstore')
    file = isinstance(place, dict) and place.get('driver') == 'file' and place.get('path')
    ours = bool(file) and Path(file, MADE_FROM_FILE).is_file()
    return Volume(name, array, {MADE_FROM: ''} if ours else {}, origin_zyx)


def _open_hdf5(spec: str, path: str, dataset: str) -> Volume:
    file = open_hdf5(path)
    item = file.get(dataset)
    if not isinstance(item, h5py.Dataset):
        there = describe_datasets(file)
        file.close()
        raise UserError(f'{path} holds no dataset {dataset!r}; it holds {there}')
    try:
        return Volume(spec, item, item.attrs, close=file.close)
    except UserError:
        file.close()
        raise


def open_hdf5(path: str) -> h5py.File:
    """Opens an HDF5 file for reading, without locking it.

    Raises:
      UserError: there is none, or it is of another kind or damaged.
    """
    if not Path(path).exists():
        raise UserError(f'no such file: {path}')
    try:
        try:
            return h5py.File(path, 'r', locking=False)
        except OSError as error:
            # HDF5 wants the same locking of everybody who opens a file in one process.
            if 'locking flag' not in str(error):
                raise
            return h5py.File(path, 'r')
    except OSError as error:
        raise UserError(f'{path} is not a readable HDF5 file ({error})') from error


def describe_datasets(file: h5py.File, at_most: int = 20) -> str:
    """Lists the datasets of a file with their shapes, for messages."""
    found: list[str] = []
    file.visititems(
        lambda name, item: (
            found.append(f'{name} {item.shape}') if isinstance(item, h5py.Dataset) else None
        )
    )
    more = f' and {len(found) - at_most} more' if len(found) > at_most else ''
    return ', '.join(itertools.islice(found, at_most)) + more if found else 'no dataset'
