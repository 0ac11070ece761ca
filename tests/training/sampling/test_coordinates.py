"""Coordinate files, decoded: frequencies, margins, order, names, and invalid input."""

from __future__ import annotations

import collections
import gzip
import logging

import h5py
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.training.sampling.coordinates import CandidateVolume, build_coordinates, sample
from ffn.training.sampling.partition_config import PartitionConfig
from ffn.training.sampling.partitions import write_partitions
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from tests.real_data import PARTITION_COUNTS, THRESHOLDS, training2_labels


def decode(*paths) -> tuple[np.ndarray, list[str]]:
    """Centres (int64 [n, 3], x, y, z) and volume names of GZIP TFRecord files, by TensorFlow."""
    centers, names = [], []
    for record in tf.data.TFRecordDataset([str(p) for p in paths], compression_type='GZIP'):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        centers.append(list(feature['center'].int64_list.value))
        names.extend(value.decode() for value in feature['label_volume_name'].bytes_list.value)
    return np.array(centers, np.int64), names


def partition_file(folder, name: str, partitions: np.ndarray) -> str:
    """Writes a partition volume; returns 'path:dataset'."""
    with h5py.File(folder / f'{name}.h5', 'w') as file:
        file['af'] = partitions
    return f'{folder}/{name}.h5:af'


@pytest.fixture
def partitions() -> np.ndarray:
    """Values 0, 1, 2 and 7 of very different frequency, 255 in places; [z, y, x]."""
    rng = np.random.default_rng(7)
    return rng.choice([0, 1, 2, 7, 255], (11, 15, 19), p=[0.5, 0.02, 0.2, 0.18, 0.1]).astype('u1')


@pytest.mark.parametrize('margin', [Zyx(1, 2, 3), Zyx(0, 0, 0), Zyx(0, 7, 0), Zyx(5, 0, 9)])
def test_equal_frequencies_inside_the_margin(tmp_path, partitions, margin):
    spec = partition_file(tmp_path, 'p', partitions)
    sizes = build_coordinates({'train': spec}, f'{tmp_path}/c', margin, seed=1)
    centers, names = decode(tmp_path / 'c')
    inner = Box.of_shape(partitions.shape).shrink(margin.xyz)
    assert set(names) == {'train'}
    assert (centers >= inner.start).all()
    assert (centers < inner.end).all()
    values, counts = np.unique(partitions[inner.slices_zyx], return_counts=True)
    expected = {int(v): int(c) for v, c in zip(values, counts, strict=True) if v != 255}
    assert sizes == expected

    x, y, z = centers.T
    drawn = partitions[z, y, x]
    largest = max(expected.values())
    for value, count in expected.items():
        of_value = collections.Counter(map(tuple, centers[drawn == value].tolist()))
        assert sum(of_value.values()) == largest
        # Every voxel is drawn, each equally often or once more.
        assert len(of_value) == count
        assert set(of_value.values()) <= {largest // count, -(-largest // count)}
    assert len(centers) == largest * len(expected)


def test_shuffled_over_partitions(tmp_path, partitions):
    build_coordinates(
        {'t': partition_file(tmp_path, 'p', partitions)}, f'{tmp_path}/c', Zyx(0, 0, 0), seed=2
    )
    x, y, z = decode(tmp_path / 'c')[0].T
    drawn = partitions[z, y, x]
    for part in np.array_split(drawn, 4):
        for value in (0, 1, 2, 7):
            assert abs(np.mean(part == value) - 0.25) < 0.06


def test_volumes_are_sampled_together(tmp_path):
    """Partition sizes count over all volumes; names of different length, varints of both widths."""
    rng = np.random.default_rng(3)
    volumes = {
        'a': rng.choice([0, 1], (6, 7, 8), p=[0.9, 0.1]).astype(np.uint8),
        'longer-name': rng.choice([1, 3], (5, 6, 200), p=[0.2, 0.8]).astype(np.uint8),
    }
    specs = {name: partition_file(tmp_path, name, array) for name, array in volumes.items()}
    sizes = build_coordinates(specs, f'{tmp_path}/c', Zyx(0, 0, 0), seed=4)
    both = np.concatenate([array.ravel() for array in volumes.values()])
    assert sizes == {v: int((both == v).sum()) for v in (0, 1, 3)}
    centers, names = decode(tmp_path / 'c')
    drawn = [volumes[name][z, y, x] for name, (x, y, z) in zip(names, centers, strict=True)]
    counts = collections.Counter(map(int, drawn))
    assert counts == dict.fromkeys((0, 1, 3), max(sizes.values()))
    of_one = [name for name, value in zip(names, drawn, strict=True) if value == 1]
    share = (volumes['a'] == 1).sum() / sizes[1]
    assert of_one.count('a') / len(of_one) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize('shards', [1, 3])
def test_seed_makes_identical_files(tmp_path, partitions, shards):
    volumes = {'train': partition_file(tmp_path, 'p', partitions)}
    for run, seed in enumerate([5, 5, 6]):
        (tmp_path / f'{run}').mkdir()
        build_coordinates(volumes, f'{tmp_path}/{run}/c', Zyx(1, 1, 1), seed=seed, shards=shards)
    first, again, other = (
        {path.name: path.read_bytes() for path in (tmp_path / f'{run}').iterdir()}
        for run in range(3)
    )
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_without_a_seed_runs_differ(tmp_path, partitions):
    volumes = {'train': partition_file(tmp_path, 'p', partitions)}
    for run in 'ab':
        build_coordinates(volumes, f'{tmp_path}/{run}', Zyx(1, 1, 1))
    assert (tmp_path / 'a').read_bytes() != (tmp_path / 'b').read_bytes()


def test_shards_hold_the_records_of_one_file_in_order(tmp_path, partitions):
    volumes = {'train': partition_file(tmp_path, 'p', partitions)}
    build_coordinates(volumes, f'{tmp_path}/one', Zyx(1, 1, 1), seed=5)
    build_coordinates(volumes, f'{tmp_path}/many', Zyx(1, 1, 1), seed=5, shards=3)
    shards = [tmp_path / f'many-{i:05d}-of-00003' for i in range(3)]
    data = [gzip.decompress(path.read_bytes()) for path in shards]
    assert b''.join(data) == gzip.decompress((tmp_path / 'one').read_bytes())
    assert max(map(len, data)) - min(map(len, data)) <= len(data[0]) // 1000
    assert {path.name for path in tmp_path.iterdir()} == {
        'p.h5',
        'one',
        *(path.name for path in shards),
    }


def test_shards_of_another_run_are_pointed_out(tmp_path, partitions, caplog):
    volumes = {'train': partition_file(tmp_path, 'p', partitions)}
    for shards in (3, 2):
        with caplog.at_level(logging.WARNING, 'absl'):
            assert '3 shards of another run' not in caplog.text
            build_coordinates(volumes, f'{tmp_path}/c', Zyx(1, 1, 1), seed=5, shards=shards)
    assert '3 shards of another run' in caplog.text


def test_more_records_than_a_chunk(tmp_path, monkeypatch, partitions):
    volumes = {'train': partition_file(tmp_path, 'p', partitions)}
    build_coordinates(volumes, f'{tmp_path}/whole', Zyx(0, 0, 0), seed=5)
    monkeypatch.setattr('ffn.training.sampling.coordinates.CHUNK_RECORDS', 101)
    build_coordinates(volumes, f'{tmp_path}/chunks', Zyx(0, 0, 0), seed=5)
    assert gzip.decompress((tmp_path / 'chunks').read_bytes()) == gzip.decompress(
        (tmp_path / 'whole').read_bytes()
    )


def test_coordinates_of_background_alone_are_told(tmp_path, partitions, caplog):
    for values, told in ((partitions, False), (np.where(partitions == 255, 255, 0), True)):
        spec = partition_file(tmp_path, 'p', values.astype('u1'))
        build_coordinates({'train': spec}, f'{tmp_path}/c', Zyx(1, 2, 3), quiet=True)
        assert ('all coordinates are of background' in caplog.text) == told


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(4, 900))
def test_max_coordinates_keeps_frequencies_equal(seed, most):
    values = np.random.default_rng(seed).choice(
        [0, 1, 2, 7, 255], 600, p=[0.5, 0.02, 0.2, 0.18, 0.1]
    )
    values[:4] = [0, 1, 2, 7]
    volume = CandidateVolume('v', Box.of_shape((10, 10, 6)), values.astype(np.uint8))
    drawn, sizes = sample([volume], np.random.default_rng(seed), most)
    assert np.bincount(values[drawn])[[0, 1, 2, 7]].tolist() == [len(drawn) // 4] * 4
    assert len(drawn) == 4 * min(max(sizes.values()), most // 4)


def test_absolute_coordinates_from_a_volume_with_an_origin(tmp_path, caplog):
    """Labels of a precomputed volume with an offset, through both stages."""
    import tensorstore

    labels = np.zeros((12, 14, 16), np.uint32)
    labels[5:9, 4:9, 3:13] = 8
    store = tensorstore.open(
        {
            'driver': 'neuroglancer_precomputed',
            'kvstore': {'driver': 'file', 'path': str(tmp_path / 'labels')},
            'multiscale_metadata': {
                'data_type': 'uint32',
                'num_channels': 1,
                'type': 'segmentation',
            },
            'scale_metadata': {
                'size': [16, 14, 12],
                'voxel_offset': [1000, -40, 70],
                'encoding': 'raw',
                'chunk_size': [16, 16, 16],
                'resolution': [8, 9, 33],
            },
            'create': True,
        }
    ).result()
    store[...] = labels.transpose(2, 1, 0)[..., np.newaxis]
    config = PartitionConfig((0.5,), Xyz(1, 2, 3), min_size=1)
    write_partitions(f'precomputed://{tmp_path}/labels', f'{tmp_path}/p.h5:af', config)
    with h5py.File(tmp_path / 'p.h5') as file:
        assert file['af'].attrs['origin_xyz'].tolist() == [1000, -40, 70]
        assert file['af'].attrs['bounding_boxes'].tolist() == [[[1001, -38, 73], [14, 10, 6]]]
        assert file['af'].attrs['resolution'].tolist() == [33, 9, 8]
        computed = file['af'][:]
    build_coordinates({'t': f'{tmp_path}/p.h5:af'}, f'{tmp_path}/c', Zyx(0, 0, 0), seed=1)
    centers = decode(tmp_path / 'c')[0]
    expected = np.argwhere(computed != 255)[:, ::-1] + (1000, -40, 70)
    assert set(map(tuple, centers.tolist())) == set(map(tuple, expected.tolist()))
    assert not [record for record in caplog.records if 'do not exist' in record.getMessage()]


@pytest.mark.parametrize(
    ('array', 'options', 'message'),
    [
        (np.ones((9, 9, 9), np.int32), {}, 'holds int32; expected uint8'),
        (np.ones((2, 9, 9, 9), np.uint8), {}, '2 channels'),
        (np.full((9, 9, 9), 255, np.uint8), {}, 'no voxel to sample in train'),
        (
            np.ones((9, 10, 11), np.uint8),
            {'margin': Zyx(1, 5, 2)},
            r'z,y,x 1,5,2 \(x,y,z 2,5,1\).*z,y,x 9,10,11 \(x,y,z 11,10,9\)',
        ),
        (np.ones((9, 9, 9), np.uint8), {'margin': Zyx(1, -5, 2)}, 'no negative'),
        (np.ones((9, 9, 9), np.uint8), {'shards': 0}, '--shards is 0'),
        (np.ones((9, 9, 9), np.uint8), {'seed': -1}, '--seed is -1'),
        (np.ones((9, 9, 9), np.uint8), {'max_coordinates': 0}, 'at least 1, one for'),
    ],
)
def test_errors_leave_what_was_there(tmp_path, array, options, message):
    spec = partition_file(tmp_path, 'p', array)
    (tmp_path / 'c').write_bytes(b'of an earlier run')
    arguments = {'margin': Zyx(1, 1, 1), **options}
    with pytest.raises(UserError, match=message):
        build_coordinates({'train': spec}, f'{tmp_path}/c', **arguments)
    assert (tmp_path / 'c').read_bytes() == b'of an earlier run'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['c', 'p.h5']


def test_no_shard_appears_when_one_cannot_be_written(tmp_path, partitions, monkeypatch):
    spec = partition_file(tmp_path, 'p', partitions)
    from ffn.training.sampling import coordinates

    write, calls = coordinates.write_gzip, []

    def fails_at_the_third(file, parts):
        calls.append(file)
        if len(calls) == 3:
            raise OSError(28, 'No space left on device')
        write(file, parts)

    monkeypatch.setattr(coordinates, 'write_gzip', fails_at_the_third)
    with pytest.raises(OSError, match='No space left'):
        build_coordinates({'t': spec}, f'{tmp_path}/c', Zyx(1, 1, 1), seed=1, shards=4)
    assert [path.name for path in tmp_path.iterdir()] == ['p.h5']


@pytest.mark.slow
def test_whole_sample_volume(tmp_path, data_dir):
    """All 16 million records of the sample volume, decoded again by TensorFlow."""
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['stack'] = training2_labels(data_dir)
    write_partitions(
        f'{tmp_path}/labels.h5:stack',
        f'{tmp_path}/p.h5:af',
        PartitionConfig(THRESHOLDS, Xyz(24, 24, 24)),
    )
    with h5py.File(tmp_path / 'p.h5') as file:
        computed = file['af'][:]
    volumes = {'train': f'{tmp_path}/p.h5:af'}
    for name in 'ab':
        sizes = build_coordinates(volumes, f'{tmp_path}/{name}', Zyx(24, 24, 24), seed=3)
    assert tuple(sizes.values()) == PARTITION_COUNTS
    assert (tmp_path / 'a').read_bytes() == (tmp_path / 'b').read_bytes()

    features = {
        'center': tf.io.FixedLenFeature([3], tf.int64),
        'label_volume_name': tf.io.FixedLenFeature([], tf.string),
    }
    records = tf.data.TFRecordDataset(f'{tmp_path}/a', compression_type='GZIP')
    counts = np.zeros(256, np.int64)
    for batch in records.batch(2**16).map(lambda b: tf.io.parse_example(b, features)):
        x, y, z = batch['center'].numpy().T
        assert min(x.min(), y.min(), z.min()) >= 24
        assert max(x.max(), y.max(), z.max()) < 250 - 24
        assert (batch['label_volume_name'].numpy() == b'train').all()
        counts += np.bincount(computed[z, y, x], minlength=256)
    assert counts.tolist() == [1171318] * 14 + [0] * 242
