"""Which objects are cut, joined and left out, the worst first, with a place to look at each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffn.evaluation.contingency import Contingency
from ffn.evaluation.voi import conditional_entropy
from ffn.utils.geometry import Xyz

_LISTED_PIECES = 5


@dataclass(frozen=True)
class Piece:
    """A part of an object.

    Attributes:
      id: what the part is called on the other side.
      voxels: its size.
      at_xyz: a voxel inside of it, in coordinates of the ground truth.
    """

    id: int
    voxels: int
    at_xyz: Xyz


@dataclass(frozen=True)
class Case:
    """An object that the other side has in several pieces.

    Attributes:
      id: the object.
      voxels: its voxels that both sides label.
      bits: what it adds to the variation of information over those voxels.
      number: of pieces.
      pieces: the greatest of them, greatest first.
      at_xyz: a voxel of the second piece where another one goes on, or else inside of it.
    """

    id: int
    voxels: int
    bits: float
    number: int
    pieces: tuple[Piece, ...]
    at_xyz: Xyz


@dataclass(frozen=True)
class Missing:
    """An object that the other side leaves out, wholly or in part.

    Attributes:
      id: the object.
      voxels: its size.
      missing: how many of them have no label on the other side.
      at_xyz: a voxel of that part.
    """

    id: int
    voxels: int
    missing: int
    at_xyz: Xyz


def worst_cuts(table: Contingency, count: int) -> tuple[Case, ...]:
    """Objects of the truth that are cut, by what they add to the variation of information.

    For segments that join objects, give `table.swapped()`.

    Args:
      table: the voxels to look at.
      count: how many to list at most.
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
        cases.append(Case(int(ids[i]), voxels, float(bits[i]), len(rows), pieces, at))
    return tuple(cases)


def most_missing(table: Contingency, count: int) -> tuple[Missing, ...]:
    """Objects of the truth that the segmentation leaves out, those with the most such voxels first."""
    rows = np.flatnonzero((table.truth > 0) & (table.segmentation == 0))
    rows = rows[np.argsort(-table.voxels[rows], kind='stable')[:count]]
    return tuple(
        Missing(
            int(table.truth[r]), int(table.voxels[table.truth == table.truth[r]].sum()),
            int(table.voxels[r]), table.at(table.place[r]),
        )
        for r in rows
    )  # fmt: skip
