"""Whatever two people have done, what is preferred holds, and what is lost is told."""

import itertools
import random

import pytest

from ffn.proofreading.editing.edits import Merge, Split
from ffn.proofreading.editing.journal import Base, Journal
from ffn.proofreading.editing.merge_journals import combine
from ffn.proofreading.editing.objects import active_edits, replay
from tests.proofreading.samples import decision, edit, merge, split, undo

BASE = Base('labels.h5:labels', 'stamp', '')
SEGMENTS, SHARED = range(1, 12), range(900, 908)


def go_on(rng, shared, first_number):
    """A journal that begins with what is shared."""
    edits = [*shared]
    for n in range(first_number, first_number + 9):
        members = sorted(replay({}, edits).members(rng.choice(SEGMENTS)))
        kind = rng.random()
        if kind < 0.4:
            what = merge(*rng.sample(SEGMENTS, 2))
        elif kind < 0.85 and len(members) > 1:
            rng.shuffle(members)
            middle = rng.randint(1, len(members) - 1)
            what = split(members[:middle], members[middle:])
        else:
            what = undo(rng.choice([*SHARED, *range(first_number, n)]))
        edits.append(edit(n, what, 100 * n))
    return Journal(BASE, tuple(edits))


def numbers_lost(journal, shared, whole):
    """Its own merges and splits of which any two segments are not in the whole what they are in the journal."""
    alone = replay({}, journal.edits)
    found = set()
    for one in active_edits(journal.edits):
        pairs, joined = [], isinstance(one.what, Merge)
        if joined:
            pairs = [(one.what.a.id, one.what.b.id)]
        elif isinstance(one.what, Split):
            pairs = itertools.product(*one.what.parts)
        if one not in shared and any(
            alone.are_one(*pair) == joined != whole.are_one(*pair) for pair in pairs
        ):
            found.add(one.number)
    return found


@pytest.mark.parametrize('prefer', ['', 'first', 'second'])
def test_what_is_preferred_holds_and_what_is_lost_is_told(prefer):
    some_lost = False
    for seed in range(40):
        rng = random.Random(seed)
        shared = [edit(n, merge(*rng.sample(SEGMENTS, 2))) for n in SHARED]
        first, second = go_on(rng, shared, 10), go_on(rng, shared, 50)
        found = combine({}, first, second, prefer)
        whole = replay({}, found.journal.edits)
        lost = {
            'first': numbers_lost(first, shared, whole),
            'second': numbers_lost(second, shared, whole),
        }
        assert not lost.get(prefer), seed
        assert set.union(*lost.values()) <= {one.edit.number for one in found.conflicts}, seed
        some_lost |= any(lost.values())
    assert some_lost


def test_any_two_segments_of_a_preferred_split_stay_apart():
    """The second journal joins 8 and 2 again, which neither part begins with."""
    shared = [edit(1, merge(8, 7)), edit(2, merge(8, 4)), edit(3, merge(4, 2))]
    first = Journal(BASE, (*shared, edit(10, split([7, 8], [2, 4]))))
    second = Journal(BASE, (*shared, edit(20, merge(4, 5)), edit(21, split([4, 7], [5, 2, 8]))))
    found = combine({}, first, second, 'first')
    objects = replay({}, found.journal.edits)
    assert [objects.members(one) for one in (7, 4)] == [{7, 8}, {2, 4, 5}]
    assert 'one has split 8 and 2, the other has merged them' in [c.text for c in found.conflicts]


def test_what_is_in_the_way_may_be_about_other_segments():
    """The split keeps 5 and 10 in one piece if 1 and 3 have been joined."""
    shared = [edit(n, merge(*pair)) for n, pair in enumerate([(1, 5), (5, 10), (10, 3)], 1)]
    own = split([5, 10], [1, 3]), undo(2), decision('right', 5, 10)
    first = Journal(BASE, (*shared, *(edit(n, what) for n, what in enumerate(own, 10))))
    second = Journal(BASE, (*shared, edit(20, merge(1, 3))))
    found = combine({}, first, second, 'first')
    assert not replay({}, found.journal.edits).equivalences()
