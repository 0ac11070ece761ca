"""Proofreading in a viewer: keys for edits and answers, and what they change.

::

    with Viewer() as viewer, open_journal(path, base) as journal:
        viewer.add(image)
        with ProofreadActions(viewer, Proofreading(volume, table, journal, queue), labels):
            ...

Handlers of keys run in the web server's thread and only post to a thread here: a segment that is cut takes seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from absl import logging

from ffn.proofreading.editing.proofread_layers import PLACE, SIDES, ProofreadLayers
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.proofreading.viewing.layers import Layer
from ffn.proofreading.viewing.viewer import Viewer
from ffn.utils.errors import UserError, reason
from ffn.utils.geometry import Xyz

# Key → what it does, in the order of the help line; names are those of the browser.
KEYS = {
    'm': 'merge: over one object, then over the other',
    '1 2': 'point on the first, second side of a split',
    'x': 'split',
    'c': 'forget the points',
    'd': 'done',
    'n': 'note',
    'u': 'undo',
    'U': 'redo',
    'y': 'right',
    'w': 'wrong',
    'k': 'skip',
    'j': 'back to the place',
}
NOTE = 'look again'


class ProofreadActions(contextlib.AbstractContextManager['ProofreadActions']):
    """What a viewer and a session do together; ends with the context, before either of them does."""

    def __init__(self, viewer: Viewer, session: Proofreading, labels: Layer):
        """Adds layers and keys to a viewer, and shows the first place of the queue.

        Args:
          viewer: with an image, or nothing yet; it counts voxels of the labels from here on, as edits do.
          session: what keys edit.
          labels: the volume of the session as a layer, which is not shown: how large its voxels are, where to begin,
            and its coarser scales.
        """
        self._viewer, self._session = viewer, session
        viewer.show_all(labels)
        self._layers = ProofreadLayers(
            session.volume, viewer.voxel_size, labels.coarser, viewer.tell
        )
        self._first: Xyz | None = None  # of a merge
        self._sides: tuple[list[Xyz], list[Xyz]] = ([], [])
        self._posted = ThreadPoolExecutor(1, 'proofreading')
        with viewer.neuroglancer.txn() as state:
            self._layers.add_to(state, session.labels, session.objects)
        self._bind_keys()
        self._show(self._look_at_item())
        viewer.neuroglancer.shared_state.add_changed_callback(self._take_texts)

    def _bind_keys(self) -> None:
        calls: dict[str, Callable[[Any], str]] = {
            'keym': self._merge,
            'digit1': lambda event: self._point(event, 0),
            'digit2': lambda event: self._point(event, 1),
            'keyx': self._split,
            'keyc': self._forget,
            'keyd': self._done,
            'keyn': self._note,
            'keyu': lambda _: self._undo(),
            'shift+keyu': lambda _: self._redo(),
            'keyy': lambda _: self._answer('right'),
            'keyw': lambda _: self._answer('wrong'),
            'keyk': lambda _: self._answer('skip'),
            'keyj': lambda _: self._look_at_item(),
        }
        actions = self._viewer.neuroglancer.actions
        for key, call in calls.items():
            actions.add(f'ffn-{key}', lambda event, call=call: self._post(call, event))
        with self._viewer.neuroglancer.config_state.txn() as config:
            # Keys of panels come before those of the page.
            for bindings in (
                config.input_event_bindings.data_view,
                config.input_event_bindings.viewer,
            ):
                for key in calls:
                    bindings[key] = f'ffn-{key}'
            text = ' · '.join(f'{key}: {what}' for key, what in KEYS.items())
            config.status_messages['keys'] = text

    def _post(self, call: Callable[[Any], str], event: Any) -> None:
        """Called in the web server's thread."""
        self._posted.submit(self._call, call, event)

    def _call(self, call: Callable[[Any], str], event: Any) -> None:
        try:
            said = call(event)
        except (UserError, OSError) as error:
            said = reason(error)
        except Exception as error:  # noqa: BLE001 - nothing else would tell it
            logging.exception('a key failed')
            said = f'failed: {reason(error)}'
        try:
            self._show(said)
        except Exception:  # noqa: BLE001
            logging.exception('the session cannot be shown')

    # What keys do; each returns what to say.

    def _merge(self, event: Any) -> str:
        place = _place(event)
        if self._first is None:
            self._draw([self._session.segment_at(place)])
            self._first = place
            return 'merge with which object? (m over it; c: with none)'
        first, self._first = self._first, None
        self._session.merge(first, place)
        self._draw([self._session.segment_at(place)])
        return 'merged'

    def _point(self, event: Any, side: int) -> str:
        place = _place(event)
        self._session.segment_at(place)
        self._sides[side].append(place)
        return f'{len(self._sides[0])} and {len(self._sides[1])} points; x: split'

    def _split(self, _: Any) -> str:
        self._say('splitting …')
        self._session.split(*self._sides)
        points = self._sides[0][0], self._sides[1][0]
        self._sides = ([], [])
        self._draw([self._session.segment_at(point) for point in points])
        return 'split'

    def _forget(self, _: Any) -> str:
        self._first, self._sides = None, ([], [])
        return ''

    def _done(self, event: Any) -> str:
        self._session.mark_done(_place(event))
        return f'done: {len(self._session.objects.done_objects())} objects'

    def _note(self, event: Any) -> str:
        place = _place(event)
        if place not in self._session.objects.notes:
            self._session.note(place, NOTE)
        with self._viewer.neuroglancer.txn() as state:
            self._layers.draw_notes(state, self._session.objects.notes)
            self._layers.select_note(state, place)
        return f'note at {place}: write its text on the right'

    def _take_texts(self) -> None:
        """Called when anything in the viewer has changed, in the thread that changed it."""
        if self._changed_texts():
            self._post(self._write_texts, None)

    def _write_texts(self, _: Any) -> str:
        changed = self._changed_texts()
        for point, text in changed.items():
            self._session.note(point, text)
        return 'noted' if changed else ''

    def _changed_texts(self) -> dict[Xyz, str]:
        raw = self._viewer.neuroglancer.shared_state.raw_state
        return self._layers.find_texts(raw, dict(self._session.objects.notes))

    def _undo(self) -> str:
        self._session.undo()
        self._draw([])
        return self._look_at_item() or 'undone'

    def _redo(self) -> str:
        self._session.redo()
        self._draw([])
        return self._look_at_item() or 'done again'

    def _answer(self, answer: str) -> str:
        self._session.answer(answer)
        self._draw([])
        return self._look_at_item()

    # What is shown.

    def _look_at_item(self) -> str:
        item = self._session.item
        if item is not None:
            self._viewer.look_at(item.item.point)
            if item.item.ids:
                self._draw(item.item.ids)
        return ''

    def _draw(self, selected: Sequence[int]) -> None:
        session = self._session
        with self._viewer.neuroglancer.txn() as state:
            self._layers.draw_objects(state, session.labels, session.objects, selected)

    def _show(self, said: str) -> None:
        item = self._session.item
        points = [] if item is None else [item.item.point]
        with self._viewer.neuroglancer.txn() as state:
            self._layers.draw_points(state, PLACE, points)
            self._layers.draw_notes(state, self._session.objects.notes)
            for name, side in zip(SIDES, self._sides, strict=True):
                self._layers.draw_points(state, name, side)
        self._say(said)

    def _say(self, said: str) -> None:
        item, progress = self._session.item, self._session.progress
        texts = [said]
        if item is not None:
            texts.append(f'{item.item.key}: {item.reason}')
        if item is not None or progress.judged:
            pace = '' if progress.seconds is None else f', {progress.seconds:.1f} s each'
            texts.append(
                f'{progress.judged} judged, {progress.wrong} wrong{pace}, {self._session.left} left'
            )
        with self._viewer.neuroglancer.config_state.txn() as config:
            config.status_messages['proofreading'] = ' · '.join(filter(None, texts)) or 'ready'

    def close(self) -> None:
        """Ends the thread, once what has been posted is done."""
        self._viewer.neuroglancer.shared_state.remove_changed_callback(self._take_texts)
        self._posted.shutdown()

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _place(event: Any) -> Xyz:
    if event.mouse_position is None:
        raise UserError('no voxel is under the mouse; point at one')
    x, y, z = (int(n) for n in np.floor(event.mouse_position))
    return Xyz(x, y, z)
