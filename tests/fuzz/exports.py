"""Loaders of what `ffn export` writes and reads again."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from ffn.export.segment_shards import SegmentShards, ShardWriter, read_shard
from tests.fuzz.case import Loader
from tests.fuzz.mutations import NUMBERS, Rng, pick

_SHARDS = SegmentShards(shard_bits=1, minishard_bits=1)
_SHARD = 1
_IDS = [
    i
    for i in (*range(1, 30), 2**53 + 1, 2**64 - 2)
    if _SHARDS.places(np.array([i], np.uint64))[0] == _SHARD
]


def _write_shard(folder: Path) -> None:
    with ShardWriter(_SHARDS, folder, _SHARD) as writer:
        for segment in _IDS:
            writer.add(segment, str(segment).encode() * 5, b'before')


def _read_shard(folder: Path) -> list[tuple[int, bytes]]:
    return list(read_shard(_SHARDS.path(folder, _SHARD), _SHARDS))


def _edit_shard(path: Path, rng: Rng) -> None:
    """Another place of a list, or another id, place or size in it, packed anew."""
    data = path.read_bytes()
    header = list(struct.unpack_from('<4Q', data))
    at = int(rng.integers(2))
    number = int(pick(rng, [n for n in NUMBERS if isinstance(n, int) and 0 <= n < 2**64]))
    if rng.random() < 0.4:
        header[int(rng.integers(4))] = number
        path.write_bytes(struct.pack('<4Q', *header) + data[32:])
        return
    start, end = header[2 * at : 2 * at + 2]
    table = np.frombuffer(gzip.decompress(data[32 + start : 32 + end]), '<u8').copy()
    table[int(rng.integers(len(table)))] = number
    if rng.random() < 0.2:
        table = table[:-1]
    packed = gzip.compress(table.tobytes(), mtime=0)
    # Behind all others, where its new size does no harm.
    others = data[32 : 32 + start] + data[32 + end :]
    moved = [n - (end - start) if n > start else n for n in header]
    moved[2 * at : 2 * at + 2] = len(others), len(others) + len(packed)
    path.write_bytes(struct.pack('<4Q', *moved) + others + packed)


LOADERS = (
    Loader(
        'shard of segments',
        _write_shard,
        _read_shard,
        ('*.shard',),
        (('*.shard', _edit_shard),),
        check=lambda found: all(0 <= i < 2**64 and isinstance(d, bytes) for i, d in found),
    ),
)
