"""The sparse table of voxels shared by objects and segments, from which all voxel scores are computed.

Voxels are counted in runs along x, which are long, so a table costs little more than comparing every voxel
with its neighbour. Tables of parts of a volume add up to the table of the volume.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import clear_unlabelled, renumber

Counted = Literal['either', 'truth', 'segmentation', 'both']
"""Voxels labelled in truth or segmentation, in the truth, in the segmentation, or in both."""

_NOTHING = {
    'either': 'neither ground truth nor segmentation has a label',
    'truth': 'the ground truth has no label',
    'segmentation': 'the segmentation has no label',
    'both': 'no voxel is labelled in both ground truth and segmentation',
}

# A place packs a rank above a position in the box, which has fewer than 2^48 voxels, so the greater of two
# places is the better one. The rank is the length along x, then how central the run is in its block.
_POSITION_BITS = 48
_MAX_LENGTH, _CENTRAL_BITS = 2**10 - 1, 5
# Two pieces touch if at most this many voxels along x lie between them.
_MEETING_GAP = 8


@dataclass(frozen=True)
class Contingency:
    """Voxel counts by pair of truth object and segment, one row per pair; id 0 is unlabelled.

    Attributes:
      box: what was compared, in coordinates of the ground truth.
      truth: uint64 [n], ids of objects, ascending.
      segmentation: uint64 [n], ids of segments, ascending within each object.
      voxels: int64 [n], number of shared voxels.
      inner: int64 [n], how many of these lie outside the boundary band.
      place: int64 [n], where the overlap is longest along x, outside the boundary band if some of it is; see `at`.
      split_site: int64 [n], where the object continues in another segment; 0 if nowhere.
      merge_site: int64 [n], where the segment continues into another object; 0 if nowhere.
    """

    box: Box
    truth: np.ndarray
    segmentation: np.ndarray
    voxels: np.ndarray
    inner: np.ndarray
    place: np.ndarray
    split_site: np.ndarray
    merge_site: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, segmentation: np.ndarray) -> Contingency:
        """Counts two label volumes in memory.

        Args:
          truth: integer [z, y, x]; values that are not positive, and 2^64-1, are unlabelled.
          segmentation: likewise.

        Raises:
          UserError: different shapes.
        """
        if truth.shape != segmentation.shape:
            raise UserError(
                f'ground truth has shape {truth.shape}, segmentation has {segmentation.shape}; they '
                'must cover the same box'
            )
        box = Box.of_shape(truth.shape)
        return count_block(truth, segmentation, box, box)

    def where(self, counted: Counted) -> np.ndarray:
        """Returns which rows count: bool [n].

        Raises:
          UserError: unknown kind.
        """
        if counted not in _NOTHING:
            raise UserError(f'counted is {counted!r}; expected {", ".join(get_args(Counted))}')
        return {
            'either': (self.truth > 0) | (self.segmentation > 0),
            'truth': self.truth > 0,
            'segmentation': self.segmentation > 0,
            'both': (self.truth > 0) & (self.segmentation > 0),
        }[counted]

    def counted(self, counted: Counted) -> Contingency:
        """Returns the rows that count.

        Where a counted voxel has no label in one of the volumes, that background counts as one more
        segment: omitting objects is penalized as much as merging them with each other.

        Raises:
          UserError: unknown kind, or no voxel counts.
        """
        rows = self.where(counted)
        if not rows.any():
            raise UserError(_NOTHING[counted])
        return self.rows(rows)

    def without_boundary(self) -> Contingency:
        """Returns the table of the voxels outside the boundary band."""
        rows = self.inner > 0
        return self.rows(rows, voxels=self.inner[rows])

    def swapped(self) -> Contingency:
        """Returns the table with truth and segmentation exchanged; the order of rows is unchanged."""
        return dataclasses.replace(
            self,
            truth=self.segmentation,
            segmentation=self.truth,
            split_site=self.merge_site,
            merge_site=self.split_site,
        )

    def rows(self, which: np.ndarray, **changed: np.ndarray) -> Contingency:
        """Returns some of the rows.

        Args:
          which: indices or bool [n].
          **changed: columns that replace those of the chosen rows.
        """
        return Contingency(
            self.box, **{name: getattr(self, name)[which] for name in _COLUMNS} | changed
        )

    def at(self, place: int) -> Xyz:
        """Returns the voxel of a place, in coordinates of the ground truth."""
        z, y, x = np.unravel_index(place & (2**_POSITION_BITS - 1), self.box.size.zyx)
        start = self.box.start
        return Xyz(int(x) + start.x, int(y) + start.y, int(z) + start.z)


_COLUMNS = ('truth', 'segmentation', 'voxels', 'inner', 'place', 'split_site', 'merge_site')


def add_up(tables: Sequence[Contingency]) -> Contingency:
    """Adds the tables of parts of a box.

    Args:
      tables: at least one, all of the same box.
    """
    columns = (np.concatenate([getattr(t, name) for t in tables]) for name in _COLUMNS)
    return _grouped(tables[0].box, *columns)


def _grouped(
    box: Box,
    truth: np.ndarray,
    segmentation: np.ndarray,
    voxels: np.ndarray,
    inner: np.ndarray,
    *places: np.ndarray,
) -> Contingency:
    """Combines rows of the same pair into one."""
    if not len(truth):
        return Contingency(box, truth, segmentation, voxels, inner, *places)
    # Small numbers sort several times as fast as ids.
    numbers = [renumber(ids)[0] for ids in (truth, segmentation)]
    order = np.lexsort(numbers)
    new = np.ones(len(order), bool)
    new[1:] = np.logical_or(*(n[order][1:] != n[order][:-1] for n in numbers))
    first = np.flatnonzero(new)
    table = Contingency(
        box,
        truth[order[first]],
        segmentation[order[first]],
        *(np.add.reduceat(a[order], first) for a in (voxels, inner)),
        *(np.maximum.reduceat(a[order], first) for a in places),
    )
    return table.rows(np.lexsort((table.segmentation, table.truth)))


def count_block(
    truth: np.ndarray,
    segmentation: np.ndarray,
    block: Box,
    box: Box,
    band: np.ndarray | None = None,
) -> Contingency:
    """Counts a part of a box.

    Args:
      truth: integer [z, y, x]; values that are not positive are unlabelled.
      segmentation: integer [z, y, x].
      block: position of the two arrays.
      box: union of all blocks.
      band: bool [z, y, x], the boundary band; None: no band.
    """
    shape = truth.shape
    volumes = [np.ascontiguousarray(a).reshape(-1) for a in (truth, segmentation)]
    begins = np.zeros(truth.size, bool)
    begins[:: shape[-1]] = True
    for volume in volumes:
        begins[1:] |= volume[1:] != volume[:-1]
    start = np.flatnonzero(begins)
    length = np.diff(start, append=truth.size)
    ids = [clear_unlabelled(v[start]).astype(np.uint64) for v in volumes]
    central = _central(start, shape)
    inner, place = length, _place(length, central, start + length // 2)
    if band is not None:
        inner, place = _outside(band, begins, start)
    places = (
        place,
        _meetings(start, length, central, shape[-1], same=ids[0], other=ids[1]),
        _meetings(start, length, central, shape[-1], same=ids[1], other=ids[0]),
    )
    table = _grouped(box, *ids, length, inner, *places)
    moved = {
        name: _move_to_box(getattr(table, name), shape, block, box)
        for name in ('place', 'split_site', 'merge_site')
    }
    return table.rows(np.arange(len(table.truth)), **moved)


def _outside(
    band: np.ndarray, begins: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each run how many voxels lie outside the band, and where most of them lie; if none does, the most central place.

    Args:
      band: bool [z, y, x].
      begins: bool [z * y * x], where runs begin; is changed.
      start: where they do.
    """
    flat = band.reshape(-1)
    begins[1:] |= flat[1:] != flat[:-1]
    at = np.flatnonzero(begins)  # of stretches of runs, inside or outside
    length = np.diff(at, append=flat.size)
    counted = np.where(flat[at], 0, length)
    places = _place(counted + 1, _central(at, band.shape), at + length // 2)
    first = np.searchsorted(at, start)
    return np.add.reduceat(counted, first), np.maximum.reduceat(places, first)


def _place(length: np.ndarray, central: np.ndarray, position: np.ndarray) -> np.ndarray:
    rank = np.minimum(length, _MAX_LENGTH) << _CENTRAL_BITS | central
    return rank << _POSITION_BITS | position


def _central(start: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns how far each row is from the faces of the block, from 0 to the largest rank."""
    top = 2**_CENTRAL_BITS - 1
    of_axis = [np.minimum(np.arange(n), n - 1 - np.arange(n)) * 2 * top // n for n in shape[:2]]
    return np.minimum.outer(*of_axis).reshape(-1)[start // shape[2]]


def _move_to_box(places: np.ndarray, shape: Sequence[int], block: Box, box: Box) -> np.ndarray:
    """Converts places from positions in the block to positions in the box."""
    inside = np.unravel_index(places & (2**_POSITION_BITS - 1), shape)
    shift = Zyx(*(b - a for a, b in zip(box.start.zyx, block.start.zyx, strict=True)))
    _, ny, nx = box.size.zyx
    z, y, x = (i + s for i, s in zip(inside, shift, strict=True))
    return np.where(
        places > 0, places >> _POSITION_BITS << _POSITION_BITS | (z * ny + y) * nx + x, 0
    )


def _meetings(
    start: np.ndarray,
    length: np.ndarray,
    central: np.ndarray,
    row_length: int,
    *,
    same: np.ndarray,
    other: np.ndarray,
) -> np.ndarray:
    """Returns for each run a place at an end where `same` continues and `other` changes; 0: none."""
    places = np.zeros(len(start), np.int64)
    labelled = np.flatnonzero((same > 0) & (other > 0))
    left, right = labelled[:-1], labelled[1:]
    end = start + length
    meet = (same[left] == same[right]) & (other[left] != other[right])
    meet &= start[right] - end[left] <= _MEETING_GAP
    meet &= start[left] // row_length == start[right] // row_length
    left, right = left[meet], right[meet]
    weight = np.minimum(length[left], length[right])
    places[right] = _place(weight, central[right], start[right])
    places[left] = np.maximum(places[left], _place(weight, central[left], end[left] - 1))
    return places
