"""Two people's journals become one, and what they contradict each other in is told."""

import numpy as np
import pytest

from ffn.proofreading.editing.cut_masks import PartMask, load_mask, save_mask
from ffn.proofreading.editing.edits import Cut, part_id
from ffn.proofreading.editing.journal import Base, Journal
from ffn.proofreading.editing.merge_journals import combine, copy_masks
from ffn.proofreading.editing.objects import Objects, replay
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from tests.proofreading.samples import decision, done, edit, merge, number, split, undo

BASE = Base('labels.h5:labels', 'stamp', '')
SHARED = (edit(1, merge(1, 2)), edit(2, merge(8, 9)))


def combined(first, second, prefer='', shared=SHARED):
    """Joins two journals with a common beginning; edits are (number, time, what)."""
    one, two = (
        Journal(BASE, shared + tuple(edit(n, what, time) for n, time, what in edits))
        for edits in (first, second)
    )
    return combine({}, one, two, prefer)


def numbers(found):
    return [int(one.number, 16) for one in found.journal.edits]


def test_edits_are_in_the_order_of_time_and_once():
    found = combined([(3, 10, merge(3, 4)), (5, 30, done(3))], [(4, 20, merge(5, 6))])
    assert numbers(found) == [1, 2, 3, 4, 5]
    assert [one.text for one in found.conflicts] == []


def test_the_order_within_a_journal_counts_more_than_its_clock():
    found = combined([(3, 50, merge(3, 4)), (4, 5, undo(3))], [(5, 20, merge(5, 6))])
    assert numbers(found) == [1, 2, 5, 3, 4]
    assert replay({}, found.journal.edits).members(3) == {3}


def test_combining_again_changes_nothing():
    found = combined([(3, 10, merge(3, 4))], [(4, 20, merge(5, 6))])
    again = combine({}, found.journal, found.journal)
    assert again.journal == found.journal
    assert not again.conflicts


@pytest.mark.parametrize('order', [(10, 20), (20, 10)])
def test_one_merges_what_the_other_splits(order):
    shared = (edit(1, merge(1, 2)), edit(2, merge(2, 3)))
    found = combined(
        [(3, order[0], split([1, 2], [3]))], [(4, order[1], merge(1, 3))], shared=shared
    )
    (conflict,) = found.conflicts
    loser = 'merged' if order[0] > order[1] else 'split'
    assert f'one has {loser}' in conflict.text
    assert conflict.first == (loser == 'split')


@pytest.mark.parametrize(('prefer', 'apart'), [('first', True), ('second', False)])
def test_whose_edits_are_preferred(prefer, apart):
    found = combined(
        [(3, 10, split([1], [2]))], [(4, 20, merge(1, 2)), (5, 5, merge(6, 7))], prefer
    )
    assert found.conflicts
    objects = replay({}, found.journal.edits)
    assert objects.are_one(1, 2) != apart
    assert objects.are_one(6, 7)


@pytest.mark.parametrize('what', [split([1], [2]), merge(2, 7)])
@pytest.mark.parametrize('order', [(10, 20), (20, 10)])
def test_one_has_done_what_the_other_changes(what, order):
    found = combined([(3, order[0], done(1))], [(4, order[1], what)])
    assert [one.text for one in found.conflicts] == [
        'one has marked the object of 1 as done, the other has changed it'
    ]


def test_own_changes_are_no_conflict():
    """What both had in the beginning, one has thought over."""
    found = combined([(3, 10, split([1], [2])), (4, 11, merge(1, 3)), (5, 12, undo(4))], [])
    assert not found.conflicts


def test_a_place_judged_right_and_wrong():
    found = combined([(3, 10, decision('right', 1, 2))], [(4, 20, decision('wrong', 1, 2))])
    assert [one.text for one in found.conflicts] == [
        'pair:1-2 is judged right by one, and wrong by the other'
    ]
    assert not combined(
        [(3, 10, decision('skip', 1, 2))], [(4, 20, decision('wrong', 1, 2))]
    ).conflicts


@pytest.mark.parametrize(
    ('what', 'joined_at_first'),
    [(merge(3, 4), False), (split([1], [2]), True)],
)
@pytest.mark.parametrize('by_hand', [False, True])
@pytest.mark.parametrize('prefer', ['', 'first', 'second'])
@pytest.mark.parametrize('order', [10, 30])
def test_what_is_judged_right_stays_as_it_was(what, joined_at_first, by_hand, prefer, order):
    """The first journal changes what the second has judged right, by hand or with an answer."""
    pair = (1, 2) if joined_at_first else (3, 4)
    first = [(3, order, what)]
    if not by_hand:
        first.append((4, order + 1, decision('wrong', *pair, edit=number(3))))
    found = combined(first, [(5, 20, decision('right', *pair))], prefer)
    objects = replay({}, found.journal.edits)
    assert objects.are_one(*pair) == (joined_at_first == (prefer == 'second'))
    done = 'split' if joined_at_first else 'merged'
    told = {one.text for one in found.conflicts if one.edit.number == number(5)}
    a, b = pair
    right_is_last = prefer == 'second' or (prefer == '' and order == 10)
    if by_hand or right_is_last:
        assert told == {f'one has judged {a} and {b} right as they were, the other has {done} them'}
    else:
        assert told == {f'pair:{a}-{b} is judged right by one, and wrong by the other'}
    if not by_hand:
        answer = objects.decisions[f'pair:{a}-{b}'].answer
        assert answer == ('right' if right_is_last else 'wrong')
    assert combine({}, found.journal, found.journal).journal == found.journal


@pytest.mark.parametrize('prefer', ['', 'first', 'second'])
@pytest.mark.parametrize('what', [merge(100, 7), split([100], [5]), split([100], [200])])
def test_edits_of_a_part_that_the_other_has_undone(what, prefer):
    cut = (edit(1, split([8], [100], [Cut(8, 100, 'm.npz')])), edit(2, merge(100, 5)))
    if what == split([100], [200]):
        what = split([100], [200], [Cut(100, 200, 'n.npz')])
    found = combined([(3, 10, undo(1))], [(4, 20, what)], prefer, shared=cut)
    (told,) = [one.text for one in found.conflicts if one.edit.number == number(4)]
    kind = what.kind
    assert told == f'one has a {kind} of part 100, the other has undone the split that made it'
    objects = replay({}, found.journal.edits)
    assert objects.missing([100]) == (set() if prefer == 'second' else {100})
    assert objects.are_one(100, 7) == (kind == 'merge')


def test_what_is_undone_may_bring_about_other_contradictions():
    """Without the split, the merge joins what was judged right apart."""
    shared = (edit(1, merge(1, 2)), edit(2, merge(2, 3)), edit(9, merge(4, 5)))
    first = [(3, 10, merge(4, 6)), (4, 11, split([2, 1], [3]))]
    second = [
        (5, 20, merge(1, 4)),
        (6, 21, decision('right', 1, 3)),
        (7, 22, decision('right', 3, 6)),
    ]
    objects = replay({}, combined(first, second, 'second', shared).journal.edits)
    assert objects.members(1) == {1, 2, 3, 4, 5}
    assert objects.members(6) == {6}


def test_both_have_cut_a_segment(tmp_path):
    splits = {}
    for n in (3, 4):
        mask = PartMask.of(Box(Xyz(n, 0, 0), Xyz(2, 3, 4)), np.ones((4, 3, 2), bool))
        cut = Cut(2, part_id(number(n), 0), save_mask(tmp_path / str(n), mask))
        splits[n] = split([1, 2], [cut.new], [cut])
    one, two = (Journal(BASE, (*SHARED, edit(n, splits[n]))) for n in (3, 4))
    found = combine({}, one, two)
    assert [c.text for c in found.conflicts] == ['both have cut segment 2'] * 2
    preferred = combine({}, one, two, 'first')
    cuts = replay({}, preferred.journal.edits).cuts
    assert [cut.new for cut in cuts] == [part_id(number(3), 0)]
    assert combine({}, preferred.journal, two, 'first').journal == preferred.journal
    copy_masks(found.journal, [tmp_path / '3', tmp_path / '4'], tmp_path / 'both')
    assert {load_mask(path).box.start.x for path in (tmp_path / 'both').iterdir()} == {3, 4}


def test_a_cut_that_was_undone_is_no_conflict_again():
    """What is done of it since stays so, also where the other goes on."""
    splits = {n: split([8], [n], [Cut(8, n, 'm.npz')]) for n in (100, 200, 300)}
    second = [(4, 6, splits[200])]
    settled = combined([(3, 5, splits[100])], second, 'first', shared=()).journal
    went_on = Journal(BASE, (*settled.edits, edit(5, done(8), 20)))
    since = combined([*second, (6, 30, merge(1, 2))], [], shared=()).journal
    for prefer in ('', 'first', 'second'):
        found = combine({}, went_on, since, prefer)
        assert not found.conflicts
        assert list(replay({}, found.journal.edits).done) == [number(5)]
    cut_anew = Journal(BASE, (*since.edits, edit(7, splits[300], 40)))
    told = {int(one.edit.number, 16) for one in combine({}, went_on, cut_anew).conflicts}
    assert told == {3, 5, 7}


@pytest.mark.parametrize('prefer', ['', 'first', 'second'])
def test_an_object_of_a_part_that_both_have_cut_is_open(prefer):
    """The first journal goes on with its part, and has the rest done as well."""
    splits = {
        n: split([2], [part_id(number(n), 0)], [Cut(2, part_id(number(n), 0), 'm.npz')])
        for n in (3, 4)
    }
    part = part_id(number(3), 0)
    first = [(3, 10, splits[3]), (5, 30, merge(part, 7)), (6, 31, done(7)), (7, 32, done(2))]
    found = combined(first, [(4, 20, splits[4])], prefer, shared=())
    objects = replay({}, found.journal.edits)
    assert objects.done_objects() == ({2: {2}, 7: {7, part}} if prefer == 'first' else {})
    told = {int(one.edit.number, 16) for one in found.conflicts}
    assert told == ({3, 4, 5, 6, 7} if prefer == 'second' else {3, 4})


@pytest.mark.parametrize(
    ('changes', 'contradicting'),
    [
        ([undo(1)], {3}),
        ([merge(2, 7), undo(1), split([1], [8])], {3, 4}),
        ([split([1], [2])], {3}),
        ([merge(2, 7), merge(5, 6)], {3}),
    ],
)
@pytest.mark.parametrize('prefer', ['', 'first', 'second'])
@pytest.mark.parametrize('order', [10, 30])
def test_what_was_done_is_that_or_open(changes, contradicting, prefer, order):
    """The second journal has 1 and 2 done, which both have merged."""
    first = [(3 + n, order + n, what) for n, what in enumerate(changes)]
    found = combined(first, [(9, 20, done(1))], prefer, shared=(edit(1, merge(1, 2)),))
    objects = replay({}, found.journal.edits)
    assert objects.done_objects() == ({1: {1, 2}} if prefer == 'second' else {})
    told = {int(one.edit.number, 16) for one in found.conflicts}
    assert told == {9} | (contradicting if prefer == 'second' else set())
    assert objects.are_one(5, 6) == (len(changes) == 2)  # what does not matter to it stays
    again = combine({}, found.journal, found.journal)
    assert again.journal == found.journal


def test_what_connects_again_what_the_preferred_one_has_split():
    first = [(3, 10, merge(1, 7)), (4, 11, merge(2, 9)), (5, 12, merge(7, 2))]
    found = combined(first, [(6, 5, split([1], [2]))], 'second', shared=(edit(1, merge(1, 2)),))
    objects = replay({}, found.journal.edits)
    assert [objects.members(i) for i in (1, 2)] == [{1, 7}, {2, 9}]
    assert {int(one.edit.number, 16) for one in found.conflicts} == {5, 6}


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        # Split and merged again by one; meanwhile split by the other.
        ([(3, 5, split([1], [2])), (4, 20, merge(1, 2))], [(6, 10, split([1], [2]))]),
        # Done by one, at a time when it is another object in the whole.
        ([(3, 20, merge(1, 3))], [(6, 10, done(1))]),
        ([(3, 5, split([1], [2])), (4, 40, undo(3))], [(6, 10, merge(3, 2)), (7, 30, done(1))]),
    ],
)
@pytest.mark.parametrize('prefer', ['', 'first', 'second'])
def test_what_was_joined_is_joined_again_with_what_came_since(first, second, prefer):
    both = combined(first, second, prefer).journal
    went_on = Journal(BASE, (*both.edits, edit(8, merge(5, 6), 50)))
    for edits in (first, second):
        since = combined([*edits, (9, 60, done(7))], []).journal
        for chosen in ('', 'first', 'second'):
            again = combine({}, went_on, since, chosen)
            assert not again.conflicts
            objects, expected = (replay({}, one.edits) for one in (again.journal, went_on))
            assert objects.equivalences() == expected.equivalences()
            assert objects.done == {**expected.done, number(9): done(7).place}
            for one in (went_on, since):
                assert combine({}, again.journal, one).journal == again.journal


def test_what_joining_has_undone_is_taken_back():
    """The one who was overruled goes on, and is preferred."""
    first, second = [(3, 10, merge(3, 4))], [(5, 20, done(3))]
    both = combined(first, second, 'second').journal
    assert not replay({}, both.edits).are_one(3, 4)
    went_on = combined([*first, (6, 30, done(4))], []).journal
    for _ in range(2):
        both = combine({}, went_on, both, 'first').journal
        objects = replay({}, both.edits)
        assert objects.are_one(3, 4)
        assert list(objects.done) == [number(6)]


def test_what_its_own_marker_has_changed_is_not_done_again():
    found = combined([(3, 10, done(3)), (4, 11, merge(3, 4))], [(5, 20, done(4))], 'second')
    assert list(replay({}, found.journal.edits).done) == [number(5)]
    assert {int(one.edit.number, 16) for one in found.conflicts} == {3, 4, 5}


def test_journals_that_do_not_belong_together():
    with pytest.raises(UserError, match='different segmentations'):
        combine({}, Journal(BASE, ()), Journal(Base('labels.h5:labels', 'other'), ()))
    with pytest.raises(UserError, match=r'in different orders.*--prefer of its own'):
        combine({}, Journal(BASE, SHARED), Journal(BASE, SHARED[::-1]))
    moved = Base('elsewhere.h5:labels', 'stamp')
    assert combine({}, Journal(BASE, SHARED), Journal(moved, SHARED)).journal.base == BASE


def test_edits_about_other_objects_are_not_replayed(monkeypatch):
    """Whether one is in the way of what is preferred is known from those about the same objects."""
    applied, apply = [], Objects.apply
    monkeypatch.setattr(Objects, 'apply', lambda *given: applied.append(1) or apply(*given))
    shared = tuple(edit(n, merge(2 * n, 2 * n + 1)) for n in range(1, 101))
    first = [(200 + n, 200, done(2 * n)) for n in range(1, 101)]
    second = [(400 + n, 300, undo(n)) for n in range(1, 101)]
    found = combined(first, second, 'first', shared)
    assert len(replay({}, found.journal.edits).done) == 100
    assert len(applied) < 10 * len(found.journal.edits)


def test_edits_of_one_object_are_not_tried_one_by_one(monkeypatch):
    """One of many joins again what the preferred journal has split."""
    applied, apply = [], Objects.apply
    monkeypatch.setattr(Objects, 'apply', lambda *given: applied.append(1) or apply(*given))
    first = [(10 + n, 10, merge(1 + n % 2, 1000 + n)) for n in range(300)]
    found = combined([*first, (5, 11, merge(2, 1000))], [(6, 5, split([1], [2]))], 'second')
    assert {int(one.edit.number, 16) for one in found.conflicts} == {5, 6}
    assert len(applied) < 50 * len(found.journal.edits)
