"""Lists of pieces, sorted by shard."""

import time
import tracemalloc
import weakref

import numpy as np
import pytest

from ffn.export import pieces
from ffn.export.pieces import Pieces
from ffn.utils.geometry import Box, Xyz

BLOCKS = [Box(Xyz(x, y, 3), Xyz(10, 20, 30)) for x in (-5, 5) for y in (0, 20)]


def write(folder, blocks, of_block):
    """The pieces of each block, by id."""
    made = Pieces(folder / 'pieces')
    for block, found in zip(blocks, of_block, strict=True):
        path = pieces.block_file(made.folder, block, '.npy')
        path.parent.mkdir(parents=True, exist_ok=True)
        made.write(block, path, found)
    return made


@pytest.mark.parametrize('shard_size', [1, 1000])
def test_all_pieces_of_a_segment_are_found(tmp_path, shard_size):
    of_block = [
        {i: bytes([i % 251, number]) for i in range(1 + number, 90, 1 + number)}
        for number in range(len(BLOCKS))
    ]
    made = write(tmp_path, BLOCKS, of_block)
    shards, numbers = made.sort(BLOCKS, shard_size)
    assert (len(numbers) > 4) == (shard_size == 1)
    sorted_ = {}
    for number in numbers:
        for segment, parts in made.of_shard(number):
            assert shards.places(np.array([segment], np.uint64))[0] == number
            sorted_[segment] = [(part.start, part.read()) for part in parts]
    expected = {}
    for block, found in zip(BLOCKS, of_block, strict=True):
        for segment, data in found.items():
            expected.setdefault(segment, []).append((block.start, data))
    assert sorted_ == expected


@pytest.mark.parametrize('held', [1 << 24, 400, 300, 1])
def test_the_files_of_many_blocks_are_opened_a_few_times(tmp_path, monkeypatch, held):
    """In turns of so many bytes, whatever the number of blocks; and for each piece of a segment of more, of 336."""
    blocks = [Box(Xyz(10 * n, -20, 3), Xyz(10, 20, 30)) for n in range(70)]
    of_block = [
        {i: bytes([i, n]) * (1 + i % 3) for i in range(1, 20) if (i + n) % 5}
        for n in range(len(blocks))
    ]
    made = write(tmp_path, blocks, of_block)
    _, shards = made.sort(blocks, 10**6)
    opened, table = [], pieces.CheckedTable

    def count(path, *how):
        opened.append(weakref.ref(found := table(path, *how)))
        return found

    monkeypatch.setattr(pieces, 'CheckedTable', count)
    monkeypatch.setattr(pieces, '_HELD', held)
    count_read = 0
    for shard in shards:
        opened.clear()
        bytes_read = number = 0
        for segment, parts in made.of_shard(shard):
            assert [(part.start, part.read(1), part.read()) for part in parts] == [
                (block.start, found[segment][:1], found[segment])
                for block, found in zip(blocks, of_block, strict=True)
                if segment in found
            ]
            bytes_read += sum(part.size for part in parts)
            number += len(parts)
            assert sum(one() is not None for one in opened) <= 1
        most = len(blocks) * (1 + bytes_read // held) if held > 336 else 2 * number
        assert len(blocks) <= len(opened) <= most
        count_read += number
    assert count_read == sum(map(len, of_block))


def test_sorting_takes_about_twice_the_memory_of_the_lists(tmp_path, monkeypatch):
    table = np.zeros((20_000, 6), np.uint64)
    table[:, 0] = np.random.default_rng(0).permutation(len(table))
    monkeypatch.setattr(pieces, '_PART', 1000)
    monkeypatch.setattr(pieces, 'read_checked_npy', lambda *_: table.copy())
    monkeypatch.setattr(pieces, 'write_checked_npy', lambda *_: None)
    tracemalloc.start()
    Pieces(tmp_path).sort(10 * BLOCKS[:1], 10**9)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 135 * 10 * len(table)  # a single shard: its list is all of them once more


def test_many_shards_take_no_longer_than_few(tmp_path, monkeypatch):
    table = np.zeros((100_000, 6), np.uint64)
    table[:, 0] = np.random.default_rng(0).permutation(len(table))
    table[:, 5] = 100
    written = []
    monkeypatch.setattr(pieces, 'read_checked_npy', lambda *_: table)
    monkeypatch.setattr(pieces, 'write_checked_npy', lambda path, rows: written.append(len(rows)))
    times = []
    for shard_size in (10**9, 1):
        begin = time.process_time()
        _, numbers = Pieces(tmp_path).sort(BLOCKS[:1], shard_size)
        times.append(time.process_time() - begin)
    assert len(numbers) > 5_000
    assert sum(written) == 2 * len(table)
    assert times[1] < 6 * times[0]
