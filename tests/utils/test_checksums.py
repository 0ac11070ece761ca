"""A flipped bit is noticed; what has no checksum is taken as it is."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.utils import checksums
from ffn.utils.checksums import (
    CheckedTable,
    checked_path,
    open_checked,
    read_checked,
    read_checked_npy,
    sealed,
    unsealed,
    write_checked_npy,
)
from ffn.utils.errors import UserError
from tests.full_disk import files_of_at_most

# More than two blocks of 65,536 bytes, and a part of one.
NUMBERS = np.arange(20_001, dtype=np.uint64) * 3


@pytest.fixture
def table(tmp_path):
    path = tmp_path / 'ids.bin'
    with checked_path(path) as temporary:
        NUMBERS.tofile(temporary)
    return path


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_checksums_lie_beside_the_table(table):
    data = table.read_bytes()
    expected = [zlib.crc32(data[i : i + 65536]) for i in (0, 65536, 131072)]
    stored = (table.parent / 'ids.bin.crc').read_bytes()
    assert np.frombuffer(stored, '<u4')[:3].tolist() == expected
    assert np.frombuffer(stored, '<u4')[3:].tolist() == [zlib.crc32(stored[:12])]
    assert read_checked(table, 'remove it') == NUMBERS.tobytes()


@pytest.mark.parametrize('at', [0, 65535, 65536, 131071, 160_007])
def test_a_flipped_bit_is_found_where_it_is_read(table, at):
    flip(table, at)
    message = r'ids\.bin is damaged.*, ids\.bin\.crc; remove it \(if you have edited it, remove ids'
    with pytest.raises(UserError, match=message):
        read_checked(table, 'remove it')
    opened = CheckedTable(table, np.uint64, 'remove it')
    first = at // 65536 * 8192
    with pytest.raises(UserError, match='is damaged'):
        opened[first : first + 1]
    other = 0 if first else 8192
    assert opened[other] == 3 * other
    (table.parent / 'ids.bin.crc').unlink()  # as an earlier version left it
    assert len(CheckedTable(table, np.uint64, '')[:]) == 20_001


@given(*2 * [st.none() | st.integers(-20_005, 20_005)])
@settings(max_examples=30, deadline=None)
def test_parts_of_a_table(tmp_path_factory, begin, end):
    path = tmp_path_factory.mktemp('table') / 'ids.bin'
    NUMBERS.tofile(path)
    checksums.record(path)
    table = CheckedTable(path, np.uint64, '')
    assert len(table) == 20_001
    np.testing.assert_array_equal(table[begin:end], NUMBERS[begin:end])


def test_numbers_of_a_table(table):
    opened = CheckedTable(table, np.uint64, '')
    assert (opened[0], opened[-1], opened[8192]) == (0, 60_000, 3 * 8192)
    with pytest.raises(IndexError):
        opened[20_001]
    with pytest.raises(IndexError, match='one piece'):
        opened[::2]


@pytest.mark.parametrize('dtype', [np.int64, np.int16, np.uint64])
def test_many_numbers_of_a_table(table, dtype):
    opened = CheckedTable(table, np.uint64, 'remove it')
    index = np.array([[20_000, 8191, 3], [8192, 8191, 0]], dtype)
    np.testing.assert_array_equal(opened[index], NUMBERS[index])
    if dtype != np.uint64:
        np.testing.assert_array_equal(opened[-index - 1], NUMBERS[-index - 1])
    assert opened[np.zeros(0, dtype)].shape == (0,)
    with pytest.raises(IndexError):
        opened[np.array([20_001], dtype)]
    for wrong in (np.array([0.5]), NUMBERS > 5):
        with pytest.raises(IndexError, match='expected integers'):
            opened[wrong]
    flip(table, 65536)
    damaged = CheckedTable(table, np.uint64, 'remove it')
    assert damaged[index[0, [0, 2]]].tolist() == [60_000, 9]  # in blocks that are whole
    with pytest.raises(UserError, match='is damaged'):
        damaged[index]


@pytest.mark.parametrize('size', [0, 8, 65536, 65537, 131072, 160_000])
def test_a_table_that_lost_its_end(table, size):
    table.write_bytes(table.read_bytes()[:size])
    with pytest.raises(UserError, match='is damaged'):
        read_checked(table, 'remove it')
    with pytest.raises(UserError, match='is damaged'):
        CheckedTable(table, np.uint64, 'remove it')[:]


@pytest.mark.parametrize('at', range(0, 16, 3))
def test_damaged_checksums(table, at):
    flip(table.parent / 'ids.bin.crc', at)
    with pytest.raises(UserError, match=r'ids\.bin\.crc is damaged; remove it'):
        read_checked(table, 'remove it')
    opened, needed = CheckedTable(table, np.uint64, 'remove it'), 8192 * (at // 4)
    if at < 12:
        with pytest.raises(UserError, match=r'ids\.bin\.crc is damaged; remove it'):
            opened[needed]
    other = 0 if needed else 8192  # what is not needed is not read
    assert opened[other] == 3 * other


@pytest.mark.parametrize('size', [0, 3, 12])
def test_checksums_that_lost_their_end(table, size):
    beside = table.parent / 'ids.bin.crc'
    beside.write_bytes(beside.read_bytes()[:size])
    with pytest.raises(UserError, match='is damaged'):
        CheckedTable(table, np.uint64, 'remove it')


def read_on(path):
    """All of a table, read a little at a time."""
    with open_checked(path, 'make it again') as file:
        return b''.join(iter(lambda: file.read(10_007), b''))


@pytest.mark.parametrize('change', [b'', b'more', None])
def test_a_table_that_is_read_on_and_on(tmp_path, change):
    path, data = tmp_path / 'numbers', NUMBERS.tobytes()
    with checked_path(path) as temporary:
        temporary.write_bytes(data)
    assert read_on(path) == data
    if change is None:
        (tmp_path / 'numbers.crc').unlink()
        path.write_bytes(data[:-8])
        assert read_on(path) == data[:-8]
        return
    damaged = bytearray(data + change)
    damaged[100_000] ^= 0 if change else 4
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r'numbers is damaged.*; make it again'):
        read_on(path)
    for size in (0, 65_536, 2 * 65_536, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=r'numbers is damaged'):
            read_on(path)


def test_an_empty_table(tmp_path):
    with checked_path(tmp_path / 'none.bin'):
        pass
    assert read_checked(tmp_path / 'none.bin', '') == b''
    assert len(CheckedTable(tmp_path / 'none.bin', np.int64, '')[:]) == 0


def test_a_failure_leaves_table_and_checksums(table):
    def write():
        with checked_path(table) as temporary:
            temporary.write_bytes(b'half')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert read_checked(table, '') == NUMBERS.tobytes()
    assert sorted(path.name for path in table.parent.iterdir()) == ['ids.bin', 'ids.bin.crc']


def test_killed_between_a_table_and_its_checksums(table, monkeypatch):
    """There are then none, rather than those of the old table."""

    def die(path, crcs):
        raise KeyboardInterrupt

    monkeypatch.setattr(checksums, '_write', die)
    with pytest.raises(KeyboardInterrupt), checked_path(table) as temporary:
        temporary.write_bytes(b'new')
    assert read_checked(table, '') == b'new'


def test_npy(tmp_path):
    path, array = tmp_path / 'a.npy', np.arange(60).reshape(3, 4, 5)
    write_checked_npy(path, array)
    np.testing.assert_array_equal(read_checked_npy(path, ''), array)
    np.testing.assert_array_equal(np.load(path), array)  # a plain npy
    for at in range(0, len(path.read_bytes()), 37):
        flip(path, at)
        with pytest.raises(UserError, match=r'a\.npy is damaged.*run again'):
            read_checked_npy(path, 'run again')
        flip(path, at)
    (tmp_path / 'a.npy.crc').unlink()
    path.write_bytes(b'no array')
    with pytest.raises(UserError, match=r'a\.npy is damaged .*; run again'):
        read_checked_npy(path, 'run again')


CONTENT = {'made_from': 'abc', 'complete': False, 'sizes': [1, 2.5, None], 'β': {'3': 'µ'}}


def test_a_json_object():
    text = json.dumps(sealed(CONTENT), indent=2)
    assert len(json.loads(text)['sha256']) == 64
    assert unsealed(text, 'a.json', '') == CONTENT
    assert unsealed(json.dumps(CONTENT), 'a.json', '') == CONTENT  # of an earlier version
    for i in range(len(text)):
        flipped = bytearray(text.encode())
        flipped[i] ^= 1
        # All but white space, and the name of the checksum itself.
        with contextlib.suppress(UserError):
            found = unsealed(bytes(flipped), 'a.json', 'run again')
            assert {**found, **CONTENT} == found


@pytest.mark.parametrize('at', [10, 40, 70])
def test_a_damaged_json_object(at):
    text = bytearray(json.dumps(sealed(CONTENT)).encode())
    text[at] ^= 1
    with pytest.raises(UserError, match=r'^a\.json is damaged.*; run again'):
        unsealed(bytes(text), 'a.json', 'run again')


@pytest.mark.parametrize('text', ['', '[1]', '{"a"', '"a"', '[' * 100_000])
def test_no_json_object(text):
    with pytest.raises(UserError, match=r'^a\.json is damaged: .*; run again'):
        unsealed(text, 'a.json', 'run again')


def test_an_edited_json_object():
    edited = {**sealed(CONTENT), 'made_from': 'other'}
    with pytest.raises(UserError, match='if you have edited it, remove "sha256" from it'):
        unsealed(json.dumps(edited), 'a.json', 'run again')
    del edited['sha256']
    assert unsealed(json.dumps(edited), 'a.json', 'run again')['made_from'] == 'other'


@pytest.mark.parametrize('size', [40, 130, 1000])
def test_a_full_disk_is_told(tmp_path, size):
    path = tmp_path / 'ids.npy'
    write_checked_npy(path, np.arange(3))
    with files_of_at_most(size), pytest.raises(OSError, match=r'ids\.npy'):
        write_checked_npy(path, np.arange(120))  # NumPy would leave its end out
    np.testing.assert_array_equal(read_checked_npy(path, 'run again'), np.arange(3))


def test_checksums_of_a_large_table_take_a_few_bytes_each(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, '_BLOCK', 64)
    path, blocks = tmp_path / 'table.bin', 20_000
    path.write_bytes(bytes(64 * blocks))
    tracemalloc.start()
    checksums.record(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20 * blocks
    assert not CheckedTable(path, np.uint8, '')[-64:].any()
