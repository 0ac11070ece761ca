"""Edits for tests."""

from ffn.proofreading.editing.edits import (
    Decision,
    Done,
    Edit,
    Item,
    Merge,
    Note,
    Place,
    Split,
    Undo,
)
from ffn.utils.geometry import Xyz

AT = Xyz(1, 2, 3)


def number(n):
    return f'{n:032x}'


def edit(n, what, time=None, who=''):
    return Edit(number(n), float(n if time is None else time), what, who)


def merge(a, b):
    return Merge(Place(a, AT), Place(b, AT))


def split(first, second, cuts=()):
    return Split(((AT,), (Xyz(4, 5, 6),)), (tuple(first), tuple(second)), tuple(cuts), 'segments')


def done(segment):
    return Done(Place(segment, AT))


def undo(n):
    return Undo(number(n))


def decision(answer, *ids, seconds=2.5, edit=''):
    return Decision(Item('pair', ids, AT), answer, seconds, edit)


def note(segment, text='look'):
    return Note(Place(segment, AT), text)
