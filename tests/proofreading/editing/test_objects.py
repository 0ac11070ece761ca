"""What edits come to: objects, done or not, whatever was undone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.proofreading.editing.edits import Cut, part_id
from ffn.proofreading.editing.objects import active_edits, neighbours_of, replay
from tests.proofreading.samples import decision, done, edit, merge, note, number, split, undo

PART = part_id(number(1), 0)


def objects_of(edits, pairs=()):
    return replay(neighbours_of(pairs), [edit(n, what) for n, what in enumerate(edits, 1)])


def test_merges_and_splits():
    found = objects_of([merge(1, 2), merge(5, 2), split([1], [2, 5])], [(5, 9)])
    assert found.members(2) == {2, 5, 9}
    assert found.members(1) == {1}
    assert found.equivalences() == {2: 2, 5: 2, 9: 2}
    assert not found.problems


def test_segments_that_a_split_does_not_name_stay_with_their_neighbours():
    """Another person's merge of 7 came in between."""
    found = objects_of([merge(1, 2), merge(2, 7), split([1], [2])])
    assert found.members(2) == {2, 7}
    through = objects_of([merge(1, 2), merge(2, 7), merge(7, 1), split([1], [2])])
    assert through.members(1) == {1, 2, 7}
    assert 'segments that it does not name still connect 1 and 2' in through.problems[0]
    others = objects_of([merge(2, 7), merge(7, 4), split([9, 2], [3, 4])])
    assert 'segments that it does not name still connect 2 and 4' in others.problems[0]


def test_a_part_stays_in_one_piece_without_what_held_it_together():
    """In a star, which a table of equivalences is, all edges of 2 and 3 lead to 1."""
    found = objects_of([split([1], [2, 3])], [(1, 2), (1, 3)])
    assert found.members(2) == {2, 3}


def test_parts_that_were_joined_by_an_undone_merge_are_not_joined_by_the_split():
    found = objects_of([merge(1, 2), merge(2, 3), split([1, 2], [3]), undo(1)])
    assert [found.members(i) for i in (1, 2, 3)] == [{1}, {2}, {3}]


def test_a_cut_part():
    cut = Cut(4, PART, 'a.npz')
    found = objects_of([split([4, 6], [PART], [cut])], [(4, 6)])
    assert found.cuts == [cut]
    assert found.members(4) == {4, 6}
    assert found.members(PART) == {PART}
    undone = objects_of([split([4], [PART], [cut]), merge(PART, 8), undo(1)])
    assert not undone.cuts
    assert f'the split that made part {PART} was undone' in undone.problems[0]


def test_a_large_id_is_no_part_that_is_missing():
    found = objects_of([merge(1, 2**62 + 5), split([1], [2**62 + 5])])
    assert not found.problems
    assert found.members(1) == {1}


def test_done_objects_that_are_changed_are_open_again():
    assert set(objects_of([merge(1, 2), done(2)]).done_objects()) == {1}
    assert not objects_of([merge(1, 2), done(2), merge(1, 3)]).done_objects()
    assert not objects_of([merge(1, 2), done(2), split([1], [2])]).done_objects()
    assert objects_of([merge(1, 2), done(2), merge(1, 2)]).done_objects() == {1: {1, 2}}
    assert objects_of([done(2), merge(1, 2), undo(2)]).done_objects() == {2: {2}}


def test_an_object_of_which_an_edit_is_undone_later_is_open_again():
    assert not objects_of([merge(1, 2), done(2), undo(1)]).done_objects()
    assert not objects_of([merge(1, 2), split([1], [2]), done(2), undo(2)]).done_objects()
    assert objects_of([merge(1, 2), done(2), undo(1), undo(3)]).done_objects() == {1: {1, 2}}
    assert objects_of([merge(1, 2), merge(3, 4), done(2), undo(2)]).done_objects() == {1: {1, 2}}
    # Taken back after it was marked as well: it counts as it was marked.
    assert objects_of([merge(1, 2), undo(1), done(2), undo(2)]).done_objects() == {}
    again = [merge(1, 2), done(2), undo(2), undo(1), undo(4), undo(3)]
    assert objects_of(again).done_objects() == {1: {1, 2}}
    cut = [split([4], [PART], [Cut(4, PART, 'a.npz')]), merge(PART, 8), done(8)]
    assert objects_of(cut).done_objects() == {8: {8, PART}}
    lost = objects_of([*cut, undo(1)])
    assert not lost.done_objects()
    assert lost.problems[-1].startswith('done ')
    assert not objects_of([undo(2), undo(1)]).problems  # of each other


def test_the_last_decision_counts():
    found = objects_of([decision('skip', 1, 2), decision('wrong', 1, 2), note(3)])
    assert found.decisions['pair:1-2'].answer == 'wrong'
    assert [one.text for one in found.notes.values()] == ['look']


def test_an_undo_can_be_undone():
    assert objects_of([merge(1, 2), undo(1)]).members(1) == {1}
    assert objects_of([merge(1, 2), undo(1), undo(2)]).members(1) == {1, 2}
    assert objects_of([merge(1, 2), undo(1), undo(2), undo(3)]).members(1) == {1}


segments = st.integers(1, 8)
pairs = st.lists(st.tuples(segments, segments), max_size=8)


@st.composite
def steps(draw):
    """Merges, splits, objects that are done, and undos of some of these."""
    edits = []
    for n in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(['merge', 'merge', 'split', 'done', 'undo']))
        if kind == 'undo' and n:
            edits.append(undo(draw(st.integers(1, n))))
        elif kind == 'done':
            edits.append(done(draw(st.integers(1, 8))))
        elif kind == 'split':
            order = draw(st.permutations(range(1, 9)))
            cut, end = draw(st.integers(1, 4)), draw(st.integers(5, 8))
            edits.append(split(sorted(order[:cut]), sorted(order[cut:end])))
        else:
            edits.append(merge(*draw(st.permutations(range(1, 9)))[:2]))
    return edits


def marked(edits, joined):
    """Objects that are done, by what each was when it was marked, step by step."""
    numbered, found = [edit(n, what) for n, what in enumerate(edits, 1)], {}
    for n in range(1, len(edits) + 1):
        if edits[n - 1].kind == 'done':
            found[number(n)] = set(objects_of(edits[:n], joined).members(edits[n - 1].place.id))
    counting = {one.number for one in active_edits(numbered)}
    return {n: members for n, members in found.items() if n in counting}


def partition(objects):
    return {frozenset(objects.members(i)) for i in range(1, 9)}


def walked(objects, segment):
    """The object of a segment, by its edges."""
    found, new = {segment}, [segment]
    while new:
        new = [i for one in new for i in objects.neighbours(one) if i not in found]
        found.update(new)
    return found


@settings(deadline=None, max_examples=40)
@given(steps(), pairs)
def test_objects_are_a_partition_and_equivalences_say_the_same(edits, joined):
    found = objects_of(edits, joined)
    assert sum(map(len, partition(found))) == 8
    table = found.equivalences()
    assert all(table.get(i, i) == found.object_of(i) for i in range(1, 9))
    assert {i for i in range(1, 9) if len(found.members(i)) > 1} == set(table)
    assert all(found.members(i) == walked(found, i) for i in range(1, 9))


@settings(deadline=None, max_examples=100)
@given(steps(), pairs)
def test_what_is_done_is_what_was_marked(edits, joined):
    found, then = objects_of(edits, joined), marked(edits, joined)
    assert all(found.members(place.id) == then[n] for n, place in found.done.items())


@settings(deadline=None, max_examples=40)
@given(steps(), pairs)
def test_undoing_everything_restores_the_beginning(edits, joined):
    back = [undo(n) for n in range(len(edits), 0, -1)]
    assert partition(objects_of([*edits, *back], joined)) == partition(objects_of([], joined))


@settings(deadline=None, max_examples=40)
@given(steps(), pairs, st.data())
def test_what_is_undone_might_as_well_not_be_there(edits, joined, data):
    numbered = [edit(n, what) for n, what in enumerate(edits, 1)]
    left = active_edits(numbered)
    assert partition(replay(neighbours_of(joined), left)) == partition(objects_of(edits, joined))
    if edits:
        last = data.draw(st.integers(1, len(edits)))
        again = objects_of([*edits, undo(last), undo(len(edits) + 1)], joined)
        assert partition(again) == partition(objects_of(edits, joined))


@settings(deadline=None, max_examples=40)
@given(steps(), pairs)
def test_a_merge_after_a_split_restores_the_object(edits, joined):
    before = objects_of(edits, joined)
    largest = max(partition(before), key=len)
    if len(largest) < 2:
        return
    first, *rest = sorted(largest)
    apart = objects_of([*edits, split([first], rest)], joined)
    assert partition(apart) == partition(before) - {largest} | {frozenset([first]), frozenset(rest)}
    again = objects_of([*edits, split([first], rest), merge(rest[0], first)], joined)
    assert partition(again) == partition(before)
