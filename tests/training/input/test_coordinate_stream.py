"""The stream of coordinates: where it can be taken up, how it is mixed and shared, what is damaged."""

import collections
import gzip
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.training import train_loop
from ffn.training.augmentation.config import parse_augmentation
from ffn.training.distribution import Replicas
from ffn.training.input import coordinate_stream
from ffn.training.input.coordinate_stream import (
    check_not_empty,
    check_volumes,
    coordinate_dataset,
    count_usable,
    usable_records,
)
from ffn.training.input.examples import ExampleSource
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from tests.training import sample

SHARDS = 3


def write_shards(folder, count=30, names=('v',), shards=SHARDS):
    """Centres with a number of their own, x, dealt out to files and volumes in turn."""
    files = []
    for shard in range(shards):
        path = folder / f'c-{shard:05d}-of-{shards:05d}'
        with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
            for x in range(shard, count, shards):
                writer.write(record((x, 3, 4), names[x // shards % len(names)]))
        files.append(str(path))
    return files


def record(center, name):
    def feature(**kind):
        return tf.train.Feature(**kind)

    features = {
        'center': feature(int64_list=tf.train.Int64List(value=center)),
        'label_volume_name': feature(bytes_list=tf.train.BytesList(value=[name.encode()])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_records(path, records):
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for one in records:
            writer.write(one)
    return str(path)


def take(count, files, seed=1, **kwargs):
    """(number, x, name) of the first coordinates."""
    stream = coordinate_dataset(files, seed, **kwargs).take(count).as_numpy_iterator()
    return [(int(number), int(xyz[0]), name.decode()) for number, xyz, name in stream]


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp('one'))


@pytest.fixture(scope='module')
def mixed(tmp_path_factory):
    """Two thirds are of u, v and w share the rest."""
    folder = tmp_path_factory.mktemp('mixed')
    return write_shards(folder, 90, names=['u', 'v', 'u', 'u', 'w', 'u'])


WEIGHTS = {'u': 1, 'v': 3, 'w': 0}


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 120), st.sampled_from([None, WEIGHTS]), st.sampled_from([(0, 1), (1, 2)]))
def test_skipping_gives_what_follows_after_so_many(mixed, skip, weights, shard):
    kwargs = {'volume_weights': weights, 'shard': shard}
    whole = take(skip + 40, mixed, **kwargs)
    assert [number for number, _, _ in whole] == list(range(skip + 40))
    assert take(40, mixed, skip=skip, **kwargs) == whole[skip:]


def test_every_pass_over_several_files_has_all_of_them_in_another_order(files):
    xs = [x for _, x, _ in take(90, files)]
    passes = [xs[start : start + 30] for start in (0, 30, 60)]
    for one in passes:
        assert sorted(one) == list(range(30))
    assert len(set(map(tuple, passes))) == 3
    assert xs != [x for _, x, _ in take(90, files, seed=2)]


def test_a_pass_is_mixed_over_the_files(files, monkeypatch):
    """However long they are."""
    monkeypatch.setattr(coordinate_stream, '_SHUFFLE_BUFFER', 2)
    shards = [x % SHARDS for _, x, _ in take(30, files)]
    assert all(len(set(shards[start : start + 10])) > 1 for start in (0, 10, 20))


def test_volumes_are_as_frequent_as_their_weights_say(mixed):
    names = collections.Counter(name for _, _, name in take(2000, mixed, volume_weights=WEIGHTS))
    assert names['v'] / 2000 == pytest.approx(3 / 4, abs=0.04)
    assert names['u'] / 2000 == pytest.approx(1 / 4, abs=0.04)
    assert names['w'] == 0


def test_each_volume_has_all_of_its_coordinates_in_a_pass_of_its_own(mixed):
    drawn = take(400, mixed, volume_weights={'v': 1, 'w': 2})
    for name, count in (('v', 15), ('w', 15)):
        xs = [x for _, x, n in drawn if n == name]
        for start in range(0, len(xs) - count + 1, count):
            assert len(set(xs[start : start + count])) == count


@pytest.mark.parametrize('workers', [2, 3, 7])
def test_processes_share_a_pass_between_them(files, workers):
    parts = []
    for worker in range(workers):
        own = len(range(worker, 30, workers))
        parts.append([x for _, x, _ in take(own, files, shard=(worker, workers))])
    assert sorted(itertools.chain(*parts)) == list(range(30))


@pytest.mark.parametrize('worker', [0, 1])
def test_each_process_gets_every_volume(tmp_path, worker):
    """A file for each volume: in turn, which is also how processes take them."""
    files = [
        write_records(tmp_path / name, [record((x, 3, 4), name) for x in range(8)])
        for name in ('v', 'w')
    ]
    drawn = take(200, files, volume_weights={'v': 1, 'w': 1}, shard=(worker, 2))
    assert collections.Counter(name for _, _, name in drawn)['w'] == pytest.approx(100, abs=30)


def test_processes_that_train_together_read_different_coordinates(tmp_path):
    sample.write_sample(tmp_path)
    for i in range(3):
        sample.write_coordinates(tmp_path / f'c{i}', sample.CENTERS_XYZ[i::3])
    config = sample.data_config(tmp_path, train_coords=f'{tmp_path}/c?')
    seen = []
    for worker in (0, 1):
        with ExampleSource(config, Zyx(3, 3, 3), 5, 2, (worker, 2)) as source:
            seen += [tuple(next(source).center) for _ in range(18)]
    assert sorted(seen) == sorted(sample.CENTERS_XYZ)


def test_processes_that_train_together_share_the_seed_of_the_order(tmp_path, monkeypatch):
    sample.write_sample(tmp_path)
    made = []

    def source(data, size, seed, ahead, shard):
        made.append((seed, shard))
        raise UserError('enough')

    monkeypatch.setattr(train_loop, 'ExampleSource', source)
    for worker in (0, 1):
        replicas = Replicas(tf.distribute.get_strategy(), worker, 2)
        with pytest.raises(UserError, match='enough'):
            train_loop.train(sample.train_config(tmp_path, seed=7), replicas=replicas)
    assert made == [(7, (0, 2)), (7, (1, 2))]


def test_they_augment_and_walk_differently(tmp_path):
    sample.write_sample(tmp_path)
    sample.write_coordinates(tmp_path / 'coordinates.tfrecord', [(13, 14, 11)] * 2)
    config = sample.data_config(tmp_path, augmentation=parse_augmentation('{"noise": {}}'))
    examples = []
    for worker in (0, 1):
        with ExampleSource(config, Zyx(3, 3, 3), 5, 2, (worker, 2)) as source:
            examples.append(next(source))
    assert examples[0].center == examples[1].center
    assert examples[0].walk_seed != examples[1].walk_seed
    assert not np.array_equal(*[np.sort(example.image, axis=None) for example in examples])


def damage(path, kind):
    """Makes a file of coordinates unusable from some place on; returns how many are whole."""
    data = gzip.decompress(path.read_bytes())
    length = len(data) // 10
    if kind == 'truncated':
        path.write_bytes(gzip.compress(data[: 4 * length + 20]))
        return 4
    if kind == 'cut gzip':
        path.write_bytes(path.read_bytes()[:-10])
        return 9
    if kind == 'flipped':
        data = bytearray(data)
        data[7 * length + 20] ^= 1
        path.write_bytes(gzip.compress(data))
        return 7
    if kind == 'foreign':
        path.write_bytes(b'x,y,z\n1,2,3\n' * 30)
        return 0
    if kind == 'nothing':
        path.write_bytes(b'')
        return 0
    bad = {
        'no Example': b'\xff\xfe no Example',
        'no center': record((), 'v'),
        'no name': tf.train.Example().SerializeToString(),
    }[kind]
    write_records(path, [record((1, 3, 4), 'v'), bad, record((9, 3, 4), 'v')])
    return 1


KINDS = ['truncated', 'cut gzip', 'flipped', 'foreign', 'nothing', 'no Example', 'no center',
         'no name']  # fmt: skip


@pytest.mark.parametrize('kind', KINDS)
def test_the_rest_of_a_damaged_file_is_left_out_if_wanted(tmp_path, caplog, kind):
    files = write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    usable = usable_records(files)
    assert usable == {files[1]: whole}
    (message,) = caplog.messages
    assert f'{files[1]} is damaged after {whole} records' in message
    expected = [*range(0, 30, 3), *range(2, 30, 3), *range(1, 30, 3)[:whole]]
    drawn = take(3 * len(expected), files, usable=usable)
    assert collections.Counter(x for _, x, _ in drawn) == dict.fromkeys(expected, 3)


@pytest.mark.parametrize('kind', KINDS)
def test_otherwise_the_error_names_the_damaged_file(tmp_path, kind):
    sample.write_sample(tmp_path)
    files = write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    config = sample.data_config(tmp_path, train_coords=f'{tmp_path}/c@3')

    def use():
        with ExampleSource(config, Zyx(1, 1, 1), 0, 2) as source:
            for _ in range(60):
                next(source)

    with pytest.raises(UserError) as caught:
        use()
    message = str(caught.value)
    assert message.startswith(f'{files[1]} is no whole GZIP TFRecord of coordinates')
    assert f', after {whole} records; --skip_corrupt_records' in message
    assert '\n' not in message


@pytest.mark.parametrize('kind', KINDS)
def test_a_source_goes_on_with_what_is_left(tmp_path, kind):
    """Also where shares of volumes are asked for, which are looked for among the records."""
    sample.write_sample(tmp_path)
    write_shards(tmp_path)
    whole = damage(tmp_path / 'c-00001-of-00003', kind)
    config = sample.data_config(
        tmp_path, train_coords=f'{tmp_path}/c@3', skip_corrupt_records=True,
        volume_weights={'v': 1},
    )  # fmt: skip
    with ExampleSource(config, Zyx(1, 1, 1), 0, 2) as source:
        seen = {next(source).center.x for _ in range(3 * (20 + whole))}
    assert seen == {x for x in range(30) if x % 3 != 1} | set(range(1, 30, 3)[:whole])


def test_whole_files_are_usable_to_their_end(files, caplog):
    assert usable_records(files) == {}
    assert count_usable(files[0]) == (10, '')
    assert not caplog.messages


def test_nothing_but_damage_is_an_error_even_so(tmp_path):
    files = write_shards(tmp_path, shards=2)
    for file in files:
        damage(tmp_path / file, 'foreign')
    with pytest.raises(UserError, match=rf'no record of {files[0]}, {files[1]} can be read'):
        usable_records(files)


def test_every_process_needs_a_coordinate(tmp_path):
    files = write_shards(tmp_path, count=3, shards=2)
    for workers in (1, 2, 3):
        check_not_empty(files, workers)
    with pytest.raises(UserError, match='hold no coordinates for each of 4 processes'):
        check_not_empty(files, 4)
    nothing = [write_records(tmp_path / 'nothing', [])]
    with pytest.raises(UserError, match=r'nothing hold no coordinates$'):
        check_not_empty(nothing)


def test_volumes_that_have_a_share_need_coordinates(tmp_path, mixed):
    check_volumes(mixed, ['u', 'v', 'w'])
    with pytest.raises(UserError, match=r'names x, of which .* none; they hold u, v, w$'):
        check_volumes(mixed, ['u', 'x'])
    few = [write_records(tmp_path / 'few', [record((1, 2, 3), name) for name in 'uuv'])]
    check_volumes(few, ['u'], 2)
    with pytest.raises(UserError, match=r'names v, of which .* fewer than the 2 processes'):
        check_volumes(few, ['u', 'v'], 2)


@pytest.mark.parametrize('kind', KINDS)
def test_volumes_are_looked_for_beyond_what_is_damaged(tmp_path, kind):
    files = write_shards(tmp_path, shards=2)
    whole = damage(tmp_path / 'c-00000-of-00002', kind)
    files.append(write_records(tmp_path / 'last', [record((1, 2, 3), 'last')]))
    check_volumes(files, ['last'], usable={files[0]: whole})


@pytest.mark.parametrize('kind', ['no Example', 'no name'])
def test_records_without_a_volume_are_an_error_that_names_the_file(tmp_path, kind):
    files = write_shards(tmp_path, shards=1)
    damage(tmp_path / 'c-00000-of-00001', kind)
    with pytest.raises(UserError, match=rf'^{files[0]} is no whole .* after 1 records'):
        check_volumes(files, ['last'])
