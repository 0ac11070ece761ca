"""A session of proofreading, without a viewer."""

import itertools

import numpy as np
import pytest

from ffn.proofreading.editing import objects as objects_module
from ffn.proofreading.editing.edits import Item, Undo
from ffn.proofreading.editing.journal import Base, open_journal
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.proofreading.editing.queue import Queued
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.volume import Volume
from tests.proofreading.samples import merge

# Bodies along x, one above the other in y: 1 and 2 in a row, 3, and 4, which is to be cut.
PLACES = {1: Xyz(5, 3, 4), 2: Xyz(35, 3, 4), 3: Xyz(20, 9, 4), 4: Xyz(5, 15, 4)}
TABLE = MergeTable(
    [
        ScoredPair(1, 2, 0, Xyz(20, 3, 4), True, 0.9),
        ScoredPair(2, 3, 1, Xyz(30, 6, 4), False, 0.5),
        ScoredPair(1, 3, 1, Xyz(10, 6, 4), False, 0.4),
    ],
    [(1, 2)],
)
QUEUE = [
    Queued(Item('pair', (one.a, one.b), one.point), 10.0 - n, 'joined' if one.accepted else 'apart')
    for n, one in enumerate((TABLE.pairs[1], TABLE.pairs[2], TABLE.pairs[0]))
]


def volume():
    labels = np.zeros((9, 20, 40), np.uint64)
    labels[2:7, 1:6, 1:20], labels[2:7, 1:6, 20:39] = 1, 2
    labels[2:7, 7:12, 1:39], labels[2:7, 13:18, 1:39] = 3, 4
    return Volume('labels', labels, {})


@pytest.fixture
def opened(tmp_path):
    with open_journal(tmp_path / 'j.jsonl', Base('labels')) as journal:
        clock = itertools.count(0, 2).__next__

        def session(queue=(), labels=None):
            return Proofreading(labels or volume(), TABLE, journal, queue, clock=clock)

        yield session


def objects(session):
    return [session.objects.object_of(i) for i in (1, 2, 3, 4)]


def test_edits_at_voxels(opened):
    session = opened()
    session.merge(PLACES[3], PLACES[4])
    assert objects(session) == [1, 1, 3, 3]
    session.split([PLACES[1]], [PLACES[2]])
    assert objects(session) == [1, 2, 3, 3]
    session.split([PLACES[4]], [Xyz(35, 15, 4)])
    part = session.segment_at(Xyz(35, 15, 4))
    assert part not in (1, 2, 3, 4)
    session.mark_done(Xyz(35, 15, 4))
    assert list(session.objects.done_objects()) == [min(session.objects.members(part))]
    session.note(PLACES[1], 'odd')
    assert objects(opened()) == objects(session)
    for _ in range(5):
        session.undo()
    assert objects(session) == [1, 1, 3, 4]
    assert session.segment_at(Xyz(35, 15, 4)) == 4
    with pytest.raises(UserError, match='no edit to undo'):
        session.undo()


def test_a_note_replaces_the_one_at_its_place(opened):
    session = opened()
    session.note(PLACES[1], 'odd')
    session.note(PLACES[2], 'a spine?')
    session.note(PLACES[1], 'x' * 10_000)
    with pytest.raises(UserError, match='10001 characters; at most 10000'):
        session.note(PLACES[1], 'x' * 10_001)
    again = opened()
    assert {at: len(note.text) for at, note in again.objects.notes.items()} == {
        PLACES[2]: 8,
        PLACES[1]: 10_000,
    }
    again.undo()
    assert again.objects.notes[PLACES[1]].text == 'odd'
    again.note(PLACES[1], '')
    assert list(again.objects.notes) == [PLACES[2]]


def test_redo(opened):
    session = opened()
    session.merge(PLACES[3], PLACES[4])
    session.merge(PLACES[1], PLACES[3])
    session.undo()
    session.undo()
    assert objects(session) == [1, 1, 3, 4]
    session.redo()
    assert objects(session) == [1, 1, 3, 3]
    session.redo()
    assert objects(session) == [1, 1, 1, 1]
    with pytest.raises(UserError, match='no undo to take back'):
        session.redo()
    session.undo()
    session.note(PLACES[1], 'something else')
    with pytest.raises(UserError, match='no undo to take back'):
        session.redo()


def test_answers_put_right_what_is_wrong(opened):
    session = opened(QUEUE)
    assert session.left == 3
    assert session.item == QUEUE[0]
    session.answer('wrong')
    assert objects(session) == [1, 1, 1, 4]
    # 1 and 3 are one now through 2; nobody is asked about them.
    assert session.item == QUEUE[2]
    session.answer('wrong')
    assert objects(session) == [1, 2, 2, 4]
    # Now they are apart as they were when the queue was made.
    assert session.item == QUEUE[1]
    session.answer('right')
    assert session.item is None
    assert session.progress == (3, 2, 0, 2.0)
    with pytest.raises(UserError, match='all places of the queue are judged'):
        session.answer('skip')


def test_an_answer_is_taken_back_with_what_it_put_right(opened):
    session = opened(QUEUE)
    session.answer('wrong')
    session.undo()
    assert objects(session) == [1, 1, 3, 4]
    assert session.item == QUEUE[0]
    session.redo()
    assert objects(session) == [1, 1, 1, 4]
    assert session.item == QUEUE[2]
    with pytest.raises(UserError, match='no undo to take back'):
        session.redo()
    # After other edits, too, and one by one.
    session.undo()
    session.merge(PLACES[1], PLACES[4])
    session.answer('right')
    for _ in range(2):
        session.undo()
    session.redo()
    assert objects(session) == [1, 1, 3, 1]
    assert session.item == QUEUE[0]
    session.redo()
    assert session.progress.judged == 1


def test_an_answer_that_an_older_session_has_taken_back(tmp_path):
    with open_journal(tmp_path / 'j.jsonl', Base('labels')) as journal:
        session = Proofreading(volume(), TABLE, journal, QUEUE)
        session.answer('wrong')
        merged, answered = journal.edits
        for edit in (merged, answered):  # the other way round than now
            journal.add(Undo(edit.number))
        again = Proofreading(volume(), TABLE, journal, QUEUE)
        assert objects(again) == [1, 1, 3, 4]
        again.redo()
        assert objects(again) == [1, 1, 1, 4]
        assert again.item == QUEUE[2]


def test_what_was_settled_by_hand_is_not_asked_in_the_next_session(opened):
    session = opened(QUEUE)
    session.merge(PLACES[2], PLACES[3])
    assert session.left == 1
    assert opened(QUEUE).left == 1
    assert opened(QUEUE).item == QUEUE[2]
    session.split([PLACES[1]], [PLACES[2], PLACES[3]])
    # 1 and 3 are apart again, 1 and 2 no longer one.
    assert [one.item for one in (session, opened(QUEUE))] == [QUEUE[1]] * 2


@pytest.mark.parametrize(
    ('item', 'words'),
    [
        (Item('pair', (2, 4), PLACES[3]), 'asks about 2-4 at x,y,z 20,9,4, where 3 is'),
        (Item('pair', (2, 3), PLACES[4]), 'asks about 2-3 at x,y,z 5,15,4, where 4 is'),
        (Item('orphan', (3,), Xyz(0, 0, 99)), 'where no voxel is'),
    ],
)
def test_a_place_of_another_segmentation_is_not_judged(opened, item, words):
    session = opened([Queued(item, 9.0, 'apart'), *QUEUE])
    for answer in ('right', 'wrong'):
        with pytest.raises(UserError, match=words):
            session.answer(answer)
    assert objects(session) == [1, 1, 3, 4]
    assert session.progress.judged == 0
    session.answer('skip')
    assert session.item == next(one for one in QUEUE if one.item.key != item.key)


def test_a_place_that_a_third_segment_fills_fits(opened):
    """As `ffn fill` gives what is between two to the one that is nearest."""
    filled = volume()
    filled.read(filled.box)[:, 6, 25:34] = 4
    session = opened(QUEUE, filled)
    assert session.segment_at(QUEUE[0].item.point) == 4
    session.answer('wrong')
    assert objects(session) == [1, 1, 1, 4]


def test_a_place_in_another_segment_of_the_object_fits(opened):
    places = [Item('merger', (1,), PLACES[2]), Item('missing', (), PLACES[3])]
    session = opened([Queued(item, 9.0, '') for item in places])
    for _ in places:
        session.answer('right')
    session = opened([Queued(Item('orphan', (1,), PLACES[2]), 9.0, '')])
    session.split([PLACES[1]], [PLACES[2]])  # since the queue was made
    session.answer('right')
    assert session.left == 0
    at = Xyz(35, 15, 4)
    session.split([PLACES[4]], [at])
    session = opened([Queued(Item('orphan', (session.segment_at(at),), at), 9.0, '')])
    session.answer('right')
    assert session.left == 0


def test_the_next_session_goes_on(opened):
    opened(QUEUE).answer('skip')
    session = opened(QUEUE)
    assert session.item == QUEUE[1]
    assert session.left == 2
    assert session.progress.skipped == 1


def test_a_skipped_place_is_shown_by_a_queue_that_was_made_since(opened):
    opened(QUEUE).answer('skip')
    asked = [QUEUE[0]._replace(reason='apart, skipped 1 time'), *QUEUE[1:]]
    session = opened(asked)
    assert (session.item, session.left) == (asked[0], 3)
    session.answer('skip')
    assert (session.item, session.left) == (QUEUE[1], 2)
    session.undo()
    session.answer('right')
    assert (opened(asked).item, session.left) == (QUEUE[1], 2)


def test_no_key_walks_through_a_large_object(tmp_path, monkeypatch):
    count = 3000
    rows = [ScoredPair(n, n + 1, 1, Xyz(n, 0, 0), True, 0.7) for n in range(1, count)]
    queue = [Queued(Item('pair', (one.a, one.b), one.point), 1, 'joined') for one in rows]
    table = MergeTable(rows, [(one.a, one.b) for one in rows])
    walks, walk = [], objects_module._reached
    monkeypatch.setattr(
        objects_module, '_reached', lambda *arguments: walks.append(1) or walk(*arguments)
    )
    with open_journal(tmp_path / 'j.jsonl', Base('labels')) as journal:
        for n in range(200):
            journal.add(merge(1, count + 10 + n))
        session = Proofreading(volume(), table, journal, queue)
        session.answer('right')
        assert session.left == count - 2
        session.undo()
        session.undo()
        assert session.left == count - 1
        assert len(session.objects.equivalences()) == count + 199
    assert len(walks) == 1


@pytest.mark.parametrize(
    ('call', 'words'),
    [
        (lambda s: s.merge(PLACES[1], PLACES[2]), 'are in one object already'),
        (lambda s: s.merge(PLACES[1], Xyz(0, 0, 0)), 'no segment at x,y,z 0,0,0'),
        (lambda s: s.mark_done(Xyz(99, 0, 0)), 'outside of labels'),
        (lambda s: s.split([PLACES[1]], [PLACES[3]]), 'different objects'),
    ],
)
def test_what_cannot_be_is_no_edit(opened, tmp_path, call, words):
    session, before = opened(), (tmp_path / 'j.jsonl').read_bytes()
    with pytest.raises(UserError, match=words):
        call(session)
    assert (tmp_path / 'j.jsonl').read_bytes() == before
