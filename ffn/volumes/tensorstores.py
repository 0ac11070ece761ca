"""Zarr, N5 and Neuroglancer precomputed volumes through TensorStore, as [z, y, x] arrays.

TensorStore is imported when the first such volume is opened, so that HDF5 users never wait for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffn.utils.errors import UserError, damage_told
from ffn.utils.geometry import Box
from ffn.utils.texts import parse_json, parse_object
from ffn.volumes.chunks import StoreArray, check_chunk_size, check_chunks, chunk_options
from ffn.volumes.missing import MissingChunks
from ffn.volumes.opened_array import FILL_VALUE, MADE_FROM, OpenedArray
from ffn.volumes.scales import Folder, choose_scale, find_scales
from ffn.volumes.servers import context
from ffn.volumes.specs import is_zip, split_scale, split_spec
from ffn.volumes.stamps import is_sparse, read_local_stamp
from ffn.volumes.tensorstore_metadata import describe_store

DRIVERS = {
    'zarr': 'zarr',
    'zarr2': 'zarr',
    'zarr3': 'zarr3',
    'n5': 'n5',
    'precomputed': 'neuroglancer_precomputed',
}
# Drivers of TensorStore whose arrays may be in groups of scales.
_GROUPED = 'zarr', 'zarr3', 'n5'
# Drivers of TensorStore, and schemes, that read files of this machine, or what another driver reads.
_LOCAL = frozenset(
    [
        'file',
        'memory',
        'zip',
        'ocdbt',
        'array',
        'auto',
        'cast',
        'downsample',
        'stack',
        'zarr',
        'zarr3',
        'n5',
        'neuroglancer_precomputed',
        'neuroglancer_uint64_sharded',
        'zarr3_sharding_indexed',
        'kvstack',
        'avif',
        'bmp',
        'jpeg',
        'png',
        'tiff',
        'webp',
        'json',
        'wkw',
    ]
)
_MARKER_FILES = {
    '.zarray': 'zarr',
    'zarr.json': 'zarr3',
    'attributes.json': 'n5',
    'info': 'precomputed',
}


def recognizes(spec: str) -> bool:
    """Whether a string is a URL or names a directory or a zip file, with an optional ':dataset' or '@scale'."""
    path, _ = split_spec(split_scale(spec)[0])
    return '://' in spec or bool(path and (Path(path).is_dir() or is_zip(path)))


def open_array(spec: str) -> OpenedArray:
    """Opens a volume for reading.

    Raises:
      UserError: an unknown scheme, a directory without an array, or an array that cannot be opened.
    """
    return open_store(spec, find_store(spec))


def find_store(spec: str) -> dict[str, Any]:
    """Turns a URL or the path of a directory into a TensorStore spec.

    Raises:
      UserError: an unknown scheme, a directory without an array, or a scale that does not exist.
    """
    place, scale = split_scale(spec)
    path, dataset = split_spec(place)
    store = parse_url(path, dataset) if '://' in spec else detect_directory(path, dataset)
    return choose_in_store(store, scale, spec)


def choose_in_store(store: dict[str, Any], scale: str, what: str) -> dict[str, Any]:
    """Chooses the array of a store that holds several scales; the finest unless one is named.

    Args:
      store: TensorStore spec of an array or a group.
      scale: name, number from 0, or for precomputed voxel size x×y×z, such as 16x16x40.
      what: the volume, for messages.

    Raises:
      UserError: no such scale.
    """
    if store['driver'] == 'neuroglancer_precomputed':
        return store | _precomputed_scale(scale) if scale else store
    folder = Folder(store['kvstore'])
    if not folder.is_array(store['driver']):
        array = choose_scale(folder, store['driver'], scale, what)
        if array is not None:
            return {**store, 'kvstore': array.kvstore}
    if scale:
        raise UserError(f'{what}: scale {scale} of what is no group of scales')
    return store


def _precomputed_scale(scale: str) -> dict[str, Any]:
    if scale.isdigit():
        return {'scale_index': int(scale)}
    try:
        resolution = [float(n) for n in scale.split('x')]
        if len(resolution) == 3:
            return {'scale_metadata': {'resolution': resolution}}
    except ValueError:
        pass
    return {'scale_metadata': {'key': scale}}


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
    elif is_zip(rest.rstrip('/')):
        archive = {'driver': 'file', 'path': os.path.abspath(rest.rstrip('/'))}
        kvstore = {'driver': 'zip', 'base': archive, 'path': dataset.strip('/')}
    return {'driver': DRIVERS[scheme], 'kvstore': kvstore}


def detect_directory(path: str, dataset: str) -> dict[str, Any]:
    """Recognizes the array in a directory by its metadata file; returns its TensorStore spec.

    Raises:
      UserError: there is none.
    """
    if is_zip(path):
        return _detect_in_zip(path, dataset)
    place = Path(path, dataset.strip('/')) if dataset else Path(path)
    if not place.exists():
        raise UserError(f'no such folder: {place}{describe_scales(place.parent)}')
    for marker, scheme in _MARKER_FILES.items():
        file = place / marker
        if file.exists() and not _is_group(marker, parse_object(file.read_bytes(), str(file))):
            return parse_url(f'{scheme}://{place}', '')
    for driver in _GROUPED:
        store = {'driver': driver, 'kvstore': {'driver': 'file', 'path': os.path.abspath(place)}}
        if place.is_dir() and choose_scale(Folder(store['kvstore']), driver, '', str(place)):
            return store
    inside = (
        sorted(child.name for child in place.iterdir() if child.is_dir()) if place.is_dir() else []
    )
    holds = f'; below it are {", ".join(inside[:20])}' if inside else ''
    raise UserError(
        f'{place} holds no Zarr, N5 or precomputed array (none of {", ".join(_MARKER_FILES)}){holds}'
    )


def _detect_in_zip(path: str, dataset: str) -> dict[str, Any]:
    archive = {'driver': 'zip', 'base': {'driver': 'file', 'path': os.path.abspath(path)}}
    folder = Folder({**archive, 'path': dataset.strip('/')})
    for marker, scheme in _MARKER_FILES.items():
        metadata = folder.read_json(marker)
        if metadata and not _is_group(marker, metadata):
            return {'driver': DRIVERS[scheme], 'kvstore': folder.kvstore}
    for driver in _GROUPED:
        if choose_scale(folder, driver, '', str(folder)):
            return {'driver': driver, 'kvstore': folder.kvstore}
    scales = _name_scales(folder.above() or folder)
    raise UserError(f'{path} holds no Zarr array {dataset!r}; expected a zipped Zarr{scales}')


def describe_scales(place: Path) -> str:
    """Names the scales of a folder on this machine, to end a message about one that it lacks; '' where it has none."""
    if not place.is_dir():
        return ''
    return _name_scales(Folder({'driver': 'file', 'path': os.path.abspath(place)}))


def _name_scales(folder: Folder) -> str:
    for driver in _GROUPED:
        try:
            group, paths = find_scales(folder, driver, str(folder))
        except (UserError, OSError):  # damaged metadata are not what the message is about
            continue
        if paths:
            return f'; the scales of {group} are: {", ".join(paths)}'
    return ''


def _is_group(marker: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a metadata file describes a group, and not an array."""
    return metadata.get('node_type') == 'group' or (
        marker == 'attributes.json' and 'dimensions' not in metadata
    )


def is_remote(place: str) -> bool:
    """Whether a volume is, or may be, on another machine.

    Args:
      place: string that names a volume, or TensorStore spec, JSON.
    """
    try:
        return _names_remote(json.loads(place)) if place.lstrip()[:1] == '{' else _is_url(place)
    except (ValueError, RecursionError):
        return False  # complained about where it is parsed


def _names_remote(spec: Any) -> bool:
    if isinstance(spec, dict):
        return str(spec.get('driver', 'file')) not in _LOCAL or any(
            map(_names_remote, spec.values())
        )
    if isinstance(spec, list):
        return any(map(_names_remote, spec))
    return isinstance(spec, str) and _is_url(spec)


def _is_url(place: str) -> bool:
    schemes = re.findall(r'([A-Za-z][\w+.-]*)://', place)
    return any(scheme not in _LOCAL and scheme not in DRIVERS for scheme in schemes)


def parse_spec(text: str, what: str) -> dict[str, Any]:
    """Parses a TensorStore spec given as JSON, and gives its key-value store the form that `plain_kvstore` has.

    Raises:
      UserError: not JSON, a key twice, or no object with a driver.
    """
    spec = parse_json(text, f'{what}.tensorstore')
    if not isinstance(spec, dict) or 'driver' not in spec:
        raise UserError(f'{what}.tensorstore must be a JSON object with a "driver"')
    path = spec.get('path', '')
    if 'kvstore' not in spec or not isinstance(path, str):
        return spec
    rest = {key: value for key, value in spec.items() if key != 'path'}
    return {**rest, 'kvstore': plain_kvstore(spec['kvstore'], path)}


def plain_kvstore(kvstore: Any, path: str = '') -> Any:
    """A key-value store as a JSON object that holds all of the path, as far as TensorStore can parse it.

    Args:
      kvstore: URL or JSON object.
      path: what the spec of an array says besides, an old way to name a place below that of the store.
    """
    import tensorstore as ts

    if isinstance(kvstore, str):
        with contextlib.suppress(ValueError):  # told where it is opened
            kvstore = ts.KvStore.Spec(kvstore).to_json()
    above = kvstore.get('path', '') if isinstance(kvstore, dict) else None
    if not path or not isinstance(above, str):
        return kvstore
    return {**kvstore, 'path': f'{above.rstrip("/")}/{path.lstrip("/")}' if above else path}


def open_store(name: str, spec: dict[str, Any]) -> OpenedArray:
    """Opens a TensorStore spec for reading, with axes transposed to [z, y, x] or [c, z, y, x].

    What names the axes is described in `ffn.volumes.tensorstore_metadata`. Without names, Zarr keeps its order
    and N5, whose metadata lists the fastest axis first, is reversed. Axes of length 1 other than x, y and z are
    dropped if they have a name, as is the channel axis of a precomputed volume with one channel.

    Args:
      name: what errors call it.
      spec: TensorStore spec.

    Raises:
      UserError: it cannot be opened, its axes make no volume, or none of its chunks exist.
    """
    import tensorstore as ts

    spec = spec | chunk_options(spec)
    try:
        store = ts.open(spec, context=context(), open=True, read=True, write=False).result()
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f'{name} cannot be opened: {_explain(error)}') from error
    with damage_told(name, 'correct its metadata, or write it anew'):
        return _arranged(store, spec, name)


def _arranged(store: Any, spec: dict[str, Any], name: str) -> OpenedArray:
    import tensorstore as ts

    chunk = [n or 1 for n in store.chunk_layout.read_chunk.shape or ()]
    check_chunk_size(chunk, store.shape, store.dtype.numpy_dtype, name)
    described = describe_store(store, spec, name)
    stamp, fill = read_local_stamp(spec.get('kvstore'), name), store.fill_value
    # Not so an export: its chunks, axes and place are those of any volume, which may be wrong.
    is_made = bool(stamp.get('made_from'))
    may_be_empty = is_sparse(stamp) and stamp.get('complete', True)
    if not is_made:
        check_chunks(store, spec, name, may_be_empty)
    for axis in sorted(described.arrangement.dropped, reverse=True):
        store = store[(slice(None),) * axis + (store.domain.origin[axis],)]
    kept = sorted(described.arrangement.order)
    store = store[ts.d[[kept.index(axis) for axis in described.arrangement.order]].transpose[:]]
    origin_zyx = described.origin_zyx or tuple(int(o) for o in store.domain.origin[-3:])
    origin_from = described.origin_from
    if described.covers is not None:
        store, origin_zyx = _crop(store, described.covers, name)
        origin_from = 'the bounding box of its layer'
    missing = MissingChunks(name, is_sparse(stamp))
    return OpenedArray(
        StoreArray(store[ts.d[:].translate_to[0]], missing),
        {FILL_VALUE: fill, **described.stated, **({MADE_FROM: ''} if is_made else {})},
        origin_zyx,
        None,
        described.voxel_size,
        origin_from,
        missing,
    )


def _crop(store: Any, box: Box, name: str) -> tuple[Any, tuple[int, ...]]:
    """The part of a store [z, y, x] or [c, z, y, x] that is the volume, and its first voxel."""
    whole = Box.from_zyx(store.domain.origin[-3:], store.domain.shape[-3:])
    inside = box.intersection(whole)
    if inside is None:
        raise UserError(f'{name}: its layer covers {box}, but the array {whole}')
    return store[(..., *inside.slices_zyx)], inside.start.zyx


# What TensorStore says of a compression that it does not know → how it is told.
_UNKNOWN_COMPRESSION = {
    r'"encoding": .*but received: "([^"]*)"': 'chunks of the encoding {} are not supported; write the volume anew as '
    'compressed_segmentation or raw, for instance with CloudVolume',
    r'"([^"]*)" is not registered': 'the codec {} is not supported; write the volume anew with blosc, zstd or gzip',
}


def _explain(error: Exception) -> str:
    """An error of TensorStore without its details; a compression that it lacks is named with a way out."""
    reason = str(error).splitlines()[0].partition(' [tensorstore_spec')[0]
    for pattern, advice in _UNKNOWN_COMPRESSION.items():
        if match := re.search(pattern, reason):
            return advice.format(match[1])
    return reason
