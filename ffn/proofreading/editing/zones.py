"""Which edits may have to do with each other: those that are about the same objects, or about objects that others join.

Edits of different zones change different segments, so that what becomes of one zone is found without all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ffn.agglomeration.merges import join_ids
from ffn.proofreading.editing.edits import Decision, Done, Edit, Merge, Split, Undo


def find_zones(equivalences: Mapping[int, int], edits: Iterable[Edit]) -> dict[str, int]:
    """Finds the zones of edits, whichever of them count.

    Args:
      equivalences: segment → id of its object, before any edit.
      edits: in their order.

    Returns:
      Number of each edit → its zone.
    """
    numbers: dict[int | str, int] = {}
    first: dict[str, int] = {}
    pairs = []
    for edit in edits:
        what = edit.what
        if isinstance(what, Undo) and what.of in first:
            first[edit.number] = first[what.of]
            continue
        cuts = cut_segments([edit])
        # An answer changes no object: it goes with one of its segments, and joins no zones.
        segments = segments_of(edit)[:1] if isinstance(what, Decision) else segments_of(edit)
        about: list[int | str] = [equivalences.get(i, i) for i in (*segments, *cuts)]
        if not about:
            about = [what.item.key if isinstance(what, Decision) else edit.number]
        there = [numbers.setdefault(one, len(numbers)) for one in about]
        first[edit.number] = there[0]
        pairs += [(there[0], other) for other in there[1:]]
    joined = join_ids(pairs)
    return {number: joined.get(one, one) for number, one in first.items()}


def by_zone(edits: Iterable[Edit], zones: Mapping[str, int]) -> dict[int, list[Edit]]:
    """The edits of each zone."""
    found: dict[int, list[Edit]] = {}
    for edit in edits:
        found.setdefault(zones[edit.number], []).append(edit)
    return found


def segments_of(edit: Edit) -> tuple[int, ...]:
    """The segments that a merge, a split, an answer or an object that is done is about."""
    what = edit.what
    if isinstance(what, Merge):
        return what.a.id, what.b.id
    if isinstance(what, Split):
        return what.parts[0] + what.parts[1]
    if isinstance(what, Decision):
        return what.item.ids
    return (what.place.id,) if isinstance(what, Done) else ()


def cut_segments(edits: Iterable[Edit]) -> set[int]:
    """Segments that splits cut, and their parts."""
    splits = [edit.what for edit in edits if isinstance(edit.what, Split)]
    return {i for split in splits for cut in split.cuts for i in (cut.of, cut.new)}
