"""Chunks of Zarr, N5 and precomputed volumes: where they are on disk, and which do not exist.

A chunk that does not exist is read as the fill value, by convention: writers omit chunks that hold nothing else.
It may also be one that was lost, or has not been copied. So chunks that are missing are counted and told, and a
volume without any is refused.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.texts import parse_object
from ffn.volumes.missing import MissingChunks, tell_once

_METADATA = ('.zarray', '.zattrs', '.zgroup', 'zarr.json', 'attributes.json', 'info', 'ffn.json')
_PRECOMPUTED = 'neuroglancer_precomputed'
_LARGEST_CHUNK = 2**30
_COMPRESSED = {'.gz': 'gunzip -r', '.br': 'brotli -d --rm'}


def chunk_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of TensorStore with which the chunks of a volume are found.

    Zarr 2 arrays with nested chunk files may not say so in their metadata (zarr-python before 2.8).
    """
    if spec['driver'] not in ('zarr', 'zarr3', 'n5', _PRECOMPUTED):
        return {}
    options: dict[str, Any] = {'fill_missing_data_reads': False}
    folder = _local_folder(spec)
    if spec['driver'] == 'zarr' and folder is not None and 'metadata' not in spec:
        marker = folder / '.zarray'
        metadata = parse_object(marker.read_bytes(), str(marker)) if marker.is_file() else {}
        shape = metadata.get('shape')
        several = isinstance(shape, list) and len(shape) > 1
        if several and 'dimension_separator' not in metadata and _is_nested(folder):
            options['metadata'] = {'dimension_separator': '/'}
    return options


def _is_nested(folder: Path) -> bool:
    """Whether the first chunk that is found lies in folders, 0/0/0, and not beside the others, 0.0.0."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.isdecimal() and entry.is_dir():
                return True
            if entry.name.replace('.', '').isdecimal() and entry.is_file():
                return False
    return False


def _local_folder(spec: Mapping[str, Any]) -> Path | None:
    match spec.get('kvstore'):
        case {'driver': 'file', 'path': str(folder)} if folder:
            return Path(folder)
    return None


def check_chunk_size(
    chunk: Sequence[int], shape: Sequence[int], dtype: np.dtype, what: str
) -> None:
    """Refuses chunks that no memory holds: to read one voxel, all of its chunk is read.

    Args:
      chunk: shape of a chunk.
      shape: of the volume.
      dtype: of both.
      what: the volume, for messages.

    Raises:
      UserError: a chunk is larger than 1 GiB, and than the volume.
    """
    size, whole = (math.prod(sides) * dtype.itemsize for sides in (chunk, shape))
    if size > max(whole, _LARGEST_CHUNK):
        raise UserError(
            f'{what} declares chunks of shape {tuple(chunk)}, {size:,} bytes, although its own is '
            f'{tuple(shape)}; is its metadata damaged?'
        )


def check_chunks(
    store: Any, spec: Mapping[str, Any], what: str, may_be_empty: bool = False
) -> None:
    """Checks that a volume on this machine has chunks at all.

    Args:
      store: the opened store.
      spec: what it was opened with.
      what: the volume, for messages.
      may_be_empty: it is finished, and its writer leaves out what is empty; without chunks, there is a warning, once.

    Raises:
      UserError: it has none although it must, or only compressed ones that TensorStore does not find.
    """
    folder = _local_folder(spec)
    if folder is None or not store.size:
        return
    if spec['driver'] == _PRECOMPUTED:
        folder = folder / store.spec().to_json()['scale_metadata']['key']
    first = next(_chunk_files(folder), None)
    if first is None and may_be_empty:
        tell_once(
            what, f'none of its chunks exist in {folder}: it is 0 everywhere, or has lost them'
        )
        return
    if first is None:
        raise UserError(
            f'{what}: none of its chunks exist in {folder}; was it copied or written completely?'
        )
    ending = os.path.splitext(first)[1]
    if spec['driver'] == _PRECOMPUTED and ending in _COMPRESSED:
        raise UserError(
            f'{what}: its chunks are compressed files, such as {first}, which only web servers can serve as '
            f'they are; unpack them first: {_COMPRESSED[ending]} {folder}'
        )


def _chunk_files(folder: Path) -> Iterator[str]:
    """Names of files below a folder that are no metadata, as they are found: there may be millions."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _chunk_files(Path(entry.path))
            elif entry.name not in _METADATA and not entry.is_dir():
                yield entry.name


class StoreArray:
    """A TensorStore as an array that is indexed from 0 and read when it is indexed."""

    def __init__(self, store: Any, missing: MissingChunks):
        """Wraps a store that refuses to read chunks that do not exist.

        Args:
          store: its domain begins at 0.
          missing: is told of chunks that do not exist.
        """
        self.shape = tuple(store.shape)
        self.dtype = np.dtype(store.dtype.numpy_dtype)
        self._store, self._missing = store, missing

    def __getitem__(self, index: Any) -> np.ndarray:
        try:
            data: np.ndarray = self._store[index].read().result()
            return data
        except ValueError as error:
            if not _is_missing(error):
                raise
        return self._read_chunks(index)

    def _read_chunks(self, index: Any) -> np.ndarray:
        """Reads a part chunk by chunk; those that do not exist become the fill value."""
        part = self._store[index]
        fill = self._store.fill_value
        data = np.full(part.shape, 0 if fill is None else fill, self.dtype)
        pieces = list(_pieces(part))
        reads = [part[piece].read() for piece in pieces]
        missing = 0
        origin = part.domain.origin
        for piece, read in zip(pieces, reads, strict=True):
            try:
                values = read.result()
            except ValueError as error:
                if not _is_missing(error):
                    raise
                missing += 1
                continue
            place = tuple(
                slice(p.start - o, p.stop - o) for p, o in zip(piece, origin, strict=True)
            )
            data[place] = values
        self._missing.report(missing, len(pieces), data.dtype.type(0 if fill is None else fill))
        return data


def _is_missing(error: ValueError) -> bool:
    text = str(error)
    return text.startswith('NOT_FOUND') and 'is missing' in text


def _pieces(part: Any) -> Iterator[tuple[slice, ...]]:
    """The parts of a store that lie in one chunk each."""
    layout = part.chunk_layout
    axes = []
    for first, stop, chunk, origin in zip(
        part.domain.inclusive_min,
        part.domain.exclusive_max,
        layout.read_chunk.shape,
        layout.grid_origin,
        strict=True,
    ):
        size = chunk or stop - first
        begin = (first - origin) // size * size + origin
        axes.append([slice(max(a, first), min(a + size, stop)) for a in range(begin, stop, size)])
    yield from itertools.product(*axes)
