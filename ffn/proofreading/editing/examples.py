"""What edits say about pairs of segments: examples from which agglomeration can be fitted."""

from __future__ import annotations

import collections
import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ffn.proofreading.editing.edits import FIRST_PART, Decision, Edit, Merge, Split
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.proofreading.editing.objects import Objects, active_edits
from ffn.utils.atomic import atomic_path
from ffn.utils.geometry import Xyz


class Example(NamedTuple):
    """Two segments of the base volume, and whether they are one object.

    Attributes:
      id_a: the lower id.
      id_b: the higher id.
      point: where they meet, or where one was pointed at.
      label: 1 if they are one object, 0 if not.
      source: 'merge', 'split' or 'decision'.
    """

    id_a: int
    id_b: int
    point: Xyz
    label: int
    source: str


def find_examples(table: MergeTable, edits: Sequence[Edit]) -> list[Example]:
    """Finds what a person has said about pairs; of several edits about one, the last counts.

    Merges say that two segments are one object. Splits say so of no pair of their two sides that agglomeration has
    looked at. A place of the queue that was judged says what is the case after the edit that put it right.

    Args:
      table: pairs that agglomeration has looked at.
      edits: of a journal.

    Returns:
      One example for each pair, ascending by ids; parts that were cut off segments are in none.
    """
    objects = Objects(table.neighbours())
    scored: dict[int, list[ScoredPair]] = collections.defaultdict(list)
    for pair in table.pairs:
        scored[pair.a].append(pair)
        scored[pair.b].append(pair)
    found: dict[tuple[int, int], Example] = {}
    for edit in active_edits(edits):
        objects.apply(edit)
        for one in _examples_of(edit, objects, scored):
            if one.id_a != one.id_b and one.id_b < FIRST_PART:
                found[one.id_a, one.id_b] = one
    return [found[pair] for pair in sorted(found)]


def write_examples(path: Path, examples: Collection[Example]) -> None:
    """Writes examples as CSV, atomically; see doc/formats.md."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id_a', 'id_b', 'x', 'y', 'z', 'label', 'source'])
        for one in examples:
            writer.writerow([one.id_a, one.id_b, *one.point, one.label, one.source])


def _examples_of(
    edit: Edit, objects: Objects, scored: Mapping[int, Sequence[ScoredPair]]
) -> list[Example]:
    """What an edit says, given the objects after it."""
    what = edit.what
    if isinstance(what, Merge):
        low, high = sorted((what.a, what.b), key=lambda place: place.id)
        return [Example(low.id, high.id, high.point, 1, 'merge')]
    if isinstance(what, Split):
        first, second = map(set, what.parts)
        return [
            Example(one.a, one.b, one.point, 0, 'split')
            for segment in first
            for one in scored.get(segment, ())
            if {one.a, one.b} - {segment} <= second
        ]
    if isinstance(what, Decision) and len(what.item.ids) == 2 and what.answer != 'skip':
        a, b = sorted(what.item.ids)
        is_as_it_should_be = what.answer == 'right' or bool(what.edit)
        label = objects.are_one(a, b) == is_as_it_should_be
        return [Example(a, b, what.item.point, int(label), 'decision')]
    return []
