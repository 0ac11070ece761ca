"""What edits say about pairs of segments: examples from which agglomeration can be fitted."""

from __future__ import annotations

import collections
from collections.abc import Collection, Container, Iterator, Mapping, Sequence

from ffn.agglomeration.examples import Example
from ffn.proofreading.editing.edits import Decision, Edit, Merge, Split, parts_of
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.proofreading.editing.objects import Objects, active_edits

# Segment → pairs that agglomeration has looked at.
Scored = Mapping[int, Sequence[ScoredPair]]


def find_examples(table: MergeTable, edits: Sequence[Edit]) -> list[Example]:
    """Finds what a person has said about pairs; of several edits about one, the last counts.

    A merge says that all pairs between two objects that agglomeration has looked at are one object; if there are none, the
    two segments that were pointed at. A split says that the pairs between its two sides are not. A place of the queue that
    was judged says what is the case after the edit that put it right.

    Args:
      table: pairs that agglomeration has looked at.
      edits: of a journal.

    Returns:
      One example for each pair, ascending by ids; segments that were cut, and parts cut off them, are in none.
    """
    parts = parts_of(edits)
    objects = Objects(table.neighbours(), parts)
    scored = collections.defaultdict(list)
    for pair in table.pairs:
        scored[pair.a].append(pair)
        scored[pair.b].append(pair)
    found: dict[tuple[int, int], Example] = {}
    active = active_edits(edits)
    numbers = {edit.number for edit in active}
    for edit in active:
        examples = _of_change(edit, objects, scored, found.values())
        objects.apply(edit)
        for one in [*examples, *_of_decision(edit, objects, numbers)]:
            found[one.id_a, one.id_b] = one
    cut = {one.of for one in objects.cuts}
    return [
        one
        for pair, one in sorted(found.items())
        if pair[0] != pair[1] and cut.union(parts).isdisjoint(pair)
    ]


def _of_change(
    edit: Edit, objects: Objects, scored: Scored, found: Collection[Example]
) -> list[Example]:
    """What a merge or a split says, given the objects and what was said before it."""
    what = edit.what
    if isinstance(what, Split):
        first, second = map(set, what.parts)
        label = 0
    elif isinstance(what, Merge):
        first = set(objects.members(what.a.id))
        second = objects.members(what.b.id) - first
        label = 1
    else:
        return []
    # Also about pairs that agglomeration has not looked at.
    said = [
        one._replace(label=label, source=what.kind)
        for one in found
        if (one.id_a in first and one.id_b in second) or (one.id_a in second and one.id_b in first)
    ]
    looked_at = [
        Example(one.a, one.b, one.point, label, what.kind)
        for one in _between(first, second, scored)
    ]
    if isinstance(what, Merge) and not looked_at:
        low, high = sorted((what.a, what.b), key=lambda place: place.id)
        looked_at = [Example(low.id, high.id, high.point, label, what.kind)]
    return said + looked_at


def _between(first: set[int], second: set[int], scored: Scored) -> Iterator[ScoredPair]:
    """Pairs of a segment of one side and one of the other."""
    for segment in first:
        for one in scored.get(segment, ()):
            if {one.a, one.b} - {segment} <= second:
                yield one


def _of_decision(edit: Edit, objects: Objects, active: Container[str]) -> list[Example]:
    """What the answer about a place says, given the objects after it and the numbers of edits that count."""
    what = edit.what
    if not isinstance(what, Decision) or len(what.item.ids) != 2 or what.answer == 'skip':
        return []
    a, b = sorted(what.item.ids)
    is_as_it_should_be = what.answer == 'right' or what.edit in active
    label = objects.are_one(a, b) == is_as_it_should_be
    return [Example(a, b, what.item.point, int(label), 'decision')]
