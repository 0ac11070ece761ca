"""Shards of data by segment id: files that each hold the meshes or skeletons of many segments.

Neuroglancer's format "neuroglancer_uint64_sharded_v1": a hash of the id chooses a shard and, in it, a minishard. A
shard begins with the places of its minishards' indexes; an index lists ids with the places of their data. TensorStore
reads and writes such files, but cannot put the fragments of a mesh directly before its manifest, where the format
wants them. This writer can, and holds the data of one segment at a time.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/sharded.md
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, damage_told

_KIND, _HASH = 'neuroglancer_uint64_sharded_v1', 'murmurhash3_x86_128'
# Segments whose places are listed, and read by the viewer, together.
_LISTED = 128
# Of MurmurHash3.
_C = (0x239B961B, 0xAB0E9789, 0x38B34AE5)
_MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class SegmentShards:
    """How ids are spread over files.

    Attributes:
      shard_bits: log2 of the files.
      minishard_bits: log2 of the lists of each.
    """

    shard_bits: int
    minishard_bits: int

    @classmethod
    def plan(cls, segments: int, size: int, shard_size: int) -> SegmentShards:
        """Chooses the number of files.

        Args:
          segments: how many there are.
          size: of all data.
          shard_size: of a file, roughly, in the same unit.
        """
        shards = min(max(size // shard_size, 1), max(segments // 8, 1))
        shard_bits = max(int(shards - 1).bit_length(), 1)
        lists = segments // ((1 << shard_bits) * _LISTED)
        return cls(shard_bits, min(int(lists).bit_length(), 16))

    def spec(self) -> dict[str, Any]:
        """The member `sharding` of an info file."""
        return {
            '@type': _KIND,
            'preshift_bits': 0,
            'hash': _HASH,
            'minishard_bits': self.minishard_bits,
            'shard_bits': self.shard_bits,
            'minishard_index_encoding': 'gzip',
            'data_encoding': 'gzip',
        }

    @classmethod
    def from_spec(cls, spec: Any, source: Path) -> SegmentShards:
        """Reads what `spec` returned.

        Raises:
          UserError: it is another kind of sharding.
        """
        try:
            found = cls(int(spec['shard_bits']), int(spec['minishard_bits']))
            if found.spec() == spec and 0 <= found.shard_bits <= 48:
                return found
        except (LookupError, TypeError, ValueError):
            pass
        raise UserError(
            f'{source} has sharding {spec!r}; expected that of an export by this version'
        )

    def places(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds where segments are.

        Args:
          ids: uint64 [n].

        Returns:
          uint64 [n] numbers of shards, uint64 [n] numbers of minishards.
        """
        hashed = murmurhash(ids)
        shards = (hashed >> np.uint64(self.minishard_bits)) & np.uint64((1 << self.shard_bits) - 1)
        return shards, hashed & np.uint64((1 << self.minishard_bits) - 1)

    def path(self, folder: Path, shard: int) -> Path:
        """Path of a file."""
        return folder / f'{shard:0{-(-self.shard_bits // 4)}x}.shard'


def murmurhash(ids: np.ndarray) -> np.ndarray:
    """The low 64 bits of MurmurHash3_x86_128 of ids, 8 bytes each, little-endian, with seed 0.

    Args:
      ids: uint64 [n].

    Returns:
      uint64 [n].
    """

    def times(a: np.ndarray, factor: int) -> np.ndarray:
        return (a * np.uint64(factor)) & np.uint64(_MASK)

    def rotate(a: np.ndarray, by: int) -> np.ndarray:
        return ((a << np.uint64(by)) | (a >> np.uint64(32 - by))) & np.uint64(_MASK)

    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a + b) & np.uint64(_MASK)

    def mix(a: np.ndarray) -> np.ndarray:
        a = times(a ^ (a >> np.uint64(16)), 0x85EBCA6B)
        a = times(a ^ (a >> np.uint64(13)), 0xC2B2AE35)
        return a ^ (a >> np.uint64(16))

    ids = np.asarray(ids, np.uint64)
    size = np.full_like(ids, 8)
    h1 = times(rotate(times(ids & np.uint64(_MASK), _C[0]), 15), _C[1]) ^ size
    h2 = times(rotate(times(ids >> np.uint64(32), _C[1]), 16), _C[2]) ^ size
    h3 = h4 = size
    h1 = add(add(h1, h2), add(h3, h4))
    h2, h3, h4 = (mix(add(h, h1)) for h in (h2, h3, h4))
    h1 = mix(h1)
    h1 = add(add(h1, h2), add(h3, h4))
    return h1 | (add(h2, h1) << np.uint64(32))


class ShardWriter:
    """Writes a shard; the file appears when the context ends without an error."""

    def __init__(self, shards: SegmentShards, folder: Path, shard: int):
        """Prepares a shard.

        Args:
          shards: how ids are spread.
          folder: of the files.
          shard: number of this one.
        """
        self._shards, self._shard = shards, shard
        self._atomic = atomic_path(shards.path(folder, shard))
        self._lists: dict[int, list[tuple[int, int, int]]] = {}
        self._begin = 16 << shards.minishard_bits

    def __enter__(self) -> ShardWriter:
        self._file = self._atomic.__enter__().open('wb')
        self._file.write(bytes(self._begin))
        return self

    def add(self, segment: int, data: bytes, before: bytes = b'') -> None:
        """Adds a segment.

        Args:
          segment: its id, of this shard; each once.
          data: found under the id.
          before: stands directly before it in the file.
        """
        (shard,), (minishard,) = self._shards.places(np.array([segment], np.uint64))
        if shard != self._shard:
            raise ValueError(f'segment {segment} belongs to shard {shard}, not {self._shard}')
        self._file.write(before)
        packed = gzip.compress(data, 6, mtime=0)
        place = (segment, self._file.tell() - self._begin, len(packed))
        self._lists.setdefault(int(minishard), []).append(place)
        self._file.write(packed)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> bool | None:
        try:
            if kind is None:
                self._write_indexes()
        finally:
            self._file.close()
        return self._atomic.__exit__(kind, error, at)

    def _write_indexes(self) -> None:
        index = np.zeros((1 << self._shards.minishard_bits, 2), '<u8')
        for number, found in self._lists.items():
            ids, starts, sizes = np.array(sorted(found), np.uint64).T
            ends = np.concatenate([np.zeros(1, np.uint64), (starts + sizes)[:-1]])
            table = np.stack([np.diff(ids, prepend=np.uint64(0)), starts - ends, sizes])
            packed = gzip.compress(table.astype('<u8').tobytes(), 6, mtime=0)
            begin = self._file.tell() - self._begin
            index[number] = begin, begin + len(packed)
            self._file.write(packed)
        self._file.seek(0)
        self._file.write(index.tobytes())


def read_shard(path: Path, shards: SegmentShards) -> Iterator[tuple[int, bytes]]:
    """Reads the data of all segments in a shard.

    Args:
      path: the file.
      shards: how ids are spread.

    Yields:
      Ids, and what was added under them.

    Raises:
      UserError: the file is damaged.
    """
    begin = 16 << shards.minishard_bits
    with damage_told(path, 'remove it and export again'), path.open('rb') as file:
        size = path.stat().st_size
        places = struct.iter_unpack('<QQ', file.read(begin))
        lists = sorted((begin + a, begin + b) for a, b in places if a != b)
        # They stand one behind the other at the end of the file.
        ends = [*(start for start, _ in lists[1:]), size]
        if [end for _, end in lists] != ends[-len(lists) :] or (size > begin and not lists):
            raise ValueError('the places of its lists do not fit its size')
        for start, end in lists:
            file.seek(start)
            table = np.frombuffer(gzip.decompress(file.read(end - start)), '<u8').reshape(3, -1)
            ids, gaps, sizes = table
            starts = np.cumsum(gaps) + np.cumsum(sizes) - sizes + np.uint64(begin)
            for one, at, length in zip(
                *map(np.ndarray.tolist, (np.cumsum(ids), starts, sizes)), strict=True
            ):
                if at + length > size:
                    raise ValueError(f'segment {one} lies beyond its end')
                file.seek(at)
                yield one, gzip.decompress(file.read(length))
