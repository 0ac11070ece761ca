"""Loaders of volumes: HDF5, Zarr, N5, precomputed and WKW."""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorstore as ts
import wkw

from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import open_volume
from tests.fuzz.case import Edit, Loader
from tests.fuzz.mutations import VALUES, Rng, edit_json_file, pick

_SHAPE = (13, 12, 14)
LARGEST = Xyz(32, 32, 32)


def voxels(dtype: Any = np.uint8) -> np.ndarray:
    """Numbers from 0 to 250, [z, y, x]."""
    values = np.arange(np.prod(_SHAPE)).reshape(_SHAPE) * 7919 % 251
    return values.astype(dtype)


def _read(*specs: str) -> Callable[[Path], Any]:
    """Reads the first voxels of a volume, as few as there are, and what it says of itself."""

    def read(folder: Path) -> Any:
        with open_volume(specs[0].format(folder)) as opened:
            volume = opened.single_channel()
            size = Xyz(*map(min, zip(volume.box.size, LARGEST, strict=True)))
            voxels = volume.read(Box(volume.box.start, size))
            return voxels, volume.box, volume.voxel_size, volume.dtype

    return read


def _good(value: Any) -> bool:
    voxels, box, size, _ = value
    return voxels.ndim == 3 and min(box.size) >= 0 and (size is None or min(size.xyz) > 0)


# HDF5.


def _write_hdf5(folder: Path) -> None:
    with h5py.File(folder / 'volume.h5', 'w') as file:
        dataset = file.create_dataset('a/raw', data=voxels(), chunks=(5, 4, 7), compression='gzip')
        dataset.attrs['resolution'], dataset.attrs['offset'] = [40.0, 8.0, 4.0], [80, 8, 0]
        file['plain'] = voxels(np.uint32)
        file['a'].attrs['axes'] = 'zyx'


def _edit_hdf5(path: Path, rng: Rng) -> None:
    """Another attribute, shape, type or layout of the dataset, or another kind of object in its place."""
    names = ('resolution', 'offset', 'voxel_size', 'units', 'axistags', 'axis_names', '_FillValue')
    names += ('element_size_um', 'ffn_made_from', 'partition_counts')
    # What HDF5 cannot make is left as far as it was made.
    with contextlib.suppress(OSError, ValueError), h5py.File(path, 'a') as file:
        dataset = file['a/raw']
        if rng.random() < 0.6:
            value = pick(
                rng,
                (
                    *VALUES,
                    [1, 2, 3],
                    [0, 0, 0],
                    ['nm'] * 3,
                    ['z', 'y', 'x'],
                    b'\xff',
                    h5py.Empty('f'),
                ),
            )
            try:
                dataset.attrs[pick(rng, names)] = value
            except Exception:  # noqa: BLE001 - HDF5 cannot hold it
                dataset.attrs['resolution'] = 'text'
            return
        del file['a/raw']
        shape: Any = [*_SHAPE]
        shape[int(rng.integers(3))] = int(pick(rng, (16, 2**31, 2**40, 2**60)))
        match int(rng.integers(6)):
            case 0:
                file.create_dataset('a/raw', shape, 'u1', chunks=(5, 4, 7))[:5, :4, :7] = 3
            case 1:
                grown = file.create_dataset(
                    'a/raw', _SHAPE, 'u1', chunks=(5, 4, 7), maxshape=(None,) * 3
                )
                grown[:] = voxels()
                grown.resize(tuple(shape))
            case 2:
                file['a/raw'] = np.zeros(
                    _SHAPE, pick(rng, ('S4', 'f2', 'c8', 'i8', '>u4', [('r', 'u1')], bool))
                )
            case 3:
                file.create_dataset('a/raw', data='text')
            case 4:
                file.create_group('a/raw')
            case _:
                file['a/raw'] = np.zeros(
                    pick(rng, ((2, 3), (1, 2, 3, 4, 5), (4, 3, 0), (2, 4, 5, 6))), 'u1'
                )


# TensorStore.


def _write_store(driver: str, **spec: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        kvstore = {'driver': 'file', 'path': str(folder / 'volume')}
        store = ts.open(
            {'driver': driver, 'kvstore': kvstore, **spec},
            create=True,
            dtype=ts.uint8,
            shape=_SHAPE,
        ).result()
        store[...] = voxels().reshape(store.shape)

    return write


def _write_ome_zarr(folder: Path) -> None:
    _write_store('zarr', metadata={'chunks': [5, 4, 7], 'dimension_separator': '/'})(folder)
    (folder / 'ome').mkdir()
    (folder / 'volume').rename(folder / 'ome' / '0')
    axes = [{'name': axis, 'type': 'space', 'unit': 'nanometer'} for axis in 'zyx']
    steps = [
        {'type': 'scale', 'scale': [40, 8, 4]},
        {'type': 'translation', 'translation': [80, 8, 4]},
    ]
    entry = {
        'version': '0.4',
        'axes': axes,
        'datasets': [{'path': '0', 'coordinateTransformations': steps}],
    }
    (folder / 'ome' / '.zattrs').write_text(json.dumps({'multiscales': [entry]}))
    (folder / 'ome' / '.zgroup').write_text('{"zarr_format": 2}')


def _write_n5(folder: Path) -> None:
    _write_store('n5', metadata={'blockSize': [5, 4, 7], 'compression': {'type': 'gzip'}})(folder)
    path = folder / 'volume' / 'attributes.json'
    more = {
        'pixelResolution': {'dimensions': [4, 8, 40], 'unit': 'nm'},
        'resolution': [40, 8, 4],
        'offset': [0, 8, 4],
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


def _write_precomputed(folder: Path, **scale: Any) -> None:
    spec = {
        'driver': 'neuroglancer_precomputed',
        'kvstore': {'driver': 'file', 'path': str(folder / 'volume')},
        'multiscale_metadata': {'type': 'image', 'data_type': 'uint8', 'num_channels': 1},
        'scale_metadata': {
            'size': _SHAPE[::-1],
            'encoding': 'raw',
            'chunk_size': [7, 4, 5],
            'resolution': [4, 8, 40],
            'voxel_offset': [1, 2, 3],
            **scale,
        },
    }
    ts.open(spec, create=True).result()[..., 0] = voxels().transpose()


def _write_precomputed_shards(folder: Path) -> None:
    sharding = {
        '@type': 'neuroglancer_uint64_sharded_v1',
        'preshift_bits': 1,
        'minishard_bits': 1,
        'shard_bits': 0,
        'hash': 'identity',
        'minishard_index_encoding': 'gzip',
        'data_encoding': 'gzip',
    }
    _write_precomputed(folder, sharding=sharding)


def _write_zip(folder: Path) -> None:
    _write_store('zarr', metadata={'chunks': [5, 4, 7]})(folder)
    with zipfile.ZipFile(folder / 'volume.zip', 'w', zipfile.ZIP_STORED) as archive:
        for path in sorted((folder / 'volume').iterdir()):
            archive.write(path, path.name)
    shutil.rmtree(folder / 'volume')


def _write_sharded(folder: Path) -> None:
    codec = {
        'name': 'sharding_indexed',
        'configuration': {
            'chunk_shape': [4, 4, 4],
            'codecs': [{'name': 'bytes'}, {'name': 'crc32c'}],
        },
    }
    grid = {'name': 'regular', 'configuration': {'chunk_shape': [8, 8, 8]}}
    _write_store('zarr3', metadata={'chunk_grid': grid, 'codecs': [codec]})(folder)


_ZARR3 = {
    'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [5, 4, 7]}},
    'codecs': [
        {'name': 'bytes', 'configuration': {'endian': 'little'}},
        {'name': 'gzip', 'configuration': {'level': 1}},
        {'name': 'crc32c'},
    ],
    'attributes': {'resolution': [40, 8, 4], 'offset': [80, 8, 0]},
}


def _write_wkw(folder: Path) -> None:
    header = wkw.Header(np.uint8, 1, block_len=8, file_len=2)
    (folder / 'd' / 'labels' / '1').mkdir(parents=True)
    with wkw.Dataset.create(str(folder / 'd/labels/1'), header) as dataset:
        dataset.write((2, 3, 4), np.asfortranarray(voxels().T[np.newaxis]))
    box = {'topLeft': [2, 3, 4], 'width': 14, 'height': 12, 'depth': 13}
    content = {'dataLayers': [{'name': 'labels', 'boundingBox': box}], 'scale': [4, 8, 40]}
    (folder / 'd' / 'datasource-properties.json').write_text(json.dumps(content))


def _store(
    name: str,
    write: Callable[[Path], None],
    spec: str,
    metadata: tuple[str, ...],
    files: str,
    sealed: bool = False,
) -> Loader:
    edits: tuple[tuple[str, Edit], ...] = tuple((one, edit_json_file) for one in metadata)
    return Loader(name, write, _read(spec), (*metadata, files), edits, sealed, _good)


_NOT_METADATA = 'volume/**/[0-9c]*'
LOADERS = (
    Loader(
        'HDF5',
        _write_hdf5,
        _read('{}/volume.h5:a/raw'),
        ('*.h5',),
        (('*.h5', _edit_hdf5),),
        check=_good,
    ),
    _store(
        'Zarr 2',
        _write_store('zarr', metadata={'chunks': [5, 4, 7]}),
        'zarr://{}/volume',
        ('volume/.zarray',),
        _NOT_METADATA,
    ),
    _store(
        'Zarr 3',
        _write_store('zarr3', metadata=_ZARR3),
        'zarr3://{}/volume',
        ('volume/zarr.json',),
        _NOT_METADATA,
    ),
    _store('Zarr 3 in shards', _write_sharded, '{}/volume', ('volume/zarr.json',), _NOT_METADATA),
    _store(
        'OME-Zarr', _write_ome_zarr, '{}/ome', ('ome/.zattrs', 'ome/0/.zarray'), 'ome/0/**/[0-9]*'
    ),
    _store('N5', _write_n5, '{}/volume', ('volume/attributes.json',), 'volume/**/[0-9]*'),
    _store(
        'precomputed',
        _write_precomputed,
        'precomputed://{}/volume',
        ('volume/info',),
        'volume/**/[0-9]*',
    ),
    _store(
        'precomputed in shards',
        _write_precomputed_shards,
        'precomputed://{}/volume',
        ('volume/info',),
        'volume/**/*.shard',
    ),
    Loader('Zarr 2 in a zip file', _write_zip, _read('{}/volume.zip'), ('*.zip',), check=_good),
    Loader(
        'WKW',
        _write_wkw,
        _read('{}/d/labels'),
        ('d/*.json', 'd/labels/1/header.wkw', 'd/labels/1/*/*/*.wkw'),
        (('d/*.json', edit_json_file),),
        check=_good,
    ),
)
