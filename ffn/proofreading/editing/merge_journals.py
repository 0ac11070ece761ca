"""Makes one journal of two that were begun on the same segmentation, and tells where they contradict each other.

The edits of both are put in the order of time, those that are in both once. Later ones count, as within a journal.
An edit contradicts the other journal if it held in its own and no longer does in the whole: its segments are not
joined, its parts not apart or not there, its object not the one that was done, two segments that were judged right not
joined or apart as they were. An object that is not the one that was done is open again, and so is one of which both
have cut a segment. An edit that is in both journals is no matter of dispute: what one of them has changed or undone of
it since counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ffn.proofreading.editing.cut_masks import load_mask, save_mask
from ffn.proofreading.editing.edits import Decision, Done, Edit, Merge, Split, Undo
from ffn.proofreading.editing.journal import Journal
from ffn.proofreading.editing.objects import Beginning, Objects, Pair, active_edits, replay
from ffn.proofreading.editing.zones import by_zone, cut_segments, find_zones, segments_of
from ffn.utils.errors import UserError

# Edits that are tried at a time.
_TOGETHER = 32

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
      prefer: 'first' or 'second': its edits keep their order and those that only the other has come as early as they
        can, so that its own count; what it contradicts nevertheless is undone, such as splits of segments that both
        have cut. '': the order of time.

    Raises:
      UserError: they are about different segmentations, or common edits are in different orders.
    """
    _check_same_base(first, second)
    before, edits = Beginning.of(joined), _by_time(first.edits, second.edits)
    if prefer:
        edits, conflicts = _overrule(before, first, second, prefer == 'first')
        cut_twice = set[int]()
    else:
        conflicts = {one.edit.number: one for one in _cut_by_both(edits, first, second)}
        cut_twice = cut_segments(one.edit for one in conflicts.values())
    found, whole = _contradictions(before, edits, first, second), replay(before, edits)
    changed = [
        edit
        for edit in edits
        if edit.number in whole.done
        and (edit.number in found or not cut_twice.isdisjoint(whole.members(*segments_of(edit))))
    ]
    return Combined(
        Journal(first.base, tuple(_without(edits, changed))),
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
                f'the journals have the edits {a[-1].number} and {b[-1].number} in different orders: one of them '
                'was not only added to, or both have been joined before, each with a --prefer of its own; go on from '
                'one of those that were joined'
            )
        elif a[-1].number in in_b or (b[-1].number not in in_a and b[-1].time < a[-1].time):
            found.append(b.pop())
        else:
            found.append(a.pop())
    return found + a[::-1] + b[::-1]


def _overrule(
    before: Beginning, first: Journal, second: Journal, first_wins: bool
) -> tuple[list[Edit], dict[str, Conflict]]:
    """The edits of both, with those of one undone that the other contradicts; and what they contradict each other in."""
    winner, loser = (first, second) if first_wins else (second, first)
    edits = _as_early_as_possible(loser.edits, winner.edits)
    cut_by_both = {one.edit.number: one for one in _cut_by_both(edits, first, second)}
    cuts = [one.edit for one in cut_by_both.values() if one.first != first_wins]
    edits = _without(edits, cuts)
    conflicts = {**_contradictions(before, edits, first, second), **cut_by_both}
    undone: list[Edit] = []
    its: dict[str, Edit] = {}
    new = {
        n: one.edit
        for n, one in conflicts.items()
        if one.first == first_wins and n not in cut_by_both
    }
    while new:  # what is undone may bring about others
        its |= new
        undone = _in_the_way(before, edits, winner, loser, list(its.values()))
        found = _contradictions(before, _without(edits, undone), first, second)
        new = {n: one.edit for n, one in found.items() if one.first == first_wins and n not in its}
        conflicts |= {n: found[n] for n in new}
    for edit in undone:
        text = 'is undone, as it does not go with what the other says'
        conflicts.setdefault(edit.number, Conflict(edit, not first_wins, text))
    return _without(edits, undone), conflicts


def _as_early_as_possible(some: Sequence[Edit], others: Sequence[Edit]) -> list[Edit]:
    """The edits of two journals in the order of each; those that only the first has do not wait for any of the second."""
    there = {edit.number for edit in others}
    last = ''  # edit of both, by its number, which those of the first follow
    following: dict[str, list[Edit]] = {last: []}
    for edit in some:
        if edit.number in there:
            last = edit.number
            following[last] = []
        else:
            following[last].append(edit)
    found = following['']
    for edit in others:
        found += [edit, *following.get(edit.number, ())]
    return found


def _without(edits: Sequence[Edit], some: Sequence[Edit]) -> list[Edit]:
    """Undoes some of the edits, each at once."""
    there, undone = {edit.number for edit in edits}, {edit.number for edit in some}
    found = []
    for edit in edits:
        found.append(edit)
        if edit.number in undone:
            # The same whenever the same journals are combined; another one if someone has taken back that undo.
            number = _next_number(edit.number)
            while number in there:
                number = _next_number(number)
            found.append(Edit(number, edit.time, Undo(edit.number)))
    return found


def _next_number(number: str) -> str:
    return hashlib.sha256(number.encode()).hexdigest()[:32]


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
        return edit.number in counting

    def is_near(edit: Edit) -> bool:
        return isinstance(edit.what, Undo) or not about.isdisjoint(segments_of(edit))

    zones = find_zones(before.equivalences, edits)
    candidates = by_zone(filter(may_be, loser.edits), zones)
    there, needed = by_zone(edits, zones), set[str]()
    for zone, these in by_zone(contradicted, zones).items():
        every, among = candidates.get(zone, []), (before, there[zone], these, alone)
        found = list(filter(is_near, every))
        least = _count_contradicted(*among, found)
        if least:  # a split keeps a part in one piece that others have joined far away
            found, least = every, _count_contradicted(*among, every)
        for some in _together_and_singly(tuple(found)):
            fewer = [one for one in found if one not in some]
            if len(fewer) < len(found) and _count_contradicted(*among, fewer) <= least:
                found = fewer
        needed.update(edit.number for edit in found)
    return [edit for edit in loser.edits if edit.number in needed]


def _together_and_singly(edits: Sequence[Edit]) -> Iterator[Sequence[Edit]]:
    """Some edits at a time, and then each of these: of many, few are in the way, or most."""
    for start in range(0, len(edits), _TOGETHER):
        some = edits[start : start + _TOGETHER]
        yield some
        yield from ((one,) for one in some)


def _count_contradicted(
    before: Beginning,
    edits: Sequence[Edit],
    contradicted: Sequence[Edit],
    alone: Objects,
    undone: Sequence[Edit],
) -> int:
    """How many of the winner's edits do not hold, if some of the loser's are undone."""
    whole = replay(before, _without(edits, undone))
    return sum(bool(_contradicted(edit, alone, whole)) for edit in contradicted)


def _contradictions(
    before: Beginning, edits: Sequence[Edit], first: Journal, second: Journal
) -> dict[str, Conflict]:
    """Edits of either journal that do not hold in the whole, by their numbers."""
    whole, alone = replay(before, edits), [replay(before, one.edits) for one in (first, second)]
    numbers = [{edit.number for edit in one.edits} for one in (first, second)]
    found = {}
    for side, journal in enumerate((first, second)):
        for edit in active_edits(journal.edits):
            common = edit.number in numbers[1 - side]
            text = '' if common else _contradicted(edit, alone[side], whole)
            if text := text or _marked_by_none(edit, alone, whole):
                found[edit.number] = Conflict(edit, side == 0, text)
    return found


def _cut_by_both(edits: Sequence[Edit], first: Journal, second: Journal) -> list[Conflict]:
    """Splits that count in one journal and in the whole, and cut a segment that one of the other journal cuts likewise."""
    counting = {edit.number for edit in active_edits(edits)}
    both = [{edit.number: edit for edit in active_edits(one.edits)} for one in (first, second)]
    of_one = [
        [
            (e, {cut.of for cut in e.what.cuts})
            for n, e in both[side].items()
            if isinstance(e.what, Split) and n in counting and n not in both[1 - side]
        ]
        for side in (0, 1)
    ]
    twice = set[int].intersection(*({i for _, cut in some for i in cut} for some in of_one))
    return [
        Conflict(edit, side == 0, f'both have cut segment {min(cut & twice)}')
        for side, some in enumerate(of_one)
        for edit, cut in some
        if cut & twice
    ]


def _marked_by_none(edit: Edit, alone: Sequence[Objects], whole: Objects) -> str:
    """Tells that an edit has an object done in the whole that it has not in either journal; '' otherwise."""
    if edit.number not in whole.done:
        return ''
    segment = whole.done[edit.number].id
    if any(
        edit.number in one.done and one.members(segment) == whole.members(segment) for one in alone
    ):
        return ''
    return f'the object of {segment} was marked as done, and is another one in the whole'


def _contradicted(edit: Edit, alone: Objects, whole: Objects) -> str:
    """What an edit says that holds in its own journal and not in the whole; '' if there is nothing."""
    what = edit.what
    if isinstance(what, Merge | Split):
        given = {*segments_of(edit), *cut_segments([edit])}
        if lost := whole.missing(given) - alone.missing(given):
            return f'one has a {what.kind} of part {min(lost)}, the other has undone the split that made it'
    if isinstance(what, Merge):
        a, b = what.a.id, what.b.id
        if alone.are_one(a, b) and not whole.are_one(a, b):
            return f'one has merged {a} and {b}, the other has split them'
    elif isinstance(what, Split):
        if pair := _joined_again(what, alone, whole):
            return 'one has split {} and {}, the other has merged them'.format(*pair)
    elif isinstance(what, Done) and edit.number in alone.done:
        segment = what.place.id
        if edit.number not in whole.done or alone.members(segment) != whole.members(segment):
            return f'one has marked the object of {segment} as done, the other has changed it'
    elif isinstance(what, Decision):
        now, then = whole.decisions.get(what.item.key), alone.decisions.get(what.item.key)
        answers = {now.answer if now else '', what.answer}
        if then is what and answers == {'right', 'wrong'}:
            return f'{what.item.key} is judged {what.answer} by one, and {now.answer if now else ""} by the other'
        if what.answer == 'right' and len(what.item.ids) == 2 and then is what:
            a, b = what.item.ids
            if alone.are_one(a, b) != whole.are_one(a, b):
                done = 'split' if alone.are_one(a, b) else 'merged'
                return f'one has judged {a} and {b} right as they were, the other has {done} them'
    return ''


def _joined_again(split: Split, alone: Objects, whole: Objects) -> Pair | None:
    """Two segments, one of either part, that are apart in the split's own journal and one object in the whole."""
    first, second = map(set, split.parts)
    for here in whole.by_object(first):
        others = second & whole.members(min(here))
        for own in alone.by_object(here) if others else ():
            if apart := others - alone.members(min(own)):
                return min(own), min(apart)
    return None
