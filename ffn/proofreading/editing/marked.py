"""Which segments an object had when it was marked as done, if edits before that were taken back since.

The edits of each zone are gone through once. What counted at one time is mostly what counted at the time before and a
little more, so that the objects are made from the beginning only where what had counted no longer did.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from ffn.proofreading.editing.edits import Done, Edit, Merge, Split, Undo
from ffn.proofreading.editing.zones import by_zone, find_zones


class Changing(Protocol):
    """What `ffn.proofreading.editing.objects.Objects` does."""

    def apply(self, edit: Edit) -> None:
        """Applies a merge or split."""

    def members(self, segment: int) -> set[int]:
        """All segments of the object that a segment belongs to."""


def objects_when_marked(
    beginning: Callable[[], Changing],
    equivalences: Callable[[], Mapping[int, int]],
    edits: Sequence[Edit],
) -> Iterator[tuple[str, set[int]]]:
    """Finds the objects that are not those of now for sure.

    Args:
      beginning: returns the objects before any edit.
      equivalences: returns segment → id of its object, before any edit.
      edits: of a journal.

    Yields:
      The number of a done edit, and the segments of its object then.
    """
    if not _perhaps_others(edits):
        return
    for zone in by_zone(edits, find_zones(equivalences(), edits)).values():
        others, past = _perhaps_others(zone), _Past(beginning)
        for edit in zone if others else ():
            if edit.number in others and isinstance(edit.what, Done):
                yield edit.number, set(past.objects().members(edit.what.place.id))
            past.add(edit)


def _perhaps_others(edits: Sequence[Edit]) -> set[str]:
    """Numbers of done edits between a merge or split and an undo of it."""
    spans = itertools.accumulate(_taken_back(edits))
    return {
        edit.number
        for edit, later in zip(edits, spans, strict=True)
        if later and isinstance(edit.what, Done)
    }


def _taken_back(edits: Sequence[Edit]) -> list[int]:
    """1 from a merge or split on, -1 from an undo of it on."""
    index = {edit.number: n for n, edit in enumerate(edits)}
    found = [0] * len(edits)
    for n in range(len(edits)):
        root = n
        while isinstance(of := edits[root].what, Undo) and index.get(of.of, root) < root:
            root = index[of.of]
        if root < n and isinstance(edits[root].what, Merge | Split):
            found[root] += 1
            found[n] -= 1
    return found


class _Past:
    """The objects at a time of a journal, by the merges and splits that counted then."""

    def __init__(self, beginning: Callable[[], Changing]):
        self._beginning, self._objects = beginning, beginning()
        self._edits: list[Edit] = []
        self._index: dict[str, int] = {}
        self._targets: list[int | None] = []  # of undos
        self._undone: list[int] = []  # by how many undos that count
        self._end = 0  # those before are in the objects
        self._differing: set[int] = set()  # of these, those that do not count as they did

    def add(self, edit: Edit) -> None:
        """Goes on by one edit."""
        target = self._index.get(edit.what.of) if isinstance(edit.what, Undo) else None
        self._index[edit.number] = len(self._edits)
        self._edits.append(edit)
        self._targets.append(target)
        self._undone.append(0)
        by = 1
        while target is not None:
            self._undone[target] += by
            if self._undone[target] != max(by, 0):
                return  # it was undone, and is
            if target < self._end and isinstance(self._edits[target].what, Merge | Split):
                self._differing ^= {target}
            target, by = self._targets[target], -by

    def objects(self) -> Changing:
        """The objects now."""
        if self._differing:
            self._objects, self._end = self._beginning(), 0
            self._differing.clear()
        for n in range(self._end, len(self._edits)):
            if not self._undone[n] and isinstance(self._edits[n].what, Merge | Split):
                self._objects.apply(self._edits[n])
        self._end = len(self._edits)
        return self._objects
