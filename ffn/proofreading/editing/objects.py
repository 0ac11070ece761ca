"""What the edits of a journal come to: which segments are one object, which objects are done.

Segments of the base volume, and parts cut off them, are the nodes of a graph; an object is a connected component of
it, and its id is the least of its segments. At first, pairs that agglomeration joined are edges. A merge adds an
edge. A split keeps each of its parts together and removes all edges between them; segments that it does not name,
since another edit brought them, stay with those that they have edges to.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from ffn.agglomeration.merges import join_ids
from ffn.proofreading.editing.edits import (
    Cut,
    Decision,
    Done,
    Edit,
    Merge,
    Note,
    Place,
    Split,
    Undo,
    parts_of,
)
from ffn.utils.geometry import Xyz

Pair = tuple[int, int]


def active_edits(edits: Sequence[Edit]) -> list[Edit]:
    """The edits that count: those that no undo that counts names, and no undo itself."""
    undone: set[str] = set()
    found = []
    for edit in reversed(edits):
        if edit.number in undone:
            continue
        if isinstance(edit.what, Undo):
            undone.add(edit.what.of)
        else:
            found.append(edit)
    return found[::-1]


def replay(joined: Mapping[int, Collection[int]], edits: Sequence[Edit]) -> Objects:
    """Applies the edits that count, in their order.

    Args:
      joined: segment → those it is joined with before any edit; see `neighbours_of`.
      edits: of a journal.
    """
    objects = Objects(joined, parts_of(edits))
    for edit in active_edits(edits):
        objects.apply(edit)
    return objects


def neighbours_of(pairs: Iterable[Pair]) -> dict[int, set[int]]:
    """Segment → segments that it makes a pair with."""
    found: dict[int, set[int]] = collections.defaultdict(set)
    for a, b in pairs:
        if a != b:
            found[a].add(b)
            found[b].add(a)
    return dict(found)


class Objects:
    """The objects after some edits.

    Attributes:
      cuts: all cuts, in their order.
      done: number of a done edit → where its object was pointed at.
      notes: voxel → the last note there.
      decisions: key of an item of the queue → the last decision about it.
      by_hand: (lower id, higher id) of segments that a person has merged.
      parts: ids that are of parts, if they are there or not.
      problems: one line for each edit that could not be applied as it was meant.
    """

    def __init__(self, joined: Mapping[int, Collection[int]], parts: Iterable[int] = ()):
        """No edits yet.

        Args:
          joined: see `replay`; not changed.
          parts: of splits that are known already, see `parts_of`.
        """
        self.parts = set(parts)
        self.cuts: list[Cut] = []
        self.done: dict[str, Place] = {}
        self.notes: dict[Xyz, Note] = {}
        self.decisions: dict[str, Decision] = {}
        self.by_hand: set[Pair] = set()
        self.problems: list[str] = []
        self._joined = joined
        self._changed: dict[int, set[int]] = {}  # of segments whose edges differ from `joined`

    def apply(self, edit: Edit) -> None:
        """Applies an edit; an undo is for `replay`."""
        what = edit.what
        if isinstance(what, Merge):
            self._check_parts(edit, (what.a.id, what.b.id))
            self._merge(what.a.id, what.b.id)
        elif isinstance(what, Split):
            self._split(edit, what)
        elif isinstance(what, Done):
            self.done[edit.number] = what.place
        elif isinstance(what, Note):
            self.notes.pop(what.place.point, None)
            if what.text:
                self.notes[what.place.point] = what
        elif isinstance(what, Decision):
            self.decisions[what.item.key] = what
        else:
            raise TypeError(f'{what} is not applied by itself')

    def neighbours(self, segment: int) -> Collection[int]:
        """Segments that a segment has edges to."""
        changed = self._changed.get(segment)
        return self._joined.get(segment, ()) if changed is None else changed

    def members(self, segment: int) -> set[int]:
        """All segments of the object that a segment belongs to."""
        found, new = {segment}, [segment]
        while new:
            near = set(self.neighbours(new.pop())) - found
            found |= near
            new.extend(near)
        return found

    def object_of(self, segment: int) -> int:
        """Id of the object that a segment belongs to."""
        return min(self.members(segment))

    def are_one(self, a: int, b: int) -> bool:
        """Whether two segments belong to one object."""
        return b in self.members(a)

    def equivalences(self) -> dict[int, int]:
        """Segment → id of its object, for all segments of objects of several."""
        table = {**self._joined, **self._changed}
        return join_ids([(a, b) for a, near in table.items() for b in near if a < b])

    def changed(self) -> set[int]:
        """Segments whose edges are not those of the beginning."""
        return set(self._changed)

    def done_objects(self) -> dict[int, set[int]]:
        """Id of each object that is done → its segments."""
        members = (self.members(place.id) for place in self.done.values())
        return {min(one): one for one in members}

    def _edges(self, segment: int) -> set[int]:
        """The edges of a segment, to be changed."""
        if segment not in self._changed:
            self._changed[segment] = set(self._joined.get(segment, ()))
        return self._changed[segment]

    def _merge(self, a: int, b: int) -> None:
        members = self.members(a)
        if b not in members:
            self._reopen(members | self.members(b))
        if a != b:
            self._connect(a, b)
            self.by_hand.add((min(a, b), max(a, b)))

    def _split(self, edit: Edit, split: Split) -> None:
        self._reopen(self.members(split.parts[0][0]) | self.members(split.parts[1][0]))
        self._check_parts(edit, (cut.of for cut in split.cuts))
        for cut in split.cuts:
            self.cuts.append(cut)
            self.parts.add(cut.new)
            self._connect(cut.of, cut.new)
        groups = [group for part in split.parts for group in self._by_object(part)]
        first, second = map(set, split.parts)
        for segment in first:
            for other in second.intersection(self.neighbours(segment)):
                self._edges(segment).discard(other)
                self._edges(other).discard(segment)
                self.by_hand.discard((min(segment, other), max(segment, other)))
        for group in groups:
            # Whatever was removed between the parts, each stays in one piece.
            pieces = sorted(min(piece) for piece in self._by_object(group))
            for a, b in itertools.pairwise(pieces):
                self._connect(a, b)
        if second & self.members(split.parts[0][0]):
            self.problems.append(
                f'split {edit.number}: segments that it does not name still connect '
                f'{split.parts[0][0]} and {split.parts[1][0]}'
            )

    def _by_object(self, segments: Iterable[int]) -> list[set[int]]:
        """Segments, by the object that they belong to."""
        left, found = set(segments), []
        while left:
            found.append(left & self.members(next(iter(left))))
            left -= found[-1]
        return found

    def _connect(self, a: int, b: int) -> None:
        self._edges(a).add(b)
        self._edges(b).add(a)

    def _check_parts(self, edit: Edit, segments: Iterable[int]) -> None:
        """Notes parts that do not exist, since the split that made them was undone."""
        known = {cut.new for cut in self.cuts}
        for segment in segments:
            if segment in self.parts and segment not in known:
                self.problems.append(
                    f'{edit.what.kind} {edit.number}: the split that made part {segment} was undone'
                )

    def _reopen(self, segments: set[int]) -> None:
        """Objects that are changed are done no longer."""
        self.done = {n: place for n, place in self.done.items() if place.id not in segments}
