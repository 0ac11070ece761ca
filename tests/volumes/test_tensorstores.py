"""Zarr, N5 and precomputed volumes, written with TensorStore and opened by the same strings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts

from ffn.inference import inference_pb2
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.specs import split_named
from ffn.volumes.tensorstores import parse_url
from ffn.volumes.volume import VolumeSource, open_volume

SHAPE_ZYX = (4, 5, 7)
RAW = np.arange(4 * 5 * 7, dtype=np.uint16).reshape(SHAPE_ZYX)
CHANNELS = np.stack([RAW, RAW + 1000])
PART = Box(Xyz(2, 1, 1), Xyz(4, 3, 2))
PART_ZYX = np.s_[..., 1:3, 1:4, 2:6]


def write(driver: str, path: Path, data: np.ndarray, **options) -> None:
    """Writes an array, the axes as they are."""
    spec = {'driver': driver, 'kvstore': {'driver': 'file', 'path': str(path)}, **options}
    ts.open(spec, create=True, dtype=data.dtype.name, shape=data.shape).result()[...] = data


def write_zarr(path: Path, data: np.ndarray) -> None:
    write('zarr', path, data, metadata={'chunks': [3] * data.ndim})


def write_zarr3(path: Path, data: np.ndarray) -> None:
    write('zarr3', path, data)


def write_n5(path: Path, data: np.ndarray) -> None:
    # The metadata of N5 counts dimensions from the fastest: x first.
    write('n5', path, data.T)


def write_precomputed(path: Path, data: np.ndarray, offset_xyz=(0, 0, 0)) -> None:
    xyzc = (data if data.ndim == 4 else data[np.newaxis]).T
    spec = {
        'driver': 'neuroglancer_precomputed',
        'kvstore': {'driver': 'file', 'path': str(path)},
        'multiscale_metadata': {
            'type': 'image',
            'data_type': xyzc.dtype.name,
            'num_channels': xyzc.shape[3],
        },
        'scale_metadata': {
            'size': xyzc.shape[:3],
            'voxel_offset': offset_xyz,
            'encoding': 'raw',
            'resolution': [8, 8, 33],
            'chunk_size': [4, 3, 2],
        },
    }
    ts.open(spec, create=True).result()[...] = xyzc


WRITERS = {
    'zarr': write_zarr,
    'zarr2': write_zarr,
    'zarr3': write_zarr3,
    'n5': write_n5,
    'precomputed': write_precomputed,
}


@pytest.mark.parametrize('scheme', WRITERS)
@pytest.mark.parametrize('data', [RAW, CHANNELS], ids=['3d', '4d'])
def test_every_way_to_name_it(tmp_path, monkeypatch, scheme, data):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / 'group' / 'raw'
    WRITERS[scheme](place, data)
    specs = [
        f'{scheme}://{place}',
        f'{scheme}://{place}/',
        f'{scheme}://{place.parent}:raw',
        f'{scheme}://group/raw',
        f'{scheme}://file://{place}',
        str(place),
        f'{place}/',
        f'{place.parent}:raw',
        'group/raw',
        f'{tmp_path}:group/raw',
    ]
    for spec in specs:
        with open_volume(spec) as volume:
            assert volume.name == spec
            assert volume.shape_zyx == Zyx(4, 5, 7)
            assert volume.box == Box.of_shape(SHAPE_ZYX)
            assert volume.dtype == np.uint16
            assert volume.channels == (None if data.ndim == 3 else 2)
            np.testing.assert_array_equal(volume.read(volume.box), data)
            np.testing.assert_array_equal(volume.read(PART), data[PART_ZYX])


@pytest.mark.parametrize('data', [RAW, CHANNELS], ids=['3d', '4d'])
def test_precomputed_offset_is_the_start_of_the_box(tmp_path, data):
    write_precomputed(tmp_path / 'raw', data, offset_xyz=(10, 200, 3000))
    volume = open_volume(f'precomputed://{tmp_path}/raw')
    assert volume.box == Box(Xyz(10, 200, 3000), Xyz(7, 5, 4))
    np.testing.assert_array_equal(volume.read(volume.box), data)
    moved = PART.relative_to(Xyz(-10, -200, -3000))
    np.testing.assert_array_equal(volume.read(moved), data[PART_ZYX])
    with pytest.raises(UserError, match=r'start x,y,z 10,200,3000 \(z,y,x 3000,200,10\)'):
        volume.read(PART)


@pytest.mark.parametrize(
    ('driver', 'names', 'key'),
    [('zarr3', 'xyz', 'dimension_names'), ('zarr3', 'yczx', 'dimension_names'),
     ('zarr3', 'ZYX', 'dimension_names'), ('n5', 'zyx', 'axes'), ('n5', 'xyzc', 'axes')],
)  # fmt: skip
def test_named_dimensions_are_followed(tmp_path, driver, names, key):
    data = CHANNELS if 'c' in names else RAW
    order = ['czyx'[-data.ndim :].index(name) for name in names.lower()]
    write(driver, tmp_path / 'raw', data.transpose(order), metadata={key: list(names)})
    volume = open_volume(str(tmp_path / 'raw'))
    np.testing.assert_array_equal(volume.read(volume.box), data)


@pytest.mark.parametrize('dtype', ['u1', 'i4', 'u8', 'i8', 'f4', '?'])
def test_types_and_labels(tmp_path, dtype):
    write_zarr(tmp_path / 'raw', RAW.astype(dtype))
    volume = open_volume(f'zarr://{tmp_path}/raw')
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume.read(PART), RAW.astype(dtype)[PART_ZYX])
    if dtype == 'f4':
        with pytest.raises(UserError, match='labels must be integers'):
            volume.require_labels()
    else:
        volume.require_labels()


@pytest.mark.parametrize(('names', 'key'), [(['c', 'z', 'y', 'x'], 2), (['x', 'y', 'z', 'c'], 3)])
def test_a_channel_of_any_order(tmp_path, names, key):
    """Stored first as by OME-Zarr or last as by many: the number after # is that of the channel."""
    channels = np.stack([RAW, RAW[::-1], RAW + 1, RAW[:, ::-1]])
    stored = channels if names[0] == 'c' else channels.T
    write('zarr3', tmp_path / 'v', stored, metadata={'dimension_names': names})
    with open_volume(f'{tmp_path}/v#{key}') as volume:
        part = Box(Xyz(1, 2, 0), Xyz(3, 2, 2))
        np.testing.assert_array_equal(volume.read(part), channels[key][part.slices_zyx])


def test_named_volumes(tmp_path):
    write_zarr(tmp_path / 'a', RAW)
    write_n5(tmp_path / 'run:3' / 'b', RAW)
    places = {
        'url': f'zarr://{tmp_path}/a',
        'folder': f'{tmp_path}/a',
        'colon': f'n5://{tmp_path}/run:3:b',
        'both': f'{tmp_path}/run:3:b',
    }
    named = split_named([f'{name}:{place}' for name, place in places.items()])
    assert named == places
    for spec in named.values():
        np.testing.assert_array_equal(open_volume(spec).read(PART), RAW[PART_ZYX])


@pytest.mark.parametrize('field', ['hdf5', 'tensorstore'])
def test_decorated_volume(tmp_path, field):
    write_n5(tmp_path / 'raw', RAW)
    kvstore = {'driver': 'file', 'path': f'{tmp_path}/raw'}
    text = json.dumps({'driver': 'n5', 'kvstore': kvstore})
    decorated = inference_pb2.DecoratedVolume()
    setattr(decorated, field, text if field == 'tensorstore' else f'n5://{tmp_path}/raw')
    volume = VolumeSource.from_proto(decorated, 'image').open()
    np.testing.assert_array_equal(volume.read(PART), RAW[PART_ZYX])


def test_json_never_makes_or_deletes_a_volume(tmp_path):
    write_zarr(tmp_path / 'raw', RAW)
    creating = {'create': True, 'delete_existing': True, 'dtype': 'uint16'}
    for name in ('raw', 'new'):
        kvstore = {'driver': 'file', 'path': f'{tmp_path}/{name}'}
        text = json.dumps({'driver': 'zarr', 'kvstore': kvstore, **creating})
        decorated = inference_pb2.DecoratedVolume(tensorstore=text)
        if name == 'raw':
            volume = VolumeSource.from_proto(decorated, 'image').open()
            np.testing.assert_array_equal(volume.read(volume.box), RAW)
        else:
            with pytest.raises(UserError, match=r'image\.tensorstore cannot be opened: NOT_'):
                VolumeSource.from_proto(decorated, 'image').open()
    assert [child.name for child in tmp_path.iterdir()] == ['raw']


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'image.tensorstore is not JSON: '),
        ('{"driver": "n5", "driver": "zarr"}', "image.tensorstore has the key 'driver' twice"),
        ('[]', 'image.tensorstore must be a JSON object with a "driver"'),
        ('{"kvstore": "file://a"}', 'must be a JSON object with a "driver"'),
        ('{"driver": "tiff3d"}', 'may be on another machine, .*"tiff3d"}, which is not opened'),
        ('{"driver": "zarr"}', 'image.tensorstore cannot be opened: .*"kvstore" must be'),
    ],
)
def test_json_errors(text, message):
    with pytest.raises(UserError, match=message):
        VolumeSource.from_proto(inference_pb2.DecoratedVolume(tensorstore=text), 'image').open()


def test_unknown_scheme_names_those_that_exist():
    with pytest.raises(
        UserError,
        match=r"'tiff://a': unknown kind of volume tiff://; known are "
        'zarr://, zarr2://, zarr3://, n5://, precomputed://',
    ):
        open_volume('tiff://a')


@pytest.mark.parametrize(
    ('url', 'dataset', 'kvstore'),
    [
        ('zarr://s3://bucket/a', '', 's3://bucket/a'),
        ('zarr://gs://bucket/a/', 'g/raw/', 'gs://bucket/a/g/raw'),
        ('zarr://http://host:80/a', '', 'http://host:80/a'),
        ('zarr:///d/a', '/raw', {'driver': 'file', 'path': '/d/a/raw'}),
        ('zarr://a', '', {'driver': 'file', 'path': str(Path('a').absolute())}),
    ],
)
def test_remote_places_are_left_to_tensorstore(url, dataset, kvstore):
    assert parse_url(url, dataset) == {'driver': 'zarr', 'kvstore': kvstore}


@pytest.mark.parametrize('spec', ['zarr://{}/b', 'n5://{}/a', 'zarr3://{}/a', '{}/bad'])
def test_missing_and_damaged_volumes_give_a_short_line(tmp_path, spec):
    write_zarr(tmp_path / 'a', RAW)
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / '.zarray').write_text('{"shape"')
    spec = spec.format(tmp_path)
    with pytest.raises(UserError) as caught:
        open_volume(spec)
    message = str(caught.value)
    start = f'{spec}/.zarray is damaged' if spec.endswith('bad') else f'{spec} cannot be opened: '
    assert message.startswith(start)
    assert len(message.splitlines()) == 1
    assert 'tensorstore_spec' not in message


@pytest.mark.parametrize('encoding', ['compresso', 'crackle', 'fpzip', 'jpegxl'])
def test_encodings_of_precomputed_that_are_not_read(tmp_path, encoding):
    """CloudVolume writes these; TensorStore reads raw, png, jpeg and compressed_segmentation."""
    write_precomputed(tmp_path / 'v', RAW)
    info = json.loads((tmp_path / 'v' / 'info').read_text())
    info['scales'][0]['encoding'] = encoding
    (tmp_path / 'v' / 'info').write_text(json.dumps(info))
    with pytest.raises(UserError) as caught:
        open_volume(f'{tmp_path}/v')
    assert str(caught.value) == (
        f'{tmp_path}/v cannot be opened: chunks of the encoding {encoding} are not supported; write the volume '
        'anew as compressed_segmentation or raw, for instance with CloudVolume'
    )


@pytest.mark.parametrize(
    ('driver', 'file', 'member', 'name'),
    [
        ('zarr', '.zarray', 'compressor', 'lz4'),
        ('zarr3', 'zarr.json', 'codecs', 'numcodecs.pcodec'),
    ],
)
def test_codecs_of_zarr_that_are_not_read(tmp_path, driver, file, member, name):
    write(driver, tmp_path / 'v', RAW)
    metadata = json.loads((tmp_path / 'v' / file).read_text())
    codec = {'id': name} if driver == 'zarr' else [{'name': 'bytes'}, {'name': name}]
    (tmp_path / 'v' / file).write_text(json.dumps(metadata | {member: codec}))
    with pytest.raises(
        UserError, match=f'v cannot be opened: the codec {name} is not supported; write'
    ):
        open_volume(f'{tmp_path}/v')


def test_damaged_chunk_names_the_volume(tmp_path):
    write('zarr', tmp_path / 'raw', RAW, metadata={'compressor': {'id': 'zlib', 'level': 1}})
    (tmp_path / 'raw' / '0.0.0').write_bytes(b'damaged')
    volume = open_volume(f'{tmp_path}/raw')
    with pytest.raises(UserError, match=f'{tmp_path}/raw'):
        volume.read(PART)


@pytest.mark.parametrize('data', [RAW[0], CHANNELS[:, np.newaxis]], ids=['2d', '5d'])
def test_other_ranks_are_refused(tmp_path, data):
    write_zarr(tmp_path / 'raw', data)
    with pytest.raises(UserError, match=r'raw has shape \(.*\); expected 3-d \[z, y, x\] or 4-d'):
        open_volume(f'{tmp_path}/raw')


@pytest.mark.parametrize(
    ('marker', 'content'),
    [
        (None, ''),
        ('.zgroup', '{"zarr_format": 2}'),
        ('attributes.json', '{"n5": "2.5.1"}'),
        ('zarr.json', '{"zarr_format": 3, "node_type": "group"}'),
    ],
)
def test_a_directory_without_an_array_lists_what_is_below(tmp_path, marker, content):
    for name in ('volume_b', 'volume_a'):
        (tmp_path / name).mkdir()
    (tmp_path / 'file').touch()
    if marker:
        (tmp_path / marker).write_text(content)
    with pytest.raises(UserError, match=f'{tmp_path} .*; below it are volume_a, volume_b$'):
        open_volume(str(tmp_path))


def test_an_empty_directory_and_one_that_is_missing(tmp_path):
    with pytest.raises(UserError, match=r'holds no Zarr, N5 or precomputed array \(.*info\)$'):
        open_volume(str(tmp_path))
    with pytest.raises(UserError, match=r'no such folder: .*nothing$'):
        open_volume(f'{tmp_path}:nothing')
