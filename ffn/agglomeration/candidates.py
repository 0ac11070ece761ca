"""Finds, block by block, which segments of a volume may belong together, and where they are closest."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ffn.agglomeration.decision_points import find_decision_points
from ffn.distributed.blockwise import block_file, run_blocks
from ffn.distributed.pool import Pool
from ffn.utils.checksums import checked_path, open_checked
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.volumes.unlabelled import Met, Tally, met_by
from ffn.volumes.volume import VolumeSource

# Of the tables of blocks: those of another version are made again.
VERSION = 2
_COLUMNS = ('id_a', 'id_b', 'distance', 'x', 'y', 'z')
_BLOCK_COLUMNS = ('touching', *_COLUMNS)


class Candidate(NamedTuple):
    """Two segments that are close to each other.

    Attributes:
      id_a: the lower id.
      id_b: the higher id.
      distance: see `ffn.agglomeration.decision_points.DecisionPoint`.
      point: decision point, x, y, z in the volume.
    """

    id_a: int
    id_b: int
    distance: float
    point: Xyz


@dataclass(frozen=True)
class CandidateSearch:
    """Where and how candidates are found.

    Attributes:
      segmentation: the labels.
      box: part of the volume that is searched.
      voxel_size: x, y, z, in any unit.
      max_distance: how far each segment is dilated, in that unit.
      block_size: voxels that are searched at a time.
    """

    segmentation: VolumeSource
    box: Box
    voxel_size: tuple[float, float, float]
    max_distance: float
    block_size: Xyz


def find_candidates(
    search: CandidateSearch, folder: Path, pool: Pool, quiet: bool = False
) -> Iterator[Candidate]:
    """Finds the decision points of all pairs in a volume of any size.

    Each block is read with a margin of the dilation. The division into blocks affects the result where it is a matter of
    order: a watershed gives a voxel between two segments to the one whose dilation arrives first, at times not the
    nearest, so that a few pairs are found, or found closer, in one division alone; and of several blocks in which two
    segments are equally close, the one with the most such places counts.

    Args:
      search: where and how.
      folder: receives a table for each block; existing tables are reused.
      pool: runs the tasks.
      quiet: no progress bar.

    Returns:
      One candidate per pair, ordered by ids; they are not held in memory.

    Raises:
      UserError: see `ffn.agglomeration.decision_points`; also a volume that cannot be read.
    """
    if not 0 < search.max_distance < math.inf:
        raise UserError(f'max_distance is {search.max_distance:g}; expected a positive number')
    cores = functools.partial(blocks, search.box, search.block_size)
    tally = Tally()
    run_blocks(
        pool, search_block, (search,), cores, folder, 'decision points', quiet, '.csv', tally.add
    )
    tally.tell()
    return _closest(block_file(folder, core, '.csv') for core in cores())


def _closest(tables: Iterable[Path]) -> Iterator[Candidate]:
    """Yields the best place of each pair in tables of blocks, sorted by ids, with the help of a temporary database."""
    # SQLite's integers have a sign.
    shift = 2**63
    with contextlib.closing(sqlite3.connect('')) as database:
        database.execute(
            'create table places (a integer, b integer, distance real, touching integer, x integer, y integer, '
            'z integer, primary key (a, b)) without rowid'
        )
        for table in tables:
            rows = (
                (one.id_a - shift, one.id_b - shift, one.distance, int(touching), *one.point)
                for touching, one in _read(table, _BLOCK_COLUMNS)
            )
            database.executemany(
                'insert into places values (?, ?, ?, ?, ?, ?, ?) on conflict do update set distance = '
                'excluded.distance, touching = excluded.touching, x = excluded.x, y = excluded.y, z = excluded.z '
                'where (excluded.distance, -excluded.touching) < (distance, -touching)',
                rows,
            )
        for a, b, distance, _, x, y, z in database.execute('select * from places order by a, b'):
            yield Candidate(a + shift, b + shift, distance, Xyz(x, y, z))


def search_block(search: CandidateSearch, core: Box, path: Path) -> Met | None:
    """Writes the decision points of a block, with the number of equally close places of each.

    Args:
      search: where and how.
      core: block that the points must lie in.
      path: table to write.

    Returns:
      What has no label among the voxels that were read.

    Raises:
      UserError: see `find_candidates`.
    """
    around = Xyz(*(math.ceil(search.max_distance / size) + 1 for size in search.voxel_size))
    outer = core.grow(around).intersection(search.box)
    if outer is None:
        raise ValueError(f'block {core} lies outside the box, {search.box}')
    with search.segmentation.open() as opened:
        volume = opened.require_labels()
        labels = volume.read(outer)
    found = find_decision_points(
        labels, search.voxel_size, search.max_distance, core=core.relative_to(outer.start)
    )
    with checked_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(_BLOCK_COLUMNS)
        for pair, place in sorted(found.items()):
            point = (p + s for p, s in zip(place.point_xyz, outer.start, strict=True))
            writer.writerow([place.touching, *pair, float(place.distance), *point])
    return met_by(volume.unlabelled)


def write_candidates(path: Path, candidates: Iterable[Candidate]) -> None:
    """Writes candidates as CSV, atomically."""
    with checked_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in candidates:
            writer.writerow([one.id_a, one.id_b, f'{one.distance:g}', *one.point])


def read_candidates(path: Path) -> list[Candidate]:
    """Reads what `write_candidates` wrote.

    Raises:
      UserError: another kind of file.
    """
    return list(iterate_candidates(path))


def iterate_candidates(path: Path) -> Iterator[Candidate]:
    """Yields what `write_candidates` wrote, of which a part at a time is in memory.

    Raises:
      UserError: another kind of file.
    """
    return (candidate for _, candidate in _read(path, _COLUMNS))


def _read(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Candidate]]:
    """Yields the candidates of a table, each preceded by its leading column, '' if there is none."""
    before = columns.index('id_a')
    with open_checked(path, 'remove it, and run again') as file:
        text = io.TextIOWrapper(file, errors='replace', newline='')
        reader = csv.reader(text)
        try:
            if tuple(next(reader, ())) != columns:
                raise UserError(
                    f'{path} is not a table of candidates, with columns {",".join(columns)}'
                )
            for row in reader:
                a, b, distance, *point = row[before:]
                candidate = Candidate(int(a), int(b), float(distance), Xyz(*map(int, point)))
                if not all(0 <= i < 2**64 for i in candidate[:2]) or not candidate.distance >= 0:
                    raise ValueError('expected ids from 0 to 2^64 - 1 and a distance of 0 or more')
                yield ''.join(row[:before]), candidate
        except UserError:
            raise
        except (TypeError, ValueError, csv.Error) as error:
            raise UserError(f'{path}, line {reader.line_num}: {error}') from error
