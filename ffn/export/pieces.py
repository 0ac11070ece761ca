"""Pieces of segments: what a block has of each, kept on disk until the segments are joined.

A block has two files: `X.bin`, the pieces one after the other, and `X.npy`, which lists them and, being written
last, says that the block is done. When all blocks are, the lists are sorted by shard, so that a task finds all
pieces of its segments without looking at every block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffn.distributed.blockwise import block_file
from ffn.export.segment_shards import SegmentShards
from ffn.export.surfaces import unique_rows
from ffn.utils.checksums import (
    CheckedTable,
    checked_path,
    read_checked_npy,
    write_checked_npy,
)
from ffn.utils.geometry import Box, Xyz
from ffn.utils.labels import groups

# Columns of a list: id, start of the block x, y, z, and where the piece begins and ends in its file.
_COLUMNS = 6
# Bytes of pieces that a task reads at a time, roughly: block by block, as segments of a shard have pieces in the same
# blocks, so that no file stays open and each is opened once. Pieces of a segment of more bytes are read one by one.
_HELD = 1 << 24
# Ids whose shards are found at a time, to bound memory.
_PART = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A piece of a segment.

    Attributes:
      start: of its block.
      size: bytes.
      file: where it is.
      begin: its first byte there.
      data: the piece, where it has been read.
    """

    start: Xyz
    size: int
    file: Path
    begin: int
    data: memoryview | None = None

    def read(self, first: int | None = None) -> bytes:
        """Reads it.

        Args:
          first: how many of its bytes are read; None: all.

        Raises:
          UserError: the file is damaged.
        """
        count = self.size if first is None else first
        if self.data is not None:
            return bytes(self.data[:count])
        data: bytes = _open(self.file)[self.begin : self.begin + count].tobytes()
        return data


@dataclass(frozen=True)
class Pieces:
    """The pieces of all segments.

    Attributes:
      folder: of the files.
    """

    folder: Path

    def write(self, block: Box, mark: Path, pieces: dict[int, bytes]) -> None:
        """Writes the pieces of a block.

        Args:
          block: where they are.
          mark: its list, see `ffn.distributed.blockwise.run_blocks`.
          pieces: by id.
        """
        ids = sorted(pieces)
        ends = np.cumsum([len(pieces[i]) for i in ids], dtype=np.int64)
        table = np.zeros((len(ids), _COLUMNS), np.uint64)
        if ids:
            with checked_path(mark.with_suffix('.bin')) as temporary:
                temporary.write_bytes(b''.join(pieces[i] for i in ids))
            table[:, 0] = ids
            table[:, 1:4] = np.array(block.start, np.int64).view(np.uint64)
            table[:, 5] = ends
            table[1:, 4] = ends[:-1]
        write_checked_npy(mark, table)

    def sort(self, blocks: Iterable[Box], shard_size: int) -> tuple[SegmentShards, list[int]]:
        """Sorts the lists of all blocks by shard; holds about 100 bytes for each piece in memory.

        Args:
          blocks: all.
          shard_size: bytes of pieces for a shard, roughly.

        Returns:
          How segments are spread, and the numbers of shards that have some.
        """
        data = bytearray()  # grows in place, as a list of arrays that are joined does not
        for block in blocks:
            mark = block_file(self.folder, block, '.npy')
            data += read_checked_npy(mark, _advice(mark)).data
        table = np.frombuffer(data, np.uint64).reshape(-1, _COLUMNS)
        ids, size = table[:, 0], int((table[:, 5] - table[:, 4]).sum())
        shards = SegmentShards.plan(len(np.unique(ids)), size, shard_size)
        number = np.empty(len(ids), np.uint64)
        for begin in range(0, len(ids), _PART):
            number[begin : begin + _PART], _ = shards.places(ids[begin : begin + _PART])
        order = np.lexsort((ids, number))
        number = number[order]
        begins = np.flatnonzero(np.diff(number, prepend=number[:1] + np.uint64(1)))
        numbers = number[begins]
        for one, rows in zip(numbers.tolist(), np.split(order, begins[1:]), strict=False):
            write_checked_npy(self._list(one), table[rows])
        return shards, numbers.tolist()

    def of_shard(self, shard: int) -> Iterator[tuple[int, list[Piece]]]:
        """Lists the segments of a shard; holds up to 64 MiB of their pieces in memory.

        Yields:
          Id, and its pieces in the order of blocks; ids ascend.

        Raises:
          UserError: a file is damaged.
        """
        table = read_checked_npy(self._list(shard), _advice(self._list(shard)))
        begins = np.flatnonzero(np.diff(table[:, 0], prepend=table[:1, 0] + np.uint64(1)))
        sizes = np.add.reduceat(table[:, 5] - table[:, 4], begins).astype(np.int64)
        is_held = sizes <= _HELD
        turns = np.cumsum(sizes * is_held) // _HELD
        firsts = np.flatnonzero(np.diff(turns, prepend=-1))
        segments = list(zip(np.split(table, begins[1:]), is_held.tolist(), strict=True))
        for first, end in itertools.pairwise([*firsts.tolist(), len(segments)]):
            yield from self._together(segments[first:end])

    def _together(
        self, segments: list[tuple[np.ndarray, bool]]
    ) -> Iterator[tuple[int, list[Piece]]]:
        """Lists segments, given their rows and whether they are read at once."""
        held = [rows for rows, is_held in segments if is_held]
        data, at = self._read(np.concatenate(held)) if held else memoryview(b''), 0
        for rows, is_held in segments:
            pieces = []
            for x, y, z, begin, end in np.ascontiguousarray(rows[:, 1:]).view(np.int64).tolist():
                start, size = Xyz(x, y, z), end - begin
                read = data[at : at + size] if is_held else None
                pieces.append(Piece(start, size, self._file(start), begin, read))
                at += size * is_held
            yield int(rows[0, 0]), pieces

    def _read(self, rows: np.ndarray) -> memoryview:
        """Reads pieces, block by block; they lie one after the other, in the order of the rows."""
        columns = np.ascontiguousarray(rows[:, 1:]).view(np.int64)
        ends = np.cumsum(columns[:, 4] - columns[:, 3])
        data = memoryview(bytearray(int(ends[-1])))
        starts, number = unique_rows(columns[:, :3])
        for start, which in zip(starts.tolist(), groups(number), strict=True):
            block = _open(self._file(Xyz(*start)))
            places = np.column_stack([columns[which, 3:], ends[which]]).tolist()
            for begin, end, stop in places:
                data[stop - (end - begin) : stop] = block[begin:end]
        return data

    def _file(self, start: Xyz) -> Path:
        return block_file(self.folder, Box(start, Xyz(1, 1, 1)), '.bin')

    def _list(self, shard: int) -> Path:
        return self.folder / f'shard_{shard:x}.npy'


def _open(file: Path) -> CheckedTable:
    return CheckedTable(file, np.uint8, _advice(file))


def _advice(path: Path) -> str:
    return f'remove {path.parents[2] if path.parent.name != "pieces" else path.parent} and export again'
