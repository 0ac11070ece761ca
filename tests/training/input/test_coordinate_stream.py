"""The stream of coordinates: where it can be resumed, how it is mixed and sharded."""

import collections
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
from ffn.training.input.examples import ExampleSource
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from tests.training import sample
from tests.training.input.records import SHARDS, record, take, write_records

WEIGHTS = {'u': 1, 'v': 3, 'w': 0}


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 120), st.sampled_from([None, WEIGHTS]), st.sampled_from([(0, 1), (1, 2)]))
def test_skipping_gives_what_follows_after_so_many(mixed, skip, weights, shard):
    kwargs = {'volume_weights': weights, 'shard': shard}
    whole = take(skip + 40, mixed, **kwargs)
    assert [number for number, _, _ in whole] == list(range(skip + 40))
    assert take(40, mixed, skip=skip, **kwargs) == whole[skip:]


def test_what_is_skipped_is_told_block_by_block(mixed, monkeypatch):
    monkeypatch.setattr(coordinate_stream, '_BLOCK', 16)
    whole, skipped = take(80, mixed), []
    assert take(30, mixed, skip=50, skipped=skipped.append) == whole[50:]
    assert skipped == [16] * 3


def test_the_first_step_does_not_wait_for_many_coordinates(files, monkeypatch):
    parsed = []

    def parse(records, original=coordinate_stream._parse):
        tf.py_function(lambda block: parsed.append(len(block)), [records], [])
        return original(records)

    monkeypatch.setattr(coordinate_stream, '_parse', parse)
    take(1, files)
    assert parsed[0] == 64


def test_looking_for_a_volume_keeps_the_order(files, monkeypatch):
    monkeypatch.setattr(coordinate_stream, '_BLOCK', 4)
    assert take(70, files, volume_weights={'v': 1}) == take(70, files)


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

    def source(data, size, seed, ahead, shard, *rest):
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
