"""WKW, written by the package wkw, which WEBKNOSSOS' own library used."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import math
import shutil

import numpy as np
import pytest

from ffn.utils.errors import UnreadableError, UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes import wkw_datasets
from ffn.volumes.importing.label_sources import open_labels
from ffn.volumes.volume import open_volume

wkw = pytest.importorskip('wkw')

START, SIZE = Xyz(9, 4, 3), Xyz(29, 23, 13)
DATA = np.random.default_rng(0).integers(1, 2**40, SIZE.zyx, np.uint64)
# Cubes of 2 blocks of 8 voxels along each axis.
CUBE = 16


def write(folder, data=DATA, start=START, **header):
    """Writes [z, y, x] or [c, z, y, x]; WKW itself takes [c, x, y, z]."""
    channels = data if data.ndim == 4 else data[np.newaxis]
    header = wkw.Header(data.dtype.type, len(channels), block_len=8, file_len=CUBE // 8, **header)
    folder.mkdir(parents=True)
    with wkw.Dataset.create(str(folder), header) as dataset:
        dataset.write(tuple(start), np.asfortranarray(channels.transpose(0, 3, 2, 1)))


def write_properties(folder, scale=(11.24, 11.24, 28), **box):
    box = {'topLeft': list(START), 'width': SIZE.x, 'height': SIZE.y, 'depth': SIZE.z} | box
    layers = [{'name': 'other'}, {'name': 'labels', 'dataFormat': 'wkw', 'boundingBox': box}]
    # As Python and WEBKNOSSOS write floats.
    layers[0] |= {'min': math.nan, 'intensityRange': [-math.inf, math.inf]}
    content = {'dataLayers': layers, 'scale': scale}
    (folder / 'datasource-properties.json').write_text(json.dumps(content))


@pytest.fixture
def dataset(tmp_path):
    write(tmp_path / 'd' / 'labels' / '1')
    write_properties(tmp_path / 'd')
    return tmp_path / 'd'


@pytest.mark.parametrize(
    'form',
    ['{}/labels', '{}/labels/1', '{}:/labels', 'wkw://{}/labels', '{}/labels@1', '{}:labels/1'],
)
def test_every_way_to_name_it(dataset, form):
    with open_volume(form.format(dataset)) as volume:
        assert (volume.shape_zyx, volume.channels, volume.dtype) == (
            Zyx(13, 23, 29),
            None,
            np.uint64,
        )
        assert volume.box == Box(START, SIZE)
        assert volume.voxel_size.xyz == (11.24, 11.24, 28)
        assert volume.origin_from == 'its bounding box'
        np.testing.assert_array_equal(volume.read(volume.box), DATA)
        part = Box(Xyz(14, 6, 5), Xyz(9, 12, 3))
        np.testing.assert_array_equal(volume.read(part), DATA[part.relative_to(START).slices_zyx])


@pytest.mark.parametrize('block_type', [1, 2, 3])
@pytest.mark.parametrize('dtype', [np.uint8, np.int16, np.uint32, np.float32])
def test_types_and_compressions(tmp_path, dtype, block_type):
    data = (DATA % 2**15).astype(dtype)
    write(tmp_path / 'labels' / '1', data, block_type=1)
    folder = tmp_path / 'labels' / '1'
    if block_type != wkw.Header.BLOCK_TYPE_RAW:
        with wkw.Dataset.open(str(folder)) as raw:
            raw.compress(str(tmp_path / 'packed' / '1'), compress_files=True).close()
        folder = tmp_path / 'packed' / '1'
    with open_volume(str(folder)) as volume:
        assert volume.dtype == dtype
        np.testing.assert_array_equal(volume.read(Box(START, SIZE)), data)


def test_channels(tmp_path):
    data = np.stack([DATA, DATA[::-1], DATA[:, ::-1]]).astype(np.uint8)
    write(tmp_path / 'labels' / '1', data)
    write_properties(tmp_path)
    with open_volume(f'{tmp_path}/labels') as volume:
        assert volume.channels == 3
        np.testing.assert_array_equal(volume.read(volume.box), data)
    with open_volume(f'{tmp_path}/labels#2') as volume:
        np.testing.assert_array_equal(volume.read(volume.box), data[2])


def test_magnifications(dataset):
    """The box and the voxel size are stated for magnification 1."""
    coarse = DATA[:6, ::2, ::2][:, :12, :15]
    write(dataset / 'labels' / '2-2-1', coarse, Xyz(4, 2, 3))
    with open_volume(f'{dataset}/labels@2-2-1') as volume:
        assert volume.box == Box(Xyz(4, 2, 3), Xyz(15, 12, 13))
        assert volume.voxel_size.xyz == (22.48, 22.48, 28)
        np.testing.assert_array_equal(volume.read(Box(Xyz(4, 2, 3), Xyz(15, 12, 6))), coarse)
    with open_volume(f'{dataset}/labels') as volume:
        assert volume.box.size == SIZE
    with pytest.raises(UserError, match=r'no magnification 4; its magnifications are: 1, 2-2-1'):
        open_volume(f'{dataset}/labels@4')


def test_without_properties_the_cubes_say_what_is_covered(dataset):
    (dataset / 'datasource-properties.json').unlink()
    with open_volume(f'{dataset}/labels') as volume:
        assert volume.box == Box(Xyz(0, 0, 0), Xyz(48, 32, 16))
        assert volume.voxel_size is None
        np.testing.assert_array_equal(volume.read(Box(START, SIZE)), DATA)


def test_scale_with_a_unit(dataset):
    write_properties(dataset, {'factor': [0.01, 0.02, 0.03], 'unit': 'micrometer'})
    with open_volume(f'{dataset}/labels') as volume:
        assert volume.voxel_size.xyz == pytest.approx((10, 20, 30))


@pytest.mark.parametrize('scale', [11.24, [11.24, 28], {'factor': [1, 2, 3], 'unit': 'voxel'}])
def test_a_scale_that_makes_no_sense_is_told(dataset, caplog, scale):
    write_properties(dataset, scale)
    with open_volume(f'{dataset}/labels') as volume:
        assert volume.voxel_size is None
    assert 'labels: scale of datasource-properties.json is ' in caplog.text
    assert 'is not understood' in caplog.text


def test_missing_cubes(dataset, caplog):
    (dataset / 'labels/1/z0/y0/x1.wkw').unlink()
    with open_volume(f'{dataset}/labels') as volume:
        found = volume.read(volume.box)
    expected = DATA.copy()
    expected[:, :12, 7:23] = 0
    np.testing.assert_array_equal(found, expected)
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert '1 of the 6 chunks that were needed do not exist and are read as 0' in line
    with open_volume(f'{dataset}/labels', 'error') as volume:
        volume.read(Box(START, Xyz(5, 3, 2)))
        with pytest.raises(UserError, match='--missing=error'):
            volume.read(volume.box)
    shutil.rmtree(dataset / 'labels/1/z0')
    with pytest.raises(UserError, match='none of its cubes exist'):
        open_volume(f'{dataset}/labels')


def test_a_damaged_cube(dataset):
    path = dataset / 'labels/1/z0/y0/x0.wkw'
    path.write_bytes(path.read_bytes()[:9000])
    with (
        open_volume(f'{dataset}/labels') as volume,
        pytest.raises(UnreadableError, match='cannot be read'),
    ):
        volume.read(volume.box)


def test_damaged_metadata(dataset):
    write_properties(dataset, topLeft=[1, 2])
    with pytest.raises(
        UserError, match=r'its boundingBox in datasource-properties\.json is damaged'
    ):
        open_volume(f'{dataset}/labels')
    (dataset / 'labels/1/header.wkw').write_bytes(b'WKW')
    with pytest.raises(UserError, match='cannot be opened'):
        open_volume(f'{dataset}/labels')


def test_threads_read_at_once(dataset):
    with (
        open_volume(f'{dataset}/labels') as volume,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        for found in pool.map(lambda _: volume.read(volume.box), range(20)):
            np.testing.assert_array_equal(found, DATA)


def test_labels_are_imported(dataset, tmp_path):
    with open_labels(f'{dataset}/labels', None, None, None, tmp_path) as labels:
        np.testing.assert_array_equal(labels.read(labels.box, 0), DATA)
        assert labels.start == START


def test_cubes_are_listed_only_where_nothing_tells_the_box(dataset, monkeypatch):
    listed, find = [], wkw_datasets._find_cubes
    monkeypatch.setattr(
        wkw_datasets,
        '_find_cubes',
        lambda folder: (listed.append(c) or c for c in find(folder)),
    )
    open_volume(f'{dataset}/labels')
    assert len(listed) == 1
    (dataset / 'datasource-properties.json').unlink()
    open_volume(f'{dataset}/labels')
    assert len(listed) == 1 + 1 + 3 * 2 * 1
