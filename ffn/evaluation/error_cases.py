"""Lists which objects are split, merged and missed, worst first, with a position for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffn.evaluation.contingency import Contingency
from ffn.evaluation.voi import conditional_entropy
from ffn.utils.geometry import Xyz

_LISTED_PIECES = 5


@dataclass(frozen=True)
class Piece:
    """A piece of an object.

    Attributes:
      id: id of the piece on the other side.
      voxels: its size.
      at_xyz: a voxel inside it, in coordinates of the ground truth.
    """

    id: int
    voxels: int
    at_xyz: Xyz


@dataclass(frozen=True)
class ErrorCase:
    """An object that is in several pieces on the other side.

    Attributes:
      id: id of the object.
      voxels: number of its voxels that are labelled on both sides.
      bits: its contribution to the variation of information over these voxels.
      number: number of pieces.
      pieces: the largest of them, largest first.
      at_xyz: a voxel of the second piece where it touches another one, or else inside it.
    """

    id: int
    voxels: int
    bits: float
    number: int
    pieces: tuple[Piece, ...]
    at_xyz: Xyz


@dataclass(frozen=True)
class MissedObject:
    """An object without a label on the other side, wholly or in part.

    Attributes:
      id: id of the object.
      voxels: its size.
      missing: number of its voxels without a label on the other side.
      at_xyz: one of these voxels.
    """

    id: int
    voxels: int
    missing: int
    at_xyz: Xyz


def find_splits(table: Contingency, count: int) -> tuple[ErrorCase, ...]:
    """Returns the split objects of the truth, by their contribution to the variation of information.

    For segments that merge objects, pass `table.swapped()`.

    Args:
      table: the voxels to consider.
      count: maximum number of cases.
    """
    both = table.rows((table.truth > 0) & (table.segmentation > 0))
    if not len(both.truth):
        return ()
    ids, bits = conditional_entropy(both.voxels, both.truth)
    cases = []
    for i in np.argsort(-bits, kind='stable')[:count]:
        rows = np.flatnonzero(both.truth == ids[i])
        if len(rows) < 2:
            continue
        rows = rows[np.argsort(-both.voxels[rows], kind='stable')]
        second = rows[1]
        pieces = tuple(
            Piece(int(both.segmentation[r]), int(both.voxels[r]), both.at(both.place[r]))
            for r in rows[:_LISTED_PIECES]
        )
        at = both.at(both.split_site[second] or both.place[second])
        voxels = int(both.voxels[rows].sum())
        cases.append(ErrorCase(int(ids[i]), voxels, float(bits[i]), len(rows), pieces, at))
    return tuple(cases)


def find_missed_objects(table: Contingency, count: int) -> tuple[MissedObject, ...]:
    """Returns objects of the truth that the segmentation misses, most missing voxels first."""
    rows = np.flatnonzero((table.truth > 0) & (table.segmentation == 0))
    rows = rows[np.argsort(-table.voxels[rows], kind='stable')[:count]]
    return tuple(
        MissedObject(
            int(table.truth[r]),
            int(table.voxels[table.truth == table.truth[r]].sum()),
            int(table.voxels[r]),
            table.at(table.place[r]),
        )
        for r in rows
    )
