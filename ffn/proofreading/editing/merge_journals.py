"""Makes one journal of two that were begun on the same segmentation, and tells where they contradict each other.

The edits of both are put in the order of time, those that are in both once. Later ones count, as within a journal.
An edit contradicts the other journal if it held in its own and no longer does in the whole: its segments are not
joined, its parts not apart, its object not the one that was done. An object that is not the one that was done is open
again, and so is one of which both have cut a segment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ffn.proofreading.editing.cut_masks import load_mask, save_mask
from ffn.proofreading.editing.edits import Decision, Done, Edit, Merge, Split, Undo
from ffn.proofreading.editing.journal import Journal
from ffn.proofreading.editing.objects import Beginning, Objects, active_edits, replay
from ffn.proofreading.editing.zones import by_zone, cut_segments, find_zones, segments_of
from ffn.utils.errors import UserError

Joined = Mapping[int, Collection[int]]


class Conflict(NamedTuple):
    """An edit of one journal that the other contradicts.

    Attributes:
      edit: the edit.
      first: whether it is of the first journal.
      text: what is contradicted.
    """

    edit: Edit
    first: bool
    text: str


class Combined(NamedTuple):
    """What came of two journals.

    Attributes:
      journal: the edits of both.
      conflicts: what they contradict each other in.
    """

    journal: Journal
    conflicts: tuple[Conflict, ...]


def combine(joined: Joined, first: Journal, second: Journal, prefer: str = '') -> Combined:
    """Makes one journal of two.

    Args:
      joined: segments that were joined before any edit, see `ffn.proofreading.editing.objects`.
      first: one journal.
      second: the other.
      prefer: 'first' or 'second': its edits come last, so that they count, and those of the other that they contradict
        nevertheless are undone, such as splits of segments that both have cut. '': the order of time.

    Raises:
      UserError: they are about different segmentations, or common edits are in different orders.
    """
    _check_same_base(first, second)
    before, edits = Beginning.of(joined), _by_time(first.edits, second.edits)
    conflicts = {one.edit.number: one for one in _cut_by_both(first, second)}
    cut_twice = cut_segments(one.edit for one in conflicts.values())
    if prefer:
        cut_twice = set()
        winner, loser = (first, second) if prefer == 'first' else (second, first)
        edits = _overrule(edits, loser, [one.edit for one in conflicts.values()])
        found = _contradictions(before, edits, first, second)
        its = [one.edit for one in found.values() if one.first == (prefer == 'first')]
        undone = _in_the_way(before, edits, winner, loser, its)
        edits = _overrule(edits, loser, undone)
        conflicts = {**found, **conflicts}
        for edit in undone:
            text = 'is undone, as it does not go with what the other says'
            conflicts.setdefault(edit.number, Conflict(edit, prefer == 'second', text))
    found, whole = _contradictions(before, edits, first, second), replay(before, edits)
    changed = [
        edit
        for edit in edits
        if edit.number in whole.done
        and (edit.number in found or not cut_twice.isdisjoint(whole.members(*segments_of(edit))))
    ]
    return Combined(
        Journal(first.base, (*edits, *_undo(edits, changed))),
        tuple({**found, **conflicts}.values()),
    )


def copy_masks(journal: Journal, sources: Sequence[Path], target: Path) -> None:
    """Copies the masks that a journal names; each is compared with its name.

    Args:
      journal: the combined one.
      sources: folders of the masks of both.
      target: folder of the masks of the whole.

    Raises:
      UserError: one is missing or damaged.
    """
    for edit in journal.edits:
        for cut in edit.what.cuts if isinstance(edit.what, Split) else ():
            there = [folder for folder in sources if (folder / cut.mask).exists()]
            save_mask(target, load_mask((there or list(sources))[0] / cut.mask))


def _check_same_base(first: Journal, second: Journal) -> None:
    if first.base != second.base and (
        not first.base.made_from
        or dataclasses.replace(first.base, labels='') != dataclasses.replace(second.base, labels='')
    ):
        raise UserError(
            f'the journals are about different segmentations: {first.base.labels} (made from '
            f'{first.base.made_from[:12] or "unknown"}, joined by {first.base.joined[:12] or "nothing"}) and '
            f'{second.base.labels} (made from {second.base.made_from[:12] or "unknown"}, joined by '
            f'{second.base.joined[:12] or "nothing"})'
        )


def _by_time(first: Sequence[Edit], second: Sequence[Edit]) -> list[Edit]:
    """Both in the order of time; the order within each is kept, whatever its clock said."""
    found: list[Edit] = []
    a, b = list(first[::-1]), list(second[::-1])
    in_a, in_b = {edit.number for edit in a}, {edit.number for edit in b}
    while a and b:
        if a[-1].number == b[-1].number:
            b.pop()
            found.append(a.pop())
        elif a[-1].number in in_b and b[-1].number in in_a:
            raise UserError(
                f'the journals have the edits {a[-1].number} and {b[-1].number} in different orders; one of them '
                'was not only added to'
            )
        elif a[-1].number in in_b or (b[-1].number not in in_a and b[-1].time < a[-1].time):
            found.append(b.pop())
        else:
            found.append(a.pop())
    return found + a[::-1] + b[::-1]


def _overrule(edits: Sequence[Edit], loser: Journal, some: Sequence[Edit]) -> list[Edit]:
    """Puts the loser's edits first, undoes some of them, and then goes on with the edits that it lacks."""
    its = {edit.number for edit in loser.edits}
    own = [edit for edit in edits if edit.number in its]
    undone = _undo(edits, [edit for edit in some if edit.number in its])
    return own + undone + [edit for edit in edits if edit.number not in its]


def _undo(edits: Sequence[Edit], some: Sequence[Edit]) -> list[Edit]:
    """Undoes some of the edits, unless that is among them already."""
    there = {edit.number for edit in edits}
    # The same number whenever the same journals are combined.
    numbers = {edit.number: f'{int(edit.number, 16) ^ (2**128 - 1):032x}' for edit in some}
    return [
        Edit(number, edits[-1].time, Undo(of))
        for of, number in numbers.items()
        if number not in there
    ]


def _in_the_way(
    before: Beginning,
    edits: Sequence[Edit],
    winner: Journal,
    loser: Journal,
    contradicted: Sequence[Edit],
) -> list[Edit]:
    """Edits of the loser without which what is contradicted of the winner's holds; others, earlier ones first, stay."""
    if not contradicted:
        return []
    alone, common = replay(before, winner.edits), {edit.number for edit in winner.edits}
    about = {i for edit in contradicted for one in segments_of(edit) for i in alone.members(one)}
    counting = {edit.number for edit in active_edits(loser.edits)}

    def may_be(edit: Edit) -> bool:
        if edit.number in common:
            return False
        if isinstance(edit.what, Undo):
            return edit.what.of in common
        return edit.number in counting and not about.isdisjoint(segments_of(edit))

    zones = find_zones(before.equivalences, edits)
    candidates = by_zone(filter(may_be, loser.edits), zones)
    there, needed = by_zone(edits, zones), set[str]()
    for zone, these in by_zone(contradicted, zones).items():
        found, among = candidates.get(zone, []), (before, there[zone], loser, these, alone)
        least = _count_contradicted(*among, found)
        for edit in tuple(found):
            fewer = [one for one in found if one is not edit]
            if _count_contradicted(*among, fewer) <= least:
                found = fewer
        needed.update(edit.number for edit in found)
    return [edit for edit in loser.edits if edit.number in needed]


def _count_contradicted(
    before: Beginning,
    edits: Sequence[Edit],
    loser: Journal,
    contradicted: Sequence[Edit],
    alone: Objects,
    undone: Sequence[Edit],
) -> int:
    """How many of the winner's edits do not hold, if some of the loser's are undone."""
    whole = replay(before, _overrule(edits, loser, undone))
    return sum(bool(_contradicted(edit, alone, whole)) for edit in contradicted)


def _contradictions(
    before: Beginning, edits: Sequence[Edit], first: Journal, second: Journal
) -> dict[str, Conflict]:
    """Edits of either journal that do not hold in the whole, by their numbers."""
    whole, found = replay(before, edits), {}
    for journal, other, is_first in ((first, second, True), (second, first, False)):
        alone, common = replay(before, journal.edits), {edit.number for edit in other.edits}
        for edit in active_edits(journal.edits):
            text = '' if edit.number in common else _contradicted(edit, alone, whole)
            if text:
                found[edit.number] = Conflict(edit, is_first, text)
    return found


def _cut_by_both(first: Journal, second: Journal) -> list[Conflict]:
    """Splits that cut a segment that the other journal has cut as well."""
    splits = [
        {e.number: e for e in active_edits(one.edits) if isinstance(e.what, Split)}
        for one in (first, second)
    ]
    found = []
    for side in (0, 1):
        other = {
            cut.of
            for number, edit in splits[1 - side].items()
            if number not in splits[side] and isinstance(edit.what, Split)
            for cut in edit.what.cuts
        }
        for number, edit in splits[side].items():
            if number in splits[1 - side] or not isinstance(edit.what, Split):
                continue
            both = sorted(other & {cut.of for cut in edit.what.cuts})
            if both:
                found.append(Conflict(edit, side == 0, f'both have cut segment {both[0]}'))
    return found


def _contradicted(edit: Edit, alone: Objects, whole: Objects) -> str:
    """What an edit says that holds in its own journal and not in the whole; '' if there is nothing."""
    what = edit.what
    if isinstance(what, Merge):
        a, b = what.a.id, what.b.id
        if alone.are_one(a, b) and not whole.are_one(a, b):
            return f'one has merged {a} and {b}, the other has split them'
    elif isinstance(what, Split):
        a, b = what.parts[0][0], what.parts[1][0]
        if not alone.are_one(a, b) and whole.are_one(a, b):
            return f'one has split {a} and {b}, the other has merged them'
    elif isinstance(what, Done) and edit.number in alone.done:
        segment = what.place.id
        if edit.number not in whole.done or alone.members(segment) != whole.members(segment):
            return f'one has marked the object of {segment} as done, the other has changed it'
    elif isinstance(what, Decision):
        now, then = whole.decisions.get(what.item.key), alone.decisions.get(what.item.key)
        answers = {now.answer if now else '', what.answer}
        if then is what and answers == {'right', 'wrong'}:
            return f'{what.item.key} is judged {what.answer} by one, and {now.answer if now else ""} by the other'
    return ''
