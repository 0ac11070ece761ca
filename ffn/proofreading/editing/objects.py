"""What the edits of a journal come to: which segments are one object, which objects are done.

Segments of the base volume, and parts cut off them, are the nodes of a graph; an object is a connected component of
it, and its id is the least of its segments. At first, pairs that agglomeration joined are edges. A merge adds an
edge. A split keeps each of its parts together and removes all edges between them; segments that it does not name,
since another edit brought them, stay with those that they have edges to. An object is done until its segments change,
also where an edit that came before is taken back.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

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
from ffn.proofreading.editing.marked import objects_when_marked
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


def replay(joined: Mapping[int, Collection[int]] | Beginning, edits: Sequence[Edit]) -> Objects:
    """Applies the edits that count, in their order.

    Args:
      joined: segment → those it is joined with before any edit; see `neighbours_of`.
      edits: of a journal.
    """
    before, counting = Beginning.of(joined), active_edits(edits)
    marked = dict(objects_when_marked(lambda: Objects(before), lambda: before.equivalences, edits))
    objects = Objects(before, parts_of(edits))
    for edit in counting:
        then = marked.get(edit.number)
        if then is None or then == objects.members(min(then)):
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


class Beginning:
    """The objects before any edit; what is found out about them serves every replay."""

    def __init__(self, joined: Mapping[int, Collection[int]]):
        """Takes segment → those it is joined with."""
        self.joined = joined
        self._members: dict[int, set[int]] = {}

    @classmethod
    def of(cls, joined: Mapping[int, Collection[int]] | Beginning) -> Beginning:
        """The same, if it is one."""
        return joined if isinstance(joined, Beginning) else cls(joined)

    @functools.cached_property
    def equivalences(self) -> dict[int, int]:
        """Segment → id of its object, for all segments of objects of several."""
        return join_ids([(a, b) for a, near in self.joined.items() for b in near if a < b])

    def members(self, segment: int) -> set[int]:
        """All segments of the object that a segment belongs to."""
        if segment not in self.joined:
            return {segment}
        if segment not in self._members:
            members = _reached(segment, lambda one: self.joined.get(one, ()))
            self._members.update(dict.fromkeys(members, members))
        return self._members[segment]


def _reached(segment: int, neighbours: Callable[[int], Collection[int]]) -> set[int]:
    """A segment, and all that are connected with it."""
    found, new = {segment}, [segment]
    while new:
        near = set(neighbours(new.pop())) - found
        found |= near
        new.extend(near)
    return found


class Objects:
    """The objects after some edits.

    Attributes:
      cuts: all cuts, in their order.
      done: number of a done edit → where its object was pointed at.
      notes: voxel → the last note there.
      decisions: key of an item of the queue → the last decision about it.
      skips: key of an item → how many times it was skipped.
      before: the objects before any edit.
      by_hand: (lower id, higher id) of segments that a person has merged.
      parts: ids that are of parts, if they are there or not.
      problems: one line for each edit that could not be applied as it was meant.
    """

    def __init__(
        self, joined: Mapping[int, Collection[int]] | Beginning, parts: Iterable[int] = ()
    ):
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
        self.skips: collections.Counter[str] = collections.Counter()
        self.by_hand: set[Pair] = set()
        self.problems: list[str] = []
        self.before = Beginning.of(joined)
        self._changed: dict[
            int, set[int]
        ] = {}  # of segments with other edges than in the beginning
        self._cut_off: dict[int, int] = {}  # part → the segment of the base volume that it is of
        self._members: dict[int, set[int]] = {}  # all of the objects of these, one set for each

    def apply(self, edit: Edit) -> None:
        """Applies an edit; an undo is for `replay`."""
        what = edit.what
        if isinstance(what, Merge):
            self._check_parts(edit, (what.a.id, what.b.id))
            self._merge(what.a.id, what.b.id)
        elif isinstance(what, Split):
            self._split(edit, what)
        elif isinstance(what, Done):
            if self._check_parts(edit, self.members(what.place.id)):
                self.done[edit.number] = what.place
        elif isinstance(what, Note):
            self.notes.pop(what.place.point, None)
            if what.text:
                self.notes[what.place.point] = what
        elif isinstance(what, Decision):
            self.decisions[what.item.key] = what
            self.skips[what.item.key] += what.answer == 'skip'
        else:
            raise TypeError(f'{what} is not applied by itself')

    def neighbours(self, segment: int) -> Collection[int]:
        """Segments that a segment has edges to."""
        changed = self._changed.get(segment)
        return self.before.joined.get(segment, ()) if changed is None else changed

    def members(self, segment: int) -> set[int]:
        """All segments of the object that a segment belongs to; not to be changed, and right until the next edit."""
        return self._members.get(segment) or self.before.members(segment)

    def object_of(self, segment: int) -> int:
        """Id of the object that a segment belongs to."""
        return min(self.members(segment))

    def are_one(self, a: int, b: int) -> bool:
        """Whether two segments belong to one object."""
        return b in self.members(a)

    def by_object(self, segments: Iterable[int]) -> list[set[int]]:
        """Segments, by the object that they belong to."""
        left, found = set(segments), []
        while left:
            found.append(left & self.members(next(iter(left))))
            left -= found[-1]
        return found

    def equivalences(self) -> dict[int, int]:
        """Segment → id of its object, for all segments of objects of several."""
        table = dict(self.before.equivalences)
        for members in {id(one): one for one in self._members.values()}.values():
            table.update(dict.fromkeys(members, min(members)))
            if len(members) == 1:
                table.pop(min(members))
        return table

    def origin_of(self, segment: int) -> int:
        """Id of the object that a segment, or that which it was cut off, belonged to before any edit."""
        base = self._cut_off.get(segment, segment)
        return self.before.equivalences.get(base, base)

    def origins_of(self, segment: int) -> set[int]:
        """Ids of the objects that all segments of an object belonged to before any edit."""
        return {self.origin_of(one) for one in self._members.get(segment, (segment,))}

    def missing(self, segments: Iterable[int]) -> set[int]:
        """Those of some segments that are parts which do not exist: the split that made them does not count."""
        return self.parts.intersection(segments) - self._cut_off.keys()

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
            self._changed[segment] = set(self.before.joined.get(segment, ()))
        return self._changed[segment]

    def _merge(self, a: int, b: int) -> None:
        if not self.are_one(a, b):
            self._reopen(self.members(a))
            self._reopen(self.members(b))
        if a != b:
            self._connect(a, b)
            self.by_hand.add((min(a, b), max(a, b)))

    def _split(self, edit: Edit, split: Split) -> None:
        self._check_parts(edit, (cut.of for cut in split.cuts))
        for cut in split.cuts:
            self.cuts.append(cut)
            self.parts.add(cut.new)
            self._cut_off[cut.new] = self._cut_off.get(cut.of, cut.of)
            self._connect(cut.of, cut.new)
        groups = [group for part in split.parts for group in self.by_object(part)]
        touched = set().union(*(self.members(next(iter(group))) for group in groups))
        self._reopen(touched)
        first, second = map(set, split.parts)
        for segment in first:
            for other in second.intersection(self.neighbours(segment)):
                self._edges(segment).discard(other)
                self._edges(other).discard(segment)
                self.by_hand.discard((min(segment, other), max(segment, other)))
        self._find_members(touched)
        for group in groups:
            # Whatever was removed between the parts, each stays in one piece.
            pieces = sorted(min(piece) for piece in self.by_object(group))
            for a, b in itertools.pairwise(pieces):
                self._connect(a, b)
        for group in self.by_object(first):
            if others := second & self.members(min(group)):
                self.problems.append(
                    f'split {edit.number}: segments that it does not name still connect '
                    f'{min(group)} and {min(others)}'
                )
                break

    def _connect(self, a: int, b: int) -> None:
        self._edges(a).add(b)
        self._edges(b).add(a)
        small, large = sorted((self._own_members(a), self._own_members(b)), key=len)
        if small is not large:
            large |= small
            self._members.update(dict.fromkeys(small, large))

    def _own_members(self, segment: int) -> set[int]:
        """The segments of an object, to be changed."""
        if segment not in self._members:
            members = set(self.before.members(segment))
            self._members.update(dict.fromkeys(members, members))
        return self._members[segment]

    def _find_members(self, segments: set[int]) -> None:
        """Finds the objects that are left of some, after edges between their segments were removed."""
        left = set(segments)
        while left:
            members = _reached(next(iter(left)), self.neighbours)
            self._members.update(dict.fromkeys(members, members))
            left -= members

    def _check_parts(self, edit: Edit, segments: Iterable[int]) -> bool:
        """Notes parts that do not exist, since the split that made them was undone; returns whether there are none."""
        missing = self.missing(segments)
        self.problems += [
            f'{edit.what.kind} {edit.number}: the split that made part {segment} was undone'
            for segment in sorted(missing)
        ]
        return not missing

    def _reopen(self, segments: set[int]) -> None:
        """Objects that are changed are done no longer."""
        self.done = {n: place for n, place in self.done.items() if place.id not in segments}
