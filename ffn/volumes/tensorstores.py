"""Zarr, N5 and Neuroglancer precomputed volumes through TensorStore, as [z, y, x] arrays.

TensorStore is imported when the first such volume is opened, so that HDF5 users never wait for it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.texts import parse_json
from ffn.volumes.opened_array import MADE_FROM, MADE_FROM_FILE, OpenedArray
from ffn.volumes.specs import split_spec

DRIVERS = {
    'zarr': 'zarr',
    'zarr2': 'zarr',
    'zarr3': 'zarr3',
    'n5': 'n5',
    'precomputed': 'neuroglancer_precomputed',
}
# A server that cannot be reached is an error after seconds, not after TensorStore's half an hour.
_RETRIES = 4
_RETRY_KINDS = ('http_request_retries', 'gcs_request_retries', 's3_request_retries')
_MARKER_FILES = {
    '.zarray': 'zarr',
    'zarr.json': 'zarr3',
    'attributes.json': 'n5',
    'info': 'precomputed',
}


def recognizes(spec: str) -> bool:
    """Whether a string is a URL or names a directory, with an optional ':dataset' below it."""
    path, _ = split_spec(spec)
    return '://' in spec or bool(path and Path(path).is_dir())


def open_array(spec: str) -> OpenedArray:
    """Opens a volume for reading.

    Raises:
      UserError: an unknown scheme, a directory without an array, or an array that cannot be opened.
    """
    return open_store(spec, find_store(spec))


def find_store(spec: str) -> dict[str, Any]:
    """Turns a URL or the path of a directory into a TensorStore spec.

    Raises:
      UserError: an unknown scheme, or a directory without an array.
    """
    path, dataset = split_spec(spec)
    return parse_url(path, dataset) if '://' in spec else detect_directory(path, dataset)


def parse_url(url: str, dataset: str) -> dict[str, Any]:
    """Turns 'zarr://PATH-or-URL' and a dataset below it into a TensorStore spec.

    Raises:
      UserError: unknown scheme.
    """
    scheme, _, rest = url.partition('://')
    if scheme not in DRIVERS:
        known = ', '.join(f'{name}://' for name in DRIVERS)
        raise UserError(f'{url!r}: unknown kind of volume {scheme}://; known are {known}')
    place = rest.rstrip('/') + (f'/{dataset.strip("/")}' if dataset else '')
    kvstore: Any = {'driver': 'file', 'path': os.path.abspath(place)}
    if '://' in place:
        kvstore = place
    return {'driver': DRIVERS[scheme], 'kvstore': kvstore}


def detect_directory(path: str, dataset: str) -> dict[str, Any]:
    """Recognizes the array in a directory by its metadata file; returns its TensorStore spec.

    Raises:
      UserError: there is none.
    """
    place = Path(path, dataset.strip('/')) if dataset else Path(path)
    for marker, scheme in _MARKER_FILES.items():
        if (place / marker).exists() and not _is_group(place / marker):
            return parse_url(f'{scheme}://{place}', '')
    inside = (
        sorted(child.name for child in place.iterdir() if child.is_dir()) if place.is_dir() else []
    )
    holds = f'; below it are {", ".join(inside[:20])}' if inside else ''
    raise UserError(
        f'{place} holds no Zarr, N5 or precomputed array (none of {", ".join(_MARKER_FILES)}){holds}'
    )


def _is_group(marker: Path) -> bool:
    """Whether a metadata file describes a group, and not an array."""
    try:
        metadata = json.loads(marker.read_text(encoding='utf-8'))
        return metadata.get('node_type') == 'group' or (
            marker.name == 'attributes.json' and 'dimensions' not in metadata
        )
    except (ValueError, AttributeError):
        return False  # TensorStore says what is wrong.


def parse_spec(text: str, what: str) -> dict[str, Any]:
    """Parses a TensorStore spec given as JSON.

    Raises:
      UserError: not JSON, a key twice, or no object with a driver.
    """
    spec = parse_json(text, f'{what}.tensorstore')
    if not isinstance(spec, dict) or 'driver' not in spec:
        raise UserError(f'{what}.tensorstore must be a JSON object with a "driver"')
    return spec


class _StoreArray:
    """A TensorStore as an array that is indexed from 0 and read when it is indexed."""

    def __init__(self, store: Any):
        self.shape = tuple(store.shape)
        self.dtype = np.dtype(store.dtype.numpy_dtype)
        self._store = store

    def __getitem__(self, index: Any) -> np.ndarray:
        data: np.ndarray = self._store[index].read().result()
        return data


def context() -> Any:
    """Makes a TensorStore context that gives up on servers that do not answer within seconds."""
    import tensorstore as ts

    return ts.Context({kind: {'max_retries': _RETRIES} for kind in _RETRY_KINDS})


def open_store(name: str, spec: dict[str, Any]) -> OpenedArray:
    """Opens a TensorStore spec for reading, with axes transposed to [z, y, x] or [c, z, y, x].

    Dimension names decide (x, y, z, c or channel). Without names, Zarr keeps its order and N5, whose
    metadata lists the fastest dimension first, is reversed. The channel axis of a precomputed volume with
    one channel is dropped.

    Args:
      name: what errors call it.
      spec: TensorStore spec.

    Raises:
      UserError: it cannot be opened.
    """
    import tensorstore as ts

    try:
        store = ts.open(spec, context=context(), open=True, read=True, write=False).result()
    except (ValueError, OSError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].partition(' [tensorstore_spec')[0]
        raise UserError(f'{name} cannot be opened: {reason}') from error
    store = store[_zyx_order(store, spec['driver'])]
    if store.rank == 4 and store.shape[0] == 1:
        store = store[store.domain.origin[0]]
    origin_zyx = tuple(int(o) for o in store.domain.origin[-3:])
    array = _StoreArray(store[ts.d[:].translate_to[0]])
    return OpenedArray(array, {MADE_FROM: ''} if _is_ours(spec) else {}, origin_zyx)


def _is_ours(spec: dict[str, Any]) -> bool:
    """Whether an array on this machine was written here."""
    match spec.get('kvstore'):
        case {'driver': 'file', 'path': str(folder)} if folder:
            return Path(folder, MADE_FROM_FILE).is_file()
    return False


def _zyx_order(store: Any, driver: str) -> Any:
    import tensorstore as ts

    labels = [label.lower() for label in store.domain.labels]
    if {'x', 'y', 'z'} <= set(labels):
        order = [labels.index(axis) for axis in 'zyx']
        rest = [i for i in range(store.rank) if i not in order]
        return ts.d[rest + order].transpose[:]
    if driver == 'n5':
        return ts.d[list(reversed(range(store.rank)))].transpose[:]
    return ts.d[:].transpose[:]
