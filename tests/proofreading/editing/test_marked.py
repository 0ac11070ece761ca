"""Objects as they were when they were marked as done."""

from ffn.proofreading.editing.marked import objects_when_marked
from ffn.proofreading.editing.objects import Objects, replay
from tests.proofreading.samples import done, edit, merge, number, undo


def numbered(whats):
    return [edit(n, what) for n, what in enumerate(whats, 1)]


def when_marked(edits):
    return dict(objects_when_marked(lambda: Objects({}), dict, edits))


def test_only_what_may_differ_is_looked_at():
    edits = numbered([done(1), merge(1, 2), done(1), merge(3, 4), done(3), undo(2), done(1)])
    found = when_marked(edits)
    assert found == {number(3): {1, 2}}
    assert set(replay({}, edits).done) == {number(1), number(5), number(7)}


def test_what_is_taken_back_twice_and_named_by_itself():
    edits = [merge(1, 2), done(1), undo(1), done(1), undo(3), done(1), undo(7), undo(1), undo(1)]
    found = when_marked(numbered(edits))
    assert found == {number(2): {1, 2}, number(4): {1}, number(6): {1, 2}}


def test_an_early_undo_applies_every_edit_once_more(monkeypatch):
    """As a joined journal has it, with many objects that were marked between."""
    applied, apply = [], Objects.apply
    monkeypatch.setattr(Objects, 'apply', lambda *given: applied.append(1) or apply(*given))
    whats = [merge(1, 2)]
    for n in range(10, 610, 2):
        whats += [merge(n, n + 1), merge(n, 1), undo(len(whats) + 2), done(n)]
    assert len(replay({}, numbered([*whats, undo(1)])).done) == 300
    assert len(applied) < 2 * len(whats)


def test_undos_between_objects_that_are_marked(monkeypatch):
    """As two journals in the order of time have them: each is looked at with the edits about it alone."""
    applied, apply = [], Objects.apply
    monkeypatch.setattr(Objects, 'apply', lambda *given: applied.append(1) or apply(*given))
    whats = [merge(n, n + 1) for n in range(1, 600, 2)]
    for n in range(1, 301):
        whats += [done(2 * n), undo(n)]
    assert not replay({}, numbered(whats)).done
    assert len(applied) < 2 * len(whats)
