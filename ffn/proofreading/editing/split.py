"""Splits an object between points on either side: segments that both sides point at are cut, the others divided."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ffn.proofreading.editing.cut_masks import CutLabels, PartMask, save_mask
from ffn.proofreading.editing.cut_segment import cut_segment
from ffn.proofreading.editing.edits import Cut, Split, part_id
from ffn.proofreading.editing.merge_table import BY_HAND, UNKNOWN, ScoredPair
from ffn.proofreading.editing.objects import Objects
from ffn.proofreading.editing.supervoxel_cut import divide_segments
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume

# Voxels that are read to find all of a segment that is cut.
MAX_VOXELS = 1 << 28
_FIRST_MARGIN = 64

Points = tuple[Sequence[Xyz], Sequence[Xyz]]


@dataclass(frozen=True)
class SplitInput:
    """What a split needs to know.

    Attributes:
      volume: the base volume.
      masks: folder of the masks, see `ffn.proofreading.editing.cut_masks`.
      objects: as they are before the split.
      evidence: (lower id, higher id) → what agglomeration found about the pair.
      max_voxels: how much is read to find all of a segment that is cut.
    """

    volume: Volume
    masks: Path
    objects: Objects
    evidence: Mapping[tuple[int, int], ScoredPair]
    max_voxels: int = MAX_VOXELS

    @property
    def labels(self) -> CutLabels:
        """The base volume with the parts that were cut off before."""
        return CutLabels(self.masks, tuple(self.objects.cuts))


@dataclass(frozen=True)
class _CutOff:
    """A segment that was cut, and where its two sides are: uint8 [z, y, x] of a box."""

    cut: Cut
    sides: np.ndarray
    box: Box

    @functools.cached_property
    def near(self) -> tuple[cKDTree, cKDTree]:
        """Finds the nearest voxel of either side; made only where there are places to assign to one."""
        start = np.array(self.box.start.zyx)
        return (
            cKDTree(np.argwhere(self.sides == 1) + start),
            cKDTree(np.argwhere(self.sides == 2) + start),
        )


def split_object(given: SplitInput, points: Points, number: str) -> Split:
    """Finds the two parts of an object.

    Args:
      given: volume and objects.
      points: voxels of one object on the first side, and on the second.
      number: that the edit will have; ids of cut parts follow from it.

    Returns:
      The edit. Masks of cut parts are on disk.

    Raises:
      UserError: points that are not in one object, or that are on both sides; a segment that is too large to cut.
    """
    segments = _segments_of(given, points)
    both = set(segments[0]) & set(segments[1])
    offs = [
        _cut_off(given, segment, points, segments, part_id(number, i))
        for i, segment in enumerate(sorted(both))
    ]
    members = given.objects.members(segments[0][0]) | {one.cut.new for one in offs}
    new = {one.cut.of: one.cut.new for one in offs}
    sides = set(segments[0]), {new.get(segment, segment) for segment in segments[1]}
    parts = divide_segments(members, _edges(given, members, offs), sides)
    method = (
        'voxels' if len(members) == 2 and offs else 'segments and voxels' if offs else 'segments'
    )
    cuts = tuple(one.cut for one in offs)
    return Split((tuple(points[0]), tuple(points[1])), parts, cuts, method)


def split_between(given: SplitInput, a: int, b: int, point: Xyz) -> Split:
    """Finds the two parts of an object between two of its segments; no segment is cut.

    Args:
      given: volume and objects.
      a: a segment.
      b: another one of the same object.
      point: where they were looked at.

    Raises:
      UserError: they are of different objects.
    """
    members = given.objects.members(a)
    if a == b or b not in members:
        raise UserError(
            f'{a} and {b} are not two segments of one object; there is nothing to split'
        )
    parts = divide_segments(members, _edges(given, members, ()), ([a], [b]))
    return Split(((point,), (point,)), parts, (), 'segments')


def _segments_of(given: SplitInput, points: Points) -> tuple[list[int], list[int]]:
    if not points[0] or not points[1]:
        raise UserError('a split needs a point on either side')
    labels = given.labels
    found = [[labels.at(given.volume, point) for point in side] for side in points]
    for segment, point in zip(itertools.chain(*found), itertools.chain(*points), strict=True):
        if not segment:
            raise UserError(
                f'there is no segment at {point}; point at the object that is to be split'
            )
    members = given.objects.members(found[0][0])
    for segment, point in zip(itertools.chain(*found), itertools.chain(*points), strict=True):
        if segment not in members:
            raise UserError(
                f'the points are of different objects: {points[0][0]} is in {min(members)}, {point} in '
                f'{given.objects.object_of(segment)}; there is nothing to split'
            )
    return found[0], found[1]


def _cut_off(
    given: SplitInput,
    segment: int,
    points: Points,
    segments: tuple[list[int], list[int]],
    new: int,
) -> _CutOff:
    """Cuts a segment that both sides point at, and saves the part on the second side."""
    inside = [
        [p for p, of in zip(those, ids, strict=True) if of == segment]
        for those, ids in zip(points, segments, strict=True)
    ]
    box, voxels = _find_segment(given, segment, [*inside[0], *inside[1]])
    within = [[_within(point, box) for point in side] for side in inside]
    size = given.volume.voxel_size
    sides = cut_segment(
        voxels, (within[0], within[1]), (1, 1, 1) if size is None else size.xyz[::-1]
    )
    part = _bounding_box(sides == 2)
    mask = PartMask.of(
        Box(Xyz(*(a + b for a, b in zip(part.start, box.start, strict=True))), part.size),
        (sides == 2)[part.slices_zyx],
    )
    return _CutOff(Cut(segment, new, save_mask(given.masks, mask)), sides, box)


def _within(point: Xyz, box: Box) -> tuple[int, int, int]:
    x, y, z = (p - s for p, s in zip(point, box.start, strict=True))
    return z, y, x


def _find_segment(given: SplitInput, segment: int, points: Sequence[Xyz]) -> tuple[Box, np.ndarray]:
    """Reads larger and larger boxes until all of a segment is inside; returns it and the box, bool [z, y, x]."""
    low, high = (Xyz(*(f(p[i] for p in points) for i in range(3))) for f in (min, max))
    points_box = Box(low, Xyz(*(b - a + 1 for a, b in zip(low, high, strict=True))))
    margin = [_FIRST_MARGIN] * 3
    while True:
        box = points_box.grow(Xyz(*margin)).intersection(given.volume.box) or points_box
        if box.size.x * box.size.y * box.size.z > given.max_voxels:
            raise UserError(
                f'segment {segment} is too large to cut: its box has more than {given.max_voxels:,} voxels; '
                'proofread the pieces that it was joined of, with --merges, or raise --max_cut_voxels'
            )
        voxels = given.labels.read(given.volume, box) == np.uint64(segment)
        open_axes = [axis for axis in range(3) if _leaves(voxels, axis, box, given.volume.box)]
        if not open_axes:
            return box, voxels
        for axis in open_axes:
            margin[axis] *= 2


def _leaves(voxels: np.ndarray, axis: int, box: Box, whole: Box) -> bool:
    """Whether a segment goes on beyond its box along an axis, 0 for x."""
    faces = np.moveaxis(voxels, 2 - axis, 0)
    before = box.start[axis] > whole.start[axis] and bool(faces[0].any())
    return before or (box.end[axis] < whole.end[axis] and bool(faces[-1].any()))


def _bounding_box(voxels: np.ndarray) -> Box:
    spans = [np.flatnonzero(voxels.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    start = [int(span[0]) for span in spans]
    return Box.from_zyx(start, [int(s[-1]) + 1 - a for s, a in zip(spans, start, strict=True)])


def _edges(
    given: SplitInput, members: set[int], offs: Sequence[_CutOff]
) -> dict[tuple[int, int], float]:
    """Strength of what holds the members together."""
    found: dict[tuple[int, int], float] = {}
    by_segment = {one.cut.of: one for one in offs}
    pairs = {(a, b): None for a in members for b in given.objects.neighbours(a) if a < b} | {
        pair: None for pair in given.evidence if members.issuperset(pair)
    }
    for pair in pairs:
        ends, strength = list(pair), UNKNOWN
        if (evidence := given.evidence.get(pair)) is not None:
            point, strength = evidence.point.zyx, evidence.strength
            ends = [_nearer(by_segment[i], point) if i in by_segment else i for i in pair]
        if pair in given.objects.by_hand:
            strength = BY_HAND
        low, high = sorted(ends)
        found[low, high] = found.get((low, high), 0.0) + strength
    return found


def _nearer(one: _CutOff, point_zyx: Sequence[int]) -> int:
    """Which side of a segment that is cut is nearer to a point: its id."""
    first, second = (tree.query(point_zyx)[0] for tree in one.near)
    return one.cut.new if second < first else one.cut.of
