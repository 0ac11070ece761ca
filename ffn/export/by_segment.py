"""Something for each segment of a label volume larger than memory, such as its mesh: block by block, then joined.

Tasks read blocks of the labels and keep a piece for each segment; then tasks, one a shard, join the pieces of each
segment and write what becomes of them. A stopped run resumes: a block with a list of pieces and a shard with a file
are done. When all shards are, the info file is written and the pieces are removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ffn.distributed.blockwise import run_blocks
from ffn.distributed.pool import Pool, run_stage
from ffn.export.pieces import Piece, Pieces
from ffn.export.segment_shards import SegmentShards, ShardWriter
from ffn.utils.atomic import write_json
from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.geometry import Box
from ffn.volumes import provenance

RECORD, PIECES, MEASURES = 'export.json', 'pieces', 'measures.npy'


class Joined(NamedTuple):
    """What becomes of a segment.

    Attributes:
      data: stored under its id.
      before: stored directly before that.
      measures: numbers about it, as many for each segment.
    """

    data: bytes
    before: bytes = b''
    measures: tuple[float, ...] = ()


class Maker(Protocol):
    """Makes something for each segment."""

    @property
    def folder(self) -> Path:
        """Where it goes."""

    @property
    def shard_size(self) -> int:
        """Bytes of pieces that become a shard, roughly."""

    def settings(self) -> Mapping[str, Any]:
        """What it depends on, for JSON."""

    def blocks(self) -> Iterator[Box]:
        """The blocks that are looked at."""

    def cut(self, block: Box) -> dict[int, bytes]:
        """Makes the pieces of a block, by id."""

    def join(self, pieces: list[Piece]) -> Joined:
        """Joins the pieces of a segment."""

    def info(self) -> dict[str, Any]:
        """The info file, without its sharding."""


def make(maker: Maker, pool: Pool, quiet: bool = False) -> None:
    """Makes what is missing.

    Args:
      maker: what is made.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: the folder holds something else, or the labels cannot be read.
    """
    folder, pieces = maker.folder, Pieces(maker.folder / PIECES)
    advice = f'remove {folder}, or give the same settings'
    provenance.claim(folder, maker.settings(), RECORD, advice)
    if (folder / 'info').exists():
        shutil.rmtree(pieces.folder, ignore_errors=True)
        return
    name = folder.name
    run_blocks(pool, _cut, (maker, pieces), maker.blocks, pieces.folder, name, quiet, '.npy')
    shards, numbers = pieces.sort(maker.blocks(), maker.shard_size)
    left = [(maker, pieces, shards, n) for n in numbers if not shards.path(folder, n).exists()]
    for _ in run_stage(pool, _join, left, len(left), f'{name}, joined', quiet, unit='shard'):
        pass
    tables = [_read_measures(pieces, n) for n in numbers]
    write_checked_npy(
        folder / MEASURES, np.concatenate(tables) if tables else np.zeros((0, 1), np.uint64)
    )
    write_json(folder / 'info', {**maker.info(), 'sharding': shards.spec()})
    shutil.rmtree(pieces.folder)


def read_measures(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads the numbers about each segment; none where they are not finished.

    Returns:
      uint64 [n] ids, ascending; float64 [n, k].
    """
    path = folder / MEASURES
    if not path.exists():
        return np.zeros(0, np.uint64), np.zeros((0, 0))
    table = read_checked_npy(path, f'remove {folder} and export again')
    order = np.argsort(table[:, 0])
    return table[order, 0], table[order, 1:].view(np.float64)


def _cut(maker: Maker, pieces: Pieces, block: Box, mark: Path) -> None:
    pieces.write(block, mark, maker.cut(block))


def _join(maker: Maker, pieces: Pieces, shards: SegmentShards, shard: int) -> None:
    ids, measures = [], []
    with ShardWriter(shards, maker.folder, shard) as writer:
        for segment, parts in pieces.of_shard(shard):
            joined = maker.join(parts)
            writer.add(segment, joined.data, joined.before)
            ids.append(segment)
            measures.append(joined.measures)
        numbers = np.array(measures, np.float64).reshape(len(ids), -1).view(np.uint64)
        table = np.concatenate([np.array(ids, np.uint64)[:, None], numbers], axis=1)
        write_checked_npy(_measures_of(pieces, shard), table)


def _measures_of(pieces: Pieces, shard: int) -> Path:
    return pieces.folder / f'measures_{shard:x}.npy'


def _read_measures(pieces: Pieces, shard: int) -> np.ndarray:
    path = _measures_of(pieces, shard)
    return read_checked_npy(path, f'remove {pieces.folder.parent} and export again')
