"""A session of proofreading: edits at voxels, answers about places of the queue, and how far it has come.

Every edit is in the journal before it counts here. Whoever shows the session calls its methods from one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ffn.proofreading.editing.cut_masks import CutLabels, masks_folder
from ffn.proofreading.editing.edits import (
    MAX_TEXT,
    Decision,
    Done,
    Edit,
    Item,
    Merge,
    Note,
    Place,
    Undo,
    What,
)
from ffn.proofreading.editing.journal import JournalWriter, new_number
from ffn.proofreading.editing.merge_table import MergeTable
from ffn.proofreading.editing.objects import Beginning, Objects, active_edits, replay
from ffn.proofreading.editing.queue import (
    Progress,
    Queued,
    measure_progress,
    times_skipped,
    was_joined,
)
from ffn.proofreading.editing.same_segmentation import are_around, segment_at
from ffn.proofreading.editing.split import MAX_VOXELS, SplitInput, split_between, split_object
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.volume import Volume


class Proofreading:
    """A session; see the module.

    Attributes:
      volume: the base volume.
      objects: as they are after all edits.
      item: the place of the queue that is to be judged now; None if there is none left.
    """

    def __init__(
        self,
        volume: Volume,
        table: MergeTable,
        journal: JournalWriter,
        queue: Sequence[Queued] = (),
        max_cut_voxels: int = MAX_VOXELS,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Goes on where the journal ends.

        Args:
          volume: the base volume, labels.
          table: what its segments are joined by.
          journal: receives the edits.
          queue: places to look at, in this order.
          max_cut_voxels: see `SplitInput`.
          clock: seconds, for the time of a decision.
        """
        self.volume, self._journal, self._queue = volume, journal, queue
        self._before, self._evidence = Beginning(table.neighbours()), table.by_pair()
        self._max_cut_voxels, self._clock = max_cut_voxels, clock
        self.objects = replay(self._before, journal.edits)
        self._labels = CutLabels(masks_folder(journal.path))
        self._since = clock()
        self.item = self._find_item()

    @property
    def labels(self) -> CutLabels:
        """The base volume with the parts that were cut off."""
        if (cuts := tuple(self.objects.cuts)) != self._labels.cuts:
            self._labels = self._labels.with_cuts(cuts)
        return self._labels

    @property
    def progress(self) -> Progress:
        """How far the queue has been judged."""
        return measure_progress(self.objects)

    @property
    def left(self) -> int:
        """Number of places that are not judged yet, this one included."""
        return sum(self._is_open(one) for one in self._queue)

    def segment_at(self, point: Xyz) -> int:
        """The segment at a voxel.

        Raises:
          UserError: there is none.
        """
        if not (segment := self.labels.at(self.volume, point)):
            raise UserError(f'there is no segment at {point}')
        return segment

    def merge(self, a: Xyz, b: Xyz) -> Edit:
        """Makes the objects at two voxels one.

        Raises:
          UserError: they are one already, or a voxel is in none.
        """
        first, second = self.segment_at(a), self.segment_at(b)
        if self.objects.are_one(first, second):
            raise UserError(f'{a} and {b} are in one object already')
        return self._add(Merge(Place(first, a), Place(second, b)))

    def split(self, first: Sequence[Xyz], second: Sequence[Xyz]) -> Edit:
        """Splits an object between voxels on either side; may take long where a segment is cut.

        Raises:
          UserError: see `ffn.proofreading.editing.split.split_object`.
        """
        number = new_number()
        return self._add(split_object(self._split_input(), (first, second), number), number)

    def mark_done(self, point: Xyz) -> Edit:
        """Says that the object at a voxel is as it should be."""
        return self._add(Done(Place(self.segment_at(point), point)))

    def note(self, point: Xyz, text: str) -> Edit:
        """Leaves a remark about the object at a voxel, instead of an earlier one there; '' removes that.

        Raises:
          UserError: there is no segment, or the text is too long.
        """
        if len(text) > MAX_TEXT:
            raise UserError(f'the note has {len(text)} characters; at most {MAX_TEXT} are kept')
        return self._add(Note(Place(self.segment_at(point), point), text))

    def answer(self, answer: str) -> Edit:
        """Judges the place of the queue, and goes on to the next one.

        Two segments that are wrong are put right at once: they are merged if they are apart, and their object is
        split between them if they are one.

        Args:
          answer: 'right', 'wrong' or 'skip'.

        Raises:
          UserError: there is no place left, or other segments are there than the queue asks about.
        """
        if self.item is None:
            raise UserError('all places of the queue are judged')
        if answer != 'skip':
            self._check_fits(self.item.item)
        item, seconds = self.item.item, round(max(self._clock() - self._since, 0.0), 3)
        edit = self._put_right(item) if answer == 'wrong' and len(item.ids) == 2 else ''
        return self._add(Decision(item, answer, seconds, edit))

    def undo(self) -> Edit:
        """Takes the last edit back; with an answer, what it put right.

        Raises:
          UserError: there is none.
        """
        active = active_edits(self._journal.edits)
        if not active:
            raise UserError('there is no edit to undo')
        last = active[-1]
        taken = self._add(Undo(last.number))
        if isinstance(last.what, Decision) and last.what.edit:
            self._add(Undo(last.what.edit))
        return taken

    def redo(self) -> Edit:
        """Takes the last undo back, unless there were other edits since; with an answer, what it had put right.

        Raises:
          UserError: there is none.
        """
        numbered = {edit.number: edit.what for edit in self._journal.edits}
        undone = {what.of for what in numbered.values() if isinstance(what, Undo)}
        open_undos: dict[str, str] = {}  # what was undone → by which edit, the last first
        for number, what in reversed(numbered.items()):
            if not isinstance(what, Undo):
                break
            if number not in undone and not isinstance(numbered.get(what.of), Undo):
                open_undos[what.of] = number
        if not open_undos:
            raise UserError('there is no undo to take back')
        last = next(iter(open_undos))
        for of in open_undos:
            what = numbered[of]
            if isinstance(what, Decision) and what.edit and last in (of, what.edit):
                if what.edit in open_undos:
                    self._add(Undo(open_undos[what.edit]))
                last = of
                break
        return self._add(Undo(open_undos[last]))

    def _check_fits(self, item: Item) -> None:
        """Refuses a place whose ids are none of the objects there, now or before any edit, and do not lie around it."""
        there = segment_at(self.volume, item.point) if item.ids else 0
        objects = self.objects, Objects(self._before)
        segments = {there, self.labels.at(self.volume, item.point) if there else 0}
        if there is None or (
            there
            and all(segments.isdisjoint(one.members(i)) for one in objects for i in item.ids)
            and not self._are_around(item)
        ):
            raise UserError(
                f'the queue asks about {"-".join(map(str, item.ids))} at {item.point}, where '
                f'{there or "no voxel"} is: it does not fit; run ffn queue again (k skips the place)'
            )

    def _are_around(self, item: Item) -> bool:
        """Whether a place lies between the two segments that it is about, as one that was filled does."""
        pair = self._evidence.get((item.ids[0], item.ids[-1]))
        return pair is not None and are_around(self.volume, item.point, pair)

    def _put_right(self, item: Item) -> str:
        a, b = item.ids
        if not self.objects.are_one(a, b):
            return self._add(Merge(Place(a, item.point), Place(b, item.point))).number
        return self._add(split_between(self._split_input(), a, b, item.point)).number

    def _split_input(self) -> SplitInput:
        folder = masks_folder(self._journal.path)
        return SplitInput(self.volume, folder, self.objects, self._evidence, self._max_cut_voxels)

    def _add(self, what: What, number: str = '') -> Edit:
        edit = self._journal.add(what, number)
        if isinstance(what, Undo):
            self.objects = replay(self._before, self._journal.edits)
        else:
            self.objects.apply(edit)
        before, self.item = self.item, self._find_item()
        if self.item != before:
            self._since = self._clock()
        return edit

    def _find_item(self) -> Queued | None:
        return next((one for one in self._queue if self._is_open(one)), None)

    def _is_open(self, one: Queued) -> bool:
        """Whether a place is still to be judged; not if another edit has joined or separated its segments."""
        ids, key = one.item.ids, one.item.key
        decision = self.objects.decisions.get(key)
        if decision is not None and decision.answer != 'skip':
            return False
        if self.objects.skips[key] > times_skipped(one):  # since it was queued
            return False
        return len(ids) != 2 or self.objects.are_one(*ids) == was_joined(one)
