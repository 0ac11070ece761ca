"""Which segments of a whole volume may belong together, and where: decision points block by block."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ffn.assembly.tiling import blocks
from ffn.inference.decision_point import DecisionPoint, find_decision_points
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.progress import progress
from ffn.utils.volumes import Volume

_COLUMNS = ('id_a', 'id_b', 'distance', 'x', 'y', 'z')


class Candidate(NamedTuple):
    """Two segments that are near each other.

    Attributes:
      id_a: the lower id.
      id_b: the higher one.
      distance: mean distance of the point from both, in units of the voxel size.
      point: x, y, z in the volume.
    """

    id_a: int
    id_b: int
    distance: float
    point: Xyz


def find_candidates(
    segmentation: Volume, box: Box, voxel_size_xyz: Sequence[float], max_distance: float,
    block_size: Xyz, quiet: bool = False,
) -> list[Candidate]:  # fmt: skip
    """Finds the decision points of all pairs in a volume of any size.

    Each block is read with what is around it as far as segments grow. Blocks show in the result only
    where something is equally far: a voxel from two segments, which may then go to the other one, or
    two segments from each other in several blocks, of which that counts where they are so at most
    places.

    Args:
      segmentation: labels.
      box: part of it that is looked at.
      voxel_size_xyz: x, y, z, in any unit.
      max_distance: how far each segment grows, in that unit.
      block_size: x, y, z.
      quiet: no progress bar.

    Returns:
      One for every pair, by id.

    Raises:
      UserError: see `ffn.inference.decision_point`.
    """
    if not max_distance > 0:
        raise UserError(f'max_distance is {max_distance:g}; expected a positive distance')
    around = Xyz(*(math.ceil(max_distance / size) + 1 for size in voxel_size_xyz))
    found: dict[tuple[int, int], DecisionPoint] = {}
    cores = list(blocks(box, block_size))
    for core in progress(cores, desc='decision points', unit='block', quiet=quiet):
        outer = core.grow(around).intersection(box)
        labels = segmentation.read(outer)
        here = find_decision_points(
            labels, voxel_size_xyz, max_distance, core=core.relative_to(outer.start)
        )
        for pair, place in here.items():
            point = Xyz(*(p + s for p, s in zip(place.point_xyz, outer.start, strict=True)))
            place = place._replace(point_xyz=point)
            if pair not in found or _rank(place) < _rank(found[pair]):
                found[pair] = place
    return [
        Candidate(*pair, place.distance, place.point_xyz) for pair, place in sorted(found.items())
    ]


def _rank(place: DecisionPoint) -> tuple[float, int]:
    return place.distance, -place.touching


def write_candidates(path: Path, candidates: Sequence[Candidate]) -> None:
    """Writes candidates as CSV, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in candidates:
            writer.writerow([one.id_a, one.id_b, f'{one.distance:g}', *one.point])


def read_candidates(path: Path) -> list[Candidate]:
    """Reads what `write_candidates` wrote.

    Raises:
      UserError: another kind of file.
    """
    with open(path, newline='') as file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != _COLUMNS:
            raise UserError(
                f'{path} is no table of candidates; its columns are {",".join(_COLUMNS)}'
            )
        try:
            return [
                Candidate(int(a), int(b), float(distance), Xyz(*map(int, point)))
                for a, b, distance, *point in reader
            ]
        except (TypeError, ValueError) as error:
            raise UserError(f'{path}, line {reader.line_num}: {error}') from error
