"""Chunks that do not exist: told, counted, or refused if there are none at all."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import os
import shutil

import h5py
import numpy as np
import pytest
import tensorstore as ts

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.opened_array import MADE_FROM_FILE
from ffn.volumes.volume import open_volume
from tests.volumes.test_tensorstores import write, write_precomputed

SHAPE = (7, 9, 11)
DATA = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE) + 1
# Chunks of 4, 3, 2 (x,y,z), of which 3, 3, 4 lie in the volume.
SPARSE = {
    'zarr': lambda path, data: write(
        'zarr', path, data, metadata={'chunks': [2, 3, 4], 'fill_value': 0, 'dtype': '<u2'}
    ),
    'zarr3': lambda path, data: write(
        'zarr3',
        path,
        data,
        metadata={
            'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': [2, 3, 4]}},
            'fill_value': 0,
            'data_type': 'uint16',
        },
    ),
    'n5': lambda path, data: write('n5', path, data.T, metadata={'blockSize': [4, 3, 2]}),
    'precomputed': lambda path, data: write_precomputed(path, data, (100, 20, 3)),
}


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def write_hdf5(path, data):
    with h5py.File(path, 'w') as file:
        dataset = file.create_dataset('v', data.shape, data.dtype, chunks=(2, 3, 4))
        for corner in dataset.iter_chunks():
            if data[corner].any():
                dataset[corner] = data[corner]


@pytest.mark.parametrize('scheme', [*SPARSE, 'hdf5'])
def test_missing_chunks_are_told_once_and_read_as_the_fill_value(tmp_path, caplog, scheme):
    sparse = DATA.copy()
    sparse[2:4, 3:6, :4] = 0  # one chunk, which is not stored
    sparse[4:6, 3:6, :8] = 0  # two
    if scheme == 'hdf5':
        write_hdf5(tmp_path / 'v', sparse)
        spec = f'{tmp_path}/v:v'
    else:
        SPARSE[scheme](tmp_path / 'v', sparse)
        spec = f'{scheme}://{tmp_path}/v'
    with open_volume(spec) as volume:
        start = volume.box.start
        whole = volume.read(Box(start, Xyz(4, 3, 2)))
        np.testing.assert_array_equal(whole, sparse[:2, :3, :4])
        assert warnings(caplog) == []
        part = Box(Xyz(1, 2, 1), Xyz(9, 6, 4))
        moved = Box(Xyz(*(a + b for a, b in zip(start, part.start))), part.size)
        for _ in range(2):
            np.testing.assert_array_equal(volume.read(moved), sparse[part.slices_zyx])
        np.testing.assert_array_equal(volume.read(volume.box), sparse)
    (line,) = warnings(caplog)
    assert '3 of the 27 chunks that were needed do not exist and are read as 0' in line
    with open_volume(spec, missing='error') as volume:
        assert volume.read(Box(volume.box.start, Xyz(4, 3, 2))).all()
        with pytest.raises(UserError, match=r': 3 of the 36 chunks that .* \(--missing=error\)'):
            volume.read(volume.box)
    assert len(warnings(caplog)) == 1


def test_the_fill_value_is_that_of_the_volume(tmp_path, caplog):
    spec = {'driver': 'zarr', 'kvstore': f'file://{tmp_path}/v', 'metadata': {'chunks': [2, 3, 4]}}
    store = ts.open(spec, create=True, dtype='uint8', shape=SHAPE, fill_value=7).result()
    store[:2, :3, :4] = 1
    read = open_volume(f'{tmp_path}/v').read(Box(Xyz(0, 0, 0), Xyz(8, 3, 2)))
    assert (read[..., :4] == 1).all()
    assert (read[..., 4:] == 7).all()
    assert 'are read as 7' in warnings(caplog)[0]


def test_what_was_written_here_may_be_sparse(tmp_path, caplog):
    SPARSE['zarr'](tmp_path / 'v', np.zeros(SHAPE, np.uint16))
    (tmp_path / 'v' / MADE_FROM_FILE).write_text('{"made_from": "something"}')
    volume = open_volume(f'{tmp_path}/v')
    assert not volume.read(volume.box).any()
    assert warnings(caplog) == []


@pytest.mark.parametrize('scheme', SPARSE)
def test_a_volume_without_any_chunk_is_refused(tmp_path, scheme):
    SPARSE[scheme](tmp_path / 'v', np.zeros(SHAPE, np.uint16))
    with pytest.raises(UserError, match=r'v: none of its chunks exist in .*; was it copied'):
        open_volume(f'{scheme}://{tmp_path}/v')


@pytest.mark.parametrize(('ending', 'remedy'), [('.gz', 'gunzip -r'), ('.br', 'brotli -d --rm')])
def test_compressed_files_are_refused(tmp_path, ending, remedy):
    """CloudVolume writes them by default, for web servers, which name the compression in a header."""
    write_precomputed(tmp_path / 'v', DATA)
    for path in (tmp_path / 'v' / '8_8_33').iterdir():
        path.rename(f'{path}{ending}')
    with pytest.raises(
        UserError, match=f'compressed files, such as .*{ending}.*{remedy} .*/8_8_33'
    ):
        open_volume(f'precomputed://{tmp_path}/v')


def test_files_unpacked_as_advised_are_read(tmp_path):
    write_precomputed(tmp_path / 'v', DATA)
    for path in (tmp_path / 'v' / '8_8_33').iterdir():
        packed = gzip.compress(path.read_bytes())
        path.write_bytes(gzip.decompress(packed))
    volume = open_volume(f'precomputed://{tmp_path}/v')
    np.testing.assert_array_equal(volume.read(volume.box), DATA)


def test_nested_zarr_that_does_not_say_so(tmp_path):
    write('zarr', tmp_path / 'v', DATA, metadata={'chunks': [2, 3, 4], 'dimension_separator': '/'})
    metadata = json.loads((tmp_path / 'v' / '.zarray').read_text())
    del metadata['dimension_separator']
    (tmp_path / 'v' / '.zarray').write_text(json.dumps(metadata))
    volume = open_volume(f'{tmp_path}/v')
    np.testing.assert_array_equal(volume.read(volume.box), DATA)


@pytest.fixture
def looked_at(monkeypatch):
    """Names of entries of folders, as they are taken from the system."""
    names, scandir = [], os.scandir

    class Scan(contextlib.closing):
        def __enter__(self):
            return self

        def __iter__(self):
            return self

        def __next__(self):
            entry = next(self.thing)
            names.append(entry.name)
            return entry

    monkeypatch.setattr(os, 'scandir', lambda folder: Scan(scandir(folder)))
    return names


@pytest.mark.parametrize('scheme', ['zarr', 'old zarr', 'nested zarr', 'precomputed'])
def test_a_volume_is_opened_without_listing_its_chunks(tmp_path, looked_at, scheme):
    if scheme == 'precomputed':
        write_precomputed(tmp_path / 'v', DATA)
    else:
        nested = {'dimension_separator': '/'} if scheme == 'nested zarr' else {}
        write('zarr', tmp_path / 'v', DATA, metadata={'chunks': [1, 1, 1], **nested})
    if scheme == 'old zarr':
        metadata = json.loads((tmp_path / 'v' / '.zarray').read_text())
        del metadata['dimension_separator']
        (tmp_path / 'v' / '.zarray').write_text(json.dumps(metadata))
    looked_at.clear()
    open_volume(f'{scheme.split()[-1]}://{tmp_path}/v')
    assert 0 < len(looked_at) < 8


def test_a_damaged_chunk_is_not_a_missing_one(tmp_path):
    SPARSE['zarr'](tmp_path / 'v', DATA)
    shutil.copy(tmp_path / 'v' / '.zarray', tmp_path / 'v' / '1.1.1')
    with pytest.raises(UserError, match='v cannot be read, it may be damaged'):
        open_volume(f'{tmp_path}/v').read(Box.of_shape(SHAPE))


def test_axes_of_a_sparse_dataset(tmp_path, caplog):
    sparse = DATA.copy()
    sparse[2:4, 3:6, :4] = 0
    write_hdf5(tmp_path / 'v', sparse)
    with h5py.File(tmp_path / 'v', 'a') as file:
        for dimension, name in zip(file['v'].dims, 'yxz'):
            dimension.label = name
    with open_volume(f'{tmp_path}/v:v') as volume:
        expected = sparse.transpose(2, 0, 1)
        np.testing.assert_array_equal(volume.read(volume.box), expected)
        part = Box(Xyz(4, 3, 1), Xyz(3, 4, 5))
        np.testing.assert_array_equal(volume.read(part), expected[part.slices_zyx])
    assert '1 of the 36 chunks' in warnings(caplog)[0]


def test_chunks_that_no_memory_holds(tmp_path):
    """Refused when the volume is opened: to read one voxel of a chunk, all of it is read."""
    write('zarr', tmp_path / 'v', DATA)
    path = tmp_path / 'v' / '.zarray'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'chunks': [5, 2**40, 7]}))
    with pytest.raises(UserError, match=r'declares chunks of shape \(5, 1099511627776, 7\), '):
        open_volume(f'zarr://{tmp_path}/v')


@pytest.mark.parametrize('content', ['{"offset": [1', '[1, 2]'])
def test_attributes_that_are_damaged_are_not_absent_ones(tmp_path, content):
    write('zarr', tmp_path / 'v', DATA)
    (tmp_path / 'v' / '.zattrs').write_text(content)
    with pytest.raises(UserError, match=rf'{tmp_path}/v/\.zattrs is damaged'):
        open_volume(f'zarr://{tmp_path}/v')
