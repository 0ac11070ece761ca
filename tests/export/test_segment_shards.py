"""Shards of segments, read by TensorStore."""

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.export.segment_shards import SegmentShards, ShardWriter, murmurhash, read_shard
from ffn.utils.errors import UserError
from tests.export.mesh_reader import key, open_shards

IDS = (0, 1, 2, 255, 2**32 - 1, 2**32, 2**53 + 1, 2**63, 2**64 - 2)


def write(folder, shards, data):
    numbers, _ = shards.places(np.array(list(data), np.uint64))
    for number in set(numbers.tolist()):
        with ShardWriter(shards, folder, number) as writer:
            for segment, shard in zip(data, numbers.tolist()):
                if shard == number:
                    writer.add(segment, data[segment], b'before' + data[segment])


@pytest.mark.parametrize('bits', [(1, 0), (2, 3), (5, 1)])
def test_tensorstore_finds_every_segment(tmp_path, bits):
    shards = SegmentShards(*bits)
    data = {i: str(i).encode() * 3 for i in (*IDS, *range(1000, 1100))}
    write(tmp_path, shards, data)
    store = open_shards(tmp_path, shards.spec())
    assert {int.from_bytes(k, 'big') for k in store.list().result()} == set(data)
    for segment, content in data.items():
        assert store[key(segment)] == content
    files = sorted(tmp_path.glob('*.shard'))
    found = [pair for file in files for pair in read_shard(file, shards)]
    assert dict(found) == data
    assert len(found) == len(data)
    everything = b''.join(file.read_bytes() for file in files)
    for content in data.values():  # directly before what is found under the id
        assert b'before' + content + gzip.compress(content, 6, mtime=0) in everything


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 2**64 - 2), min_size=1, max_size=30))
def test_any_ids(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp('shards')
    shards = SegmentShards(1, 1)
    write(folder, shards, {i: str(i).encode() for i in ids})
    store = open_shards(folder, shards.spec())
    assert all(store[key(i)] == str(i).encode() for i in ids)


def test_the_number_of_files_follows_from_the_size():
    assert SegmentShards.plan(1, 10, 1000) == SegmentShards(1, 0)
    assert SegmentShards.plan(10**6, 2**30, 2**24).shard_bits == 6
    assert SegmentShards.plan(10**6, 2**30, 2**24).minishard_bits == 7
    assert SegmentShards.plan(16, 2**40, 2**24).shard_bits == 1  # not more files than segments


def test_hashes_are_spread():
    counts = np.bincount((murmurhash(np.arange(2**14, dtype=np.uint64)) % 16).astype(int))
    assert counts.min() > 900


def test_a_shard_that_fails_leaves_nothing(tmp_path):
    shards = SegmentShards(1, 0)
    (number,), _ = shards.places(np.array([5], np.uint64))
    with pytest.raises(ValueError, match='belongs to shard'):
        with ShardWriter(shards, tmp_path, 1 - int(number)) as writer:
            writer.add(5, b'')
    assert not list(tmp_path.iterdir())


def test_a_damaged_shard_is_told(tmp_path):
    shards = SegmentShards(1, 0)
    write(tmp_path, shards, {5: b'five'})
    (file,) = tmp_path.glob('*.shard')
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(UserError, match=r'shard is damaged .*export again'):
        list(read_shard(file, shards))
    spec = {**shards.spec(), 'hash': 'identity'}
    with pytest.raises(UserError, match='expected that of an export by this version'):
        SegmentShards.from_spec(spec, tmp_path)
    assert SegmentShards.from_spec(shards.spec(), tmp_path) == shards


@pytest.mark.parametrize('change', [(0, 0, 0), (1, 2**40), (0, 2**63), (0, 5)])
def test_places_that_are_not_in_the_file(tmp_path, change):
    """A list that is lost, and lists far away: neither is read for nothing, nor for as much memory."""
    shards = SegmentShards(1, 1)
    write(tmp_path, shards, dict.fromkeys(range(20), b'content'))
    file = min(tmp_path.glob('*.shard'))
    data = file.read_bytes()
    header = np.frombuffer(data[:32], '<u8').copy()
    at, *values = change
    header[2 * int(np.argmax(header[1::2])) :][at : at + len(values)] = values
    file.write_bytes(header.tobytes() + data[32:])
    with pytest.raises(UserError, match=r'shard is damaged .*do not fit its size.*export again'):
        list(read_shard(file, shards))
