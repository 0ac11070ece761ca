"""HDF5 volumes by name: forms of the string, shapes, what is refused, and that nothing is locked."""

from __future__ import annotations

import fcntl
import logging
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.inference import inference_pb2
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.hdf5 import describe_datasets
from ffn.volumes.specs import split_named
from ffn.volumes.volume import Volume, VolumeSource, open_volume

SHAPE_ZYX = (4, 5, 7)
RAW = np.random.default_rng(0).integers(0, 255, SHAPE_ZYX, np.uint8)
CHANNELS = np.stack([RAW, RAW[:, ::-1], RAW[::-1]])
WHOLE = Box.of_shape(SHAPE_ZYX)


@pytest.fixture
def path(tmp_path) -> Path:
    """A file with volumes and with datasets that are none."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['raw'] = RAW
        file['raw'].attrs['origin_xyz'] = [1, 2, 3]
        file['group/channels'] = CHANNELS
        file['one'] = RAW[np.newaxis]
        file['float'] = RAW.astype(np.float32)
        file['flat'] = RAW[0]
        file['deep'] = np.stack([RAW, RAW])[:, np.newaxis]
        file['number'] = 3
    return tmp_path / 'v.h5'


def test_3d(path):
    with open_volume(f'{path}:raw') as volume:
        assert volume.name == f'{path}:raw'
        assert (volume.shape_zyx, volume.channels, volume.dtype) == (Zyx(4, 5, 7), None, np.uint8)
        assert volume.box == Box(Xyz(0, 0, 0), Xyz(7, 5, 4))
        np.testing.assert_array_equal(volume.attrs['origin_xyz'], [1, 2, 3])
        np.testing.assert_array_equal(volume.read(WHOLE), RAW)
        part = volume.read(Box(Xyz(1, 2, 3), Xyz(5, 2, 1)))
        assert type(part) is np.ndarray
        np.testing.assert_array_equal(part, RAW[3:4, 2:4, 1:6])
        assert volume.single_channel() is volume
        assert volume.require_labels() is volume  # no label of this type means 'not labelled'


def test_4d(path):
    with open_volume(f'{path}:group/channels') as volume:
        assert (volume.shape_zyx, volume.channels) == (Zyx(4, 5, 7), 3)
        part = volume.read(Box(Xyz(1, 2, 3), Xyz(5, 2, 1)))
        np.testing.assert_array_equal(part, CHANNELS[:, 3:4, 2:4, 1:6])
        with pytest.raises(UserError, match='channels has 3 channels; expected one'):
            volume.single_channel()
        with pytest.raises(UserError, match='channels has 3 channels; expected one'):
            volume.require_labels()


def test_the_name_chooses_a_channel(path):
    part = Box(Xyz(1, 2, 3), Xyz(5, 2, 1))
    with open_volume(f'{path}:group/channels#2') as volume:
        assert (volume.channels, volume.name) == (None, f'{path}:group/channels#2')
        np.testing.assert_array_equal(volume.read(part), CHANNELS[2, 3:4, 2:4, 1:6])
        assert volume.single_channel() is volume
    with open_volume(f'{path}:raw#0') as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), RAW)
    with pytest.raises(UserError, match='has 3 channels; channel 3 is asked for'):
        open_volume(f'{path}:group/channels#3')
    with pytest.raises(UserError, match=r'expected one: add #0 to #2 to its name'):
        open_volume(f'{path}:group/channels').single_channel()


def test_one_channel_is_a_volume(path):
    with open_volume(f'{path}:one') as volume:
        assert volume.channels == 1
        labels = volume.require_labels()
        assert labels.channels is None
        np.testing.assert_array_equal(labels.read(WHOLE), RAW)


@settings(max_examples=50, deadline=None)
@given(st.data(), st.tuples(*[st.integers(-50, 50)] * 3))
def test_boxes_are_absolute(data, origin_zyx):
    spans = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in SHAPE_ZYX]
    start = np.add([a for a, _ in spans], origin_zyx)
    box = Box.from_zyx(start, [b - a for a, b in spans])
    slices = tuple(slice(a, b) for a, b in spans)
    volume = Volume('raw', RAW, {}, origin_zyx)
    assert volume.box.start.zyx == origin_zyx
    np.testing.assert_array_equal(volume.read(box), RAW[slices])
    several = Volume('channels', CHANNELS, {}, origin_zyx)
    np.testing.assert_array_equal(several.read(box), CHANNELS[(slice(None), *slices)])


@pytest.mark.parametrize('dtype', ['i1', 'u1', 'i4', 'u4', 'i8', 'u8', '>i4', '?'])
def test_labels_of_any_integer_type(dtype):
    volume = Volume('labels', RAW.astype(dtype), {}).require_labels()
    native = np.dtype(dtype).newbyteorder('=')
    assert volume.dtype == volume.read(volume.box).dtype == native
    stored = RAW.astype(native)
    np.testing.assert_array_equal(volume.as_stored().read(volume.box), stored)
    np.testing.assert_array_equal(volume.read(volume.box), np.maximum(stored, 0))


def test_closed_after_the_block(path):
    with open_volume(f'{path}:one') as volume:
        one = volume.single_channel()
    for closed in (volume, one):
        with pytest.raises((ValueError, RuntimeError, OSError)):
            closed.read(WHOLE)


@pytest.mark.parametrize('start', [(-1, 0, 0), (0, 0, 1), (0, 4, 0), (6, 0, 0)])
def test_box_outside_names_both_orders(path, start):
    box = Box(Xyz(*start), Xyz(2, 3, 4))
    with open_volume(f'{path}:raw') as volume, pytest.raises(UserError) as caught:
        volume.read(box)
    assert str(caught.value) == f'box {box} is not inside {path}:raw, which covers {WHOLE}'
    assert 'size x,y,z 2,3,4 (z,y,x 4,3,2)' in str(caught.value)
    assert 'size x,y,z 7,5,4 (z,y,x 4,5,7)' in str(caught.value)


@pytest.mark.parametrize(
    ('dataset', 'message'),
    [
        ('flat', r'flat has shape \(5, 7\); expected 3-d \[z, y, x\] or 4-d \[c, z, y, x\]'),
        ('deep', r'deep has shape \(2, 1, 4, 5, 7\); expected 3-d'),
        ('number', r'number has shape \(\); expected 3-d'),
        ('nothing', r"v\.h5 holds no dataset 'nothing'; it holds deep \(2, 1, 4, 5, 7\), "
                    r'flat .*, group/channels \(3, 4, 5, 7\), .*raw \(4, 5, 7\)'),
        ('group', "holds no dataset 'group'; it holds .*group/channels"),
        ('group/nothing', "holds no dataset 'group/nothing'; it holds .*group/channels"),
        ('raw/nothing', "holds no dataset 'raw/nothing'; it holds .*raw"),
    ],
)  # fmt: skip
def test_datasets_that_are_no_volume(path, dataset, message):
    with pytest.raises(UserError, match=message):
        open_volume(f'{path}:{dataset}')
    with h5py.File(path, 'r+'):  # h5py refuses this while a reader is left open
        pass


def test_no_voxels(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['flat'], file['none'] = np.zeros((0, 5, 6)), np.zeros((0, 2, 3, 4))
    for name, shape in (('flat', r'\(0, 5, 6\)'), ('none', r'\(0, 2, 3, 4\)')):
        with pytest.raises(UserError, match=f'{name} has shape {shape}: it holds no voxels'):
            open_volume(f'{tmp_path}/v.h5:{name}')


def test_float_labels_are_refused(path):
    with open_volume(f'{path}:float') as volume:
        with pytest.raises(UserError, match='float holds float32; labels must be integers'):
            volume.require_labels()


def test_long_lists_of_datasets_are_cut(path):
    with h5py.File(path, 'w') as file:
        assert describe_datasets(file) == 'no dataset'
        for i in range(25):
            file[f'd{i:02}'] = [i]
        text = describe_datasets(file)
    assert text.startswith('d00 (1,), d01 (1,)')
    assert text.endswith('d19 (1,) and 5 more')


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('text.h5', lambda whole: b'hello', 'text.h5 is not a readable HDF5 file'),
        ('empty.h5', lambda whole: b'', 'empty.h5 is not a readable HDF5 file'),
        ('short.h5', lambda whole: whole[:20], 'short.h5 is not a readable HDF5 file'),
        ('half.h5', lambda whole: whole[: len(whole) // 2], 'half.h5 is not a readable HDF5 file'),
        ('cut.h5', lambda whole: whole[:-1], 'cut.h5 is not a readable HDF5 file .*truncated'),
    ],
)
def test_truncated_and_foreign_files(path, name, content, message):
    path.with_name(name).write_bytes(content(path.read_bytes()))
    with pytest.raises(UserError, match=message):
        open_volume(f'{path.with_name(name)}:raw')
    with pytest.raises(UserError, match=r'broken off, copy it again .* or write it anew'):
        open_volume(f'{path.with_name(name)}:raw')


def test_damage_inside_the_file_names_the_volume(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('raw', data=RAW, compression='gzip', chunks=SHAPE_ZYX)
        chunk = file['raw'].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)
    with open_volume(f'{path}:raw') as volume, pytest.raises(UserError, match=r'v\.h5:raw'):
        volume.read(WHOLE)


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('absent.h5:raw', 'no such file: absent.h5'),
        ('absent.h5', 'no such file or folder: absent.h5; expected path:dataset .*zarr://'),
        ('absent.h5:', 'no such file or folder: absent.h5; expected path:dataset'),
        ('d/absent.zarr@2#0', 'no such file or folder: d/absent.zarr; expected path:dataset'),
        ('v.h5', "'v.h5' names no dataset; expected path:dataset .*zarr://"),
        ('a:b/absent.h5:raw', 'no such file: a:b/absent.h5$'),
        ('name:v.h5:raw', 'no such file: name:v.h5; expected path:dataset .*without a name'),
        ('', "'' names no dataset; expected path:dataset"),
        (':raw', "':raw'.*expected path:dataset"),
    ],
)
def test_wrong_forms(path, monkeypatch, spec, message):
    monkeypatch.chdir(path.parent)
    with pytest.raises(UserError, match=message):
        open_volume(spec)


@pytest.mark.parametrize('shape', [(7, 5, 4), (2, 7, 5, 4), (5, 5, 4)])
def test_axes_that_look_swapped(caplog, shape):
    with caplog.at_level(logging.WARNING, 'absl'):
        Volume('stack', np.zeros(shape), {})
    z, y, x = shape[-3:]
    assert f'x is the shortest axis of shape z,y,x {z},{y},{x} (x,y,z {x},{y},{z})' in caplog.text
    assert 'expected [z, y, x]' in caplog.text


@pytest.mark.parametrize('shape', [(4, 5, 7), (5, 4, 7), (4, 7, 4), (7, 4, 4), (4, 4, 4)])
def test_axes_in_order_are_not_mentioned(caplog, shape):
    with caplog.at_level(logging.WARNING, 'absl'):
        Volume('stack', np.zeros(shape), {})
    assert not caplog.text


def test_colon_in_the_path(path):
    folder = path.parent / 'run:3' / 'a:b'
    folder.mkdir(parents=True)
    moved = path.rename(folder / 'v:1.h5')
    named = split_named([f'validation:{moved}:group/channels'])
    assert named == {'validation': f'{moved}:group/channels'}
    with open_volume(named['validation']) as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), CHANNELS)


def test_decorated_volume(path):
    with VolumeSource.from_proto(
        inference_pb2.DecoratedVolume(hdf5=f'{path}:raw'), 'image'
    ).open() as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), RAW)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({}, 'image is not set; expected image { hdf5: "path:dataset" }'),
        ({'volinfo': 'a'}, 'image.volinfo is set but not supported'),
        ({'hdf5': 'a:b', 'decorator_specs': '{}'}, 'image.decorator_specs is set but not support'),
        ({'hdf5': 'absent.h5:raw'}, 'no such file: absent.h5'),
    ],
)
def test_decorated_volume_errors(fields, message):
    with pytest.raises(UserError, match=message):
        VolumeSource.from_proto(inference_pb2.DecoratedVolume(**fields), 'image').open()


def test_reading_never_changes_the_file(path):
    before, time = path.read_bytes(), path.stat().st_mtime_ns
    path.chmod(0o444)
    for dataset in ('raw', 'group/channels'):
        with open_volume(f'{path}:{dataset}') as volume:
            volume.read(WHOLE)
    with pytest.raises(UserError):
        open_volume(f'{path}:nothing')
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == time
    assert list(path.parent.iterdir()) == [path]


def locked(path: Path) -> bool:
    """Whether somebody holds the lock by which HDF5 keeps writers and readers apart."""
    with open(path, 'rb') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_readers_take_no_lock(path):
    with open_volume(f'{path}:raw'):
        assert not locked(path)


def test_a_file_that_the_process_has_open(path):
    with h5py.File(path, 'r') as file, open_volume(f'{path}:raw') as volume:
        np.testing.assert_array_equal(volume.read(WHOLE), file['raw'][:])


def test_a_file_that_is_being_written_can_be_read(path):
    writer = subprocess.Popen(
        [
            sys.executable,
            '-c',
            'import h5py, sys\n'
            'with h5py.File(sys.argv[1], "r+") as file:\n'
            '    file["more"] = [1]; file.flush(); print(flush=True); sys.stdin.read()\n',
            str(path),
        ],
        env={'HDF5_USE_FILE_LOCKING': 'TRUE'},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout.readline() == b'\n'
        assert locked(path)
        with open_volume(f'{path}:raw') as volume:
            np.testing.assert_array_equal(volume.read(WHOLE), RAW)
        writer.stdin.close()
    assert writer.returncode == 0
