"""Axes, voxel size and offset, as the programs of this field store them; all of one volume of 3 × 4 × 5 (z, y, x)."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import VolumeSource, open_volume
from tests.volumes.test_tensorstores import write, write_n5, write_precomputed, write_zarr

SHAPE = (3, 4, 5)
DATA = np.arange(60, dtype=np.uint8).reshape(SHAPE) + 1
SIZE = (8, 9.5, 33)


def check(spec, size=SIZE, start=(0, 0, 0), data=DATA, source=None):
    with open_volume(str(spec)) as volume:
        assert volume.box == Box(Xyz(*start), Xyz(*data.shape[:-4:-1]))
        np.testing.assert_array_equal(volume.read(volume.box), data)
        assert (volume.voxel_size and volume.voxel_size.xyz) == (size and pytest.approx(size))
        assert bool(volume.origin_from) == (source is not None)
        if source:
            assert source in volume.origin_from
        return volume


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def hdf5(tmp_path, data=DATA, **attributes):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['v'] = data
        file['v'].attrs.update(attributes)
    return f'{tmp_path}/v.h5:v'


@pytest.mark.parametrize(
    'attributes',
    [
        {'resolution': (33.0, 9.5, 8.0)},
        {'voxel_size': [33, 9.5, 8], 'units': ['nm', 'nm', 'nm']},
        {'resolution': [0.033, 0.0095, 0.008], 'units': ['um', 'um', 'um']},
        {'element_size_um': [0.033, 0.0095, 0.008]},
    ],
)
def test_voxel_size_in_attributes(tmp_path, attributes):
    check(hdf5(tmp_path, **attributes))


def test_offset_of_cremi(tmp_path):
    given = {'resolution': (33.0, 9.5, 8.0), 'offset': (-66.0, 95.0, 40.0)}
    check(hdf5(tmp_path, **given), start=(5, 10, -2), source='attribute offset')
    (tmp_path / 'f').mkdir()
    write_zarr(tmp_path / 'f' / 'v', DATA)
    attributes = {name: list(values) for name, values in given.items()}
    (tmp_path / 'f' / 'v' / '.zattrs').write_text(json.dumps(attributes))
    check(tmp_path / 'f' / 'v', start=(5, 10, -2), source='attribute offset')


@pytest.mark.parametrize(
    ('attributes', 'size', 'message'),
    [
        ({'resolution': [1, 2]}, None, r'its attribute resolution is \[1, 2\], which is not understood'),
        ({'resolution': [0, 2, 2]}, None, 'not understood'),
        ({'resolution': [1, 1, 1], 'units': ['s', 's', 's']}, None, 'not understood'),
        ({'offset': [1, 2, 3]}, None, 'has an offset, but no resolution to convert it by'),
        ({'resolution': [33, 9.5, 8], 'offset': [1, 2]}, SIZE, 'attribute offset, .* is not understood'),
        ({'resolution': [33, 9.5, 8], 'offset': [0, 0, 3]}, SIZE, 'x,y,z 3,0,0 nm, which is not a whole'),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_told(tmp_path, caplog, attributes, size, message):
    with open_volume(hdf5(tmp_path, **attributes)) as volume:
        assert volume.box.start == (0, 0, 0)
        assert (volume.voxel_size and volume.voxel_size.xyz) == size
    (line,) = warnings(caplog)
    assert re.search(message, line)


def test_axes_of_hdf5(tmp_path):
    spec = hdf5(tmp_path, DATA.transpose(2, 0, 1), resolution=[8, 33, 9.5])
    with h5py.File(tmp_path / 'v.h5', 'a') as file:
        for dimension, name in zip(file['v'].dims, 'xzy'):
            dimension.label = name
    check(spec)
    tags = {'axes': [{'key': axis} for axis in 'yxzc']}
    check(hdf5(tmp_path, DATA.transpose(1, 2, 0)[..., None], axistags=json.dumps(tags)), size=None)
    check(hdf5(tmp_path, DATA.T, axis_names=['x', 'y', 'z']), size=None)
    with pytest.raises(UserError, match='has axistags that cannot be read'):
        open_volume(hdf5(tmp_path, axistags='{'))


def test_hdf5_that_cannot_be_read_is_not_black(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file.create_dataset('unwritten', SHAPE, 'u1', chunks=(2, 2, 2))
        layout = h5py.VirtualLayout(SHAPE, 'u1')
        layout[:2] = h5py.VirtualSource('a.h5', 'v', (2, 4, 5))
        layout[2] = h5py.VirtualSource('b.h5', 'v', (4, 5))
        file.create_virtual_dataset('virtual', layout)
    with pytest.raises(
        UserError, match='unwritten was created, but none of its voxels were written'
    ):
        open_volume(f'{tmp_path}/v.h5:unwritten')
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['v'] = DATA[:2]
    with pytest.raises(
        UserError, match='1 of the files that it is made of are missing, among them b'
    ):
        open_volume(f'{tmp_path}/v.h5:virtual')
    with h5py.File(tmp_path / 'b.h5', 'w') as file:
        file['v'] = DATA[2]
    check(f'{tmp_path}/v.h5:virtual', size=None)


def ome(group: Path, axes, datasets, units='nanometer', transformations=(), version='0.4'):
    multiscales = [
        {
            'axes': [
                {'name': a, **({'unit': units} if a in 'xyz' and units else {})} for a in axes
            ],
            'datasets': [
                {
                    'path': path,
                    'coordinateTransformations': [
                        {'type': 'scale', 'scale': list(scale)},
                        {'type': 'translation', 'translation': list(translation)},
                    ],
                }
                for path, scale, translation in datasets
            ],
            'coordinateTransformations': list(transformations),
        }
    ]
    group.mkdir(exist_ok=True)
    if version == '0.4':
        (group / '.zgroup').write_text('{"zarr_format": 2}')
        (group / '.zattrs').write_text(json.dumps({'multiscales': multiscales}))
    else:
        metadata = {
            'zarr_format': 3,
            'node_type': 'group',
            'attributes': {'ome': {'multiscales': multiscales}},
        }
        (group / 'zarr.json').write_text(json.dumps(metadata))


@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_ome_zarr(tmp_path, version):
    group, driver = tmp_path / 'o.zarr', 'zarr' if version == '0.4' else 'zarr3'
    half = DATA[:, ::2, ::2]
    ome(
        group,
        'zyx',
        [('s0', (33, 9.5, 8), (66, 0, -16)), ('s1', (33, 19, 16), (66, 4.75, -12))],
        version=version,
    )
    write(driver, group / 's0', DATA)
    write(driver, group / 's1', half)
    moved = {'start': (-2, 0, 2), 'source': 'multiscales'}
    for spec in (
        group,
        f'{group}/',
        f'{group}/s0',
        f'{group}:s0',
        f'{group}@s0',
        f'{group}@0',
        f'{driver}://{group}',
    ):
        check(spec, **moved)
    for spec in (f'{group}@s1', f'{group}@1', f'{group}:s1', f'{driver}://{group}@s1'):
        # A voxel of the second scale lies between the two that it was made of.
        check(spec, size=(16, 19, 33), start=(-1, 0, 2), source='multiscales', data=half)
    with pytest.raises(UserError, match=r'has no scale s2; its scales are: s0, s1$'):
        open_volume(f'{group}@s2')
    for spec in (f'{group}/s2', f'{group}:s2'):
        with pytest.raises(UserError, match=r'no such .*/s2; the scales of .*o\.zarr are: s0, s1$'):
            open_volume(spec)


@pytest.mark.parametrize('moved', [0, 12])
def test_coarse_ome_zarr_that_names_corners_or_centres(tmp_path, moved):
    """The finest scale begins at voxel 24,0,5: no multiple of the factor along x."""
    coarse = DATA[:, :, ::4]
    ome(
        tmp_path / 'o',
        'zyx',
        [('0', (33, 9.5, 8), (165, 0, 24)), ('1', (33, 9.5, 32), (165, 0, 24 + moved))],
    )
    write('zarr', tmp_path / 'o' / '1', coarse)
    size = (32, 9.5, 33)
    check(f'{tmp_path}/o:1', size=size, start=(1, 0, 5), source='multiscales', data=coarse)


@pytest.mark.parametrize('name', ['zarr.json', '.zattrs', 'attributes.json'])
def test_what_is_not_there_is_told_beside_a_damaged_file(tmp_path, name):
    (tmp_path / name).write_text('{')
    for spec in (f'{tmp_path}/absent.h5', f'{tmp_path}:absent'):
        with pytest.raises(UserError, match=f'^no such .*: {tmp_path}/absent'):
            open_volume(spec)


def test_ome_zarr_of_other_axes_and_units(tmp_path):
    ome(tmp_path / 'o', 'tcxyz', [('a/0', (1, 1, 0.008, 0.0095, 0.033), (0,) * 5)], 'micrometer')
    write('zarr', tmp_path / 'o' / 'a' / '0', DATA.T[None, None])
    check(tmp_path / 'o', source='multiscales')
    scaled = [{'type': 'scale', 'scale': [1, 1, 2, 1, 1]}]
    ome(tmp_path / 'o', 'tcxyz', [('a/0', (1, 1, 4, 9.5, 33), (0,) * 5)], transformations=scaled)
    check(f'{tmp_path}/o:a/0', source='multiscales')


def test_ome_zarr_without_units_gives_no_nanometres(tmp_path, caplog):
    ome(tmp_path / 'o', 'zyx', [('0', (33, 9.5, 8), (0, 0, 0))], units='')
    write('zarr', tmp_path / 'o' / '0', DATA)
    check(tmp_path / 'o', size=None, source='multiscales')
    assert warnings(caplog) == []


def test_channels_of_ome_zarr(tmp_path):
    both = np.stack([DATA, DATA + 100])
    ome(tmp_path / 'o', 'xyzc', [('0', (8, 9.5, 33, 1), (0,) * 4)])
    write('zarr', tmp_path / 'o' / '0', both.T)
    check(tmp_path / 'o', source='multiscales', data=both)


def test_bioformats2raw(tmp_path):
    ome(tmp_path / 'b', '', [])
    (tmp_path / 'b' / '.zattrs').write_text('{"bioformats2raw.layout": 3}')
    ome(tmp_path / 'b' / '0', 'tczyx', [('0', (1, 1, 33, 9.5, 8), (0,) * 5)])
    write('zarr', tmp_path / 'b' / '0' / '0', DATA[None, None])
    check(tmp_path / 'b', source='multiscales')


def test_names_of_xarray_and_zarr3(tmp_path):
    write_zarr(tmp_path / 'v', DATA.T)
    (tmp_path / 'v' / '.zattrs').write_text('{"_ARRAY_DIMENSIONS": ["x", "y", "z"]}')
    check(tmp_path / 'v', size=None)
    write('zarr3', tmp_path / 'w', DATA.T, metadata={'dimension_names': ['x', 'y', 'z']})
    check(tmp_path / 'w', size=None)


def n5_attributes(folder: Path, **more):
    path = folder / 'attributes.json'
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **more}))


@pytest.mark.parametrize(
    'attributes',
    [
        {'pixelResolution': {'dimensions': [8, 9.5, 33], 'unit': 'nm'}},
        {'pixelResolution': {'dimensions': [0.008, 0.0095, 0.033], 'unit': 'um'}},
        {'pixelResolution': [8, 9.5, 33]},
        {'resolution': [8, 9.5, 33]},
        {'resolution': [8, 9.5, 33], 'units': ['nm', 'nm', 'nm']},
        {'transform': {'axes': ['z', 'y', 'x'], 'scale': [33, 9.5, 8], 'units': ['nm'] * 3}},
    ],
)
def test_voxel_size_of_n5(tmp_path, attributes):
    write_n5(tmp_path / 'v', DATA)
    n5_attributes(tmp_path / 'v', **attributes)
    check(tmp_path / 'v')


def test_n5_begins_where_its_transform_says(tmp_path):
    """s1 is made of two voxels along x and y, whose centre lies between theirs."""
    for name, data, scale, translate in (
        ('s0', DATA, [33, 9.5, 8], [66, 19, -16]),
        ('s1', DATA[:, ::2, ::2], [33, 19, 16], [66, 23.75, -12]),
    ):
        write_n5(tmp_path / 'g.n5' / name, data)
        transform = {'axes': ['z', 'y', 'x'], 'scale': scale, 'units': ['nm'] * 3}
        n5_attributes(tmp_path / 'g.n5' / name, transform={**transform, 'translate': translate})
    source = 'attribute transform'
    check(tmp_path / 'g.n5' / 's0', start=(-2, 2, 2), source=source)
    n5_attributes(tmp_path / 'g.n5', multiscales=[])
    coarse = {'size': (16, 19, 33), 'data': DATA[:, ::2, ::2]}
    check(tmp_path / 'g.n5' / 's1', start=(-1, 1, 2), source=source, **coarse)


def test_names_of_axes_that_say_nothing(tmp_path):
    spec = {
        'driver': 'zarr3',
        'kvstore': f'file://{tmp_path}/v/',
        'metadata': {'dimension_names': ['dim_0', 'dim_1', 'dim_2']},
    }
    ts = pytest.importorskip('tensorstore')
    ts.open(spec, create=True, dtype='uint8', shape=DATA.shape).result().write(DATA).result()
    with open_volume(str(tmp_path / 'v')) as volume:
        np.testing.assert_array_equal(volume.read(volume.box), DATA)


def test_scales_of_n5(tmp_path):
    group = tmp_path / 'g.n5'
    write_n5(group / 's0', DATA)
    write_n5(group / 's1', DATA[:, ::2, ::2])
    n5_attributes(group, pixelResolution={'dimensions': [8, 9.5, 33], 'unit': 'nm'})
    n5_attributes(group / 's1', downsamplingFactors=[2, 2, 1])
    check(group)
    check(f'n5://{group}')
    check(f'{group}@s1', size=(16, 19, 33), data=DATA[:, ::2, ::2])


def test_funlib_in_n5_counts_from_z(tmp_path, caplog):
    write_n5(tmp_path / 'v', DATA)
    n5_attributes(tmp_path / 'v', resolution=[33, 9.5, 8], offset=[66, 0, 8])
    check(tmp_path / 'v', start=(1, 0, 2), source='attribute offset')
    assert 'are taken in the order z,y,x' in warnings(caplog)[0]


def test_precomputed(tmp_path):
    write_precomputed(tmp_path / 'v', DATA, (10, -20, 30))
    for place in ('', '@0', '@8_8_33', '@8x8x33'):
        spec = f'precomputed://{tmp_path}/v{place}'
        check(spec, size=(8, 8, 33), start=(10, -20, 30), source='voxel_offset')
    with pytest.raises(UserError, match='v@4x4x4 cannot be opened: '):
        open_volume(f'precomputed://{tmp_path}/v@4x4x4')


def test_zarr_of_webknossos_is_as_large_as_its_layer(tmp_path, caplog):
    """Its arrays are as large as whole shards; what of them is the layer stands two folders above."""
    layer = np.arange(1, 7 * 9 * 11 + 1, dtype=np.uint32).reshape(7, 9, 11)
    stored = np.zeros((32, 32, 32), np.uint32)
    stored[3:10, 2:11, 10:21] = layer
    metadata = {'dimension_names': ['c', 'x', 'y', 'z']}
    write('zarr3', tmp_path / 'd' / 'cells' / '2-2-1', stored.T[np.newaxis], metadata=metadata)
    box = {'topLeft': [20, 5, 3], 'width': 22, 'height': 17, 'depth': 7}
    layers = [{'name': 'other'}, {'name': 'cells', 'dataFormat': 'zarr3', 'boundingBox': box}]
    properties = tmp_path / 'd' / 'datasource-properties.json'
    properties.write_text(json.dumps({'dataLayers': layers, 'scale': [4, 4, 35]}))
    with open_volume(f'{tmp_path}/d/cells/2-2-1') as volume:
        assert volume.box == Box(Xyz(10, 2, 3), Xyz(11, 9, 7))
        assert volume.origin_from == 'the bounding box of its layer'
        np.testing.assert_array_equal(volume.read(volume.box), layer)
    assert 'do not exist' not in caplog.text
    box['topLeft'] = [70, 5, 3]
    properties.write_text(json.dumps({'dataLayers': layers}))
    with pytest.raises(UserError, match=r'its layer covers .* but the array'):
        open_volume(f'{tmp_path}/d/cells/2-2-1')
    properties.unlink()
    with open_volume(f'{tmp_path}/d/cells/2-2-1') as volume:
        assert volume.box.size == (32, 32, 32)


def test_a_zipped_zarr(tmp_path):
    write_zarr(tmp_path / 'f' / 'v', DATA)
    shutil.make_archive(str(tmp_path / 'z'), 'zip', tmp_path / 'f')
    check(f'{tmp_path}/z.zip:v', size=None)
    check(f'zarr://{tmp_path}/z.zip:v', size=None)


def test_a_transform_of_the_users_own_is_kept(tmp_path):
    write_n5(tmp_path / 'v', DATA)
    spec = {
        'driver': 'n5',
        'kvstore': {'driver': 'file', 'path': f'{tmp_path}/v'},
        'transform': {
            'input_inclusive_min': [2, 10, 20],
            'input_shape': [3, 4, 5],
            'output': [
                {'offset': -20, 'input_dimension': 2},
                {'offset': -10, 'input_dimension': 1},
                {'offset': -2, 'input_dimension': 0},
            ],
        },
    }
    with VolumeSource(tensorstore=json.dumps(spec)).open() as volume:
        assert volume.box == Box(Xyz(20, 10, 2), Xyz(5, 4, 3))
        np.testing.assert_array_equal(volume.read(volume.box), DATA)


def test_damaged_multiscales(tmp_path):
    write_zarr(tmp_path / 'o' / '0', DATA)
    (tmp_path / 'o' / '.zattrs').write_text('{"multiscales": [{"datasets": [{"paths": "0"}]}]}')
    with pytest.raises(UserError, match='the multiscales metadata above 0 is damaged'):
        open_volume(f'{tmp_path}/o/0')


def test_a_label_multiset_is_refused(tmp_path):
    write_n5(tmp_path / 'v', DATA)
    n5_attributes(tmp_path / 'v', isLabelMultiset=True)
    with pytest.raises(UserError, match=r'label multiset of Paintera.*paintera-convert to-scalar'):
        open_volume(str(tmp_path / 'v'))
