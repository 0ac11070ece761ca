"""Seeding in a viewer: keys that grow objects from the voxel under the mouse, and layers that show them growing.

::

    with Viewer() as viewer, Runner(config) as runner, Seeding(runner, box, 'results') as seeding:
        viewer.add(layer)
        with SeedingActions(viewer, seeding):
            ...

Handlers of keys run in the web server's thread and only post to a thread here, so that the page never waits for an
object that is saved; a third thread shows what has changed, a few times a second.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
from absl import logging
from scipy.special import expit, logit

from ffn.proofreading.seeding.look import Look
from ffn.proofreading.seeding.seeding import Seeding
from ffn.proofreading.seeding.seeding_layers import SeedingLayers
from ffn.proofreading.viewing.viewer import Viewer
from ffn.utils.errors import UserError, reason
from ffn.utils.geometry import Xyz

# Key → what it does, in the order of the help line; names are those of the browser.
KEYS = {
    'f': 'flood from the voxel under the mouse',
    'x': 'stop',
    'g': 'go on',
    't': 'try again from the same voxel',
    'a': 'accept',
    'r': 'reject',
    'z': 'take back the last one',
    '[ ]': 'move threshold down, up',
    '{ }': 'segment threshold down, up',
}
# How far a key moves a threshold, as a logit.
_STEP = 0.25
# Seconds between two looks.
_EVERY_S = 0.1


class SeedingActions(contextlib.AbstractContextManager['SeedingActions']):
    """What a viewer and a session do together; ends with the context, before either of them does."""

    def __init__(self, viewer: Viewer, seeding: Seeding):
        """Adds layers and keys to a viewer.

        Args:
          viewer: with at least one layer; the voxels of its coordinates are those of the session.
          seeding: what keys steer.
        """
        self._viewer, self._seeding = viewer, seeding
        self._layers = SeedingLayers(seeding, viewer.voxel_size)
        with viewer.neuroglancer.txn() as state:
            self._layers.add_to(state)
        self._note = self._text = ''
        self._drawn_accepted: tuple[int, ...] = ()
        self._closing = threading.Event()
        self._posted = ThreadPoolExecutor(1, 'seeding')
        self._bind_keys()
        self._shower = threading.Thread(target=self._show_changes, name='shower', daemon=True)
        self._shower.start()

    def _bind_keys(self) -> None:
        session = self._seeding
        bound: dict[str, Callable[[Any], object]] = {
            'keyf': self._flood,
            'keyx': lambda _: session.stop(),
            'keyg': lambda _: session.resume(),
            'keyt': lambda _: session.again(),
            'keya': lambda _: session.accept(),
            'keyr': lambda _: session.reject(),
            'keyz': lambda _: session.undo(),
            'bracketleft': lambda _: self._move_threshold(-1),
            'bracketright': lambda _: self._move_threshold(1),
            'shift+bracketleft': lambda _: self._segment_threshold(-1),
            'shift+bracketright': lambda _: self._segment_threshold(1),
        }
        for key, call in bound.items():
            self._viewer.on_key(key, f'ffn-{key}', functools.partial(self._post, call))
        with self._viewer.neuroglancer.config_state.txn() as config:
            text = ' · '.join(f'{key}: {what}' for key, what in KEYS.items())
            config.status_messages['keys'] = text

    def _post(self, call: Callable[[Any], object], event: Any) -> None:
        """Called in the web server's thread."""
        self._posted.submit(self._call, call, event)

    def _call(self, call: Callable[[Any], object], event: Any) -> None:
        try:
            call(event)
            self._note = ''
        except (UserError, OSError) as error:
            self._note = reason(error)
        except Exception as error:  # noqa: BLE001 - nothing else would tell it
            logging.exception('a key failed')
            self._note = f'failed: {reason(error)}'

    def _flood(self, event: Any) -> None:
        place = event.mouse_position
        if place is None:
            raise UserError('no voxel is under the mouse; move it over one')
        x, y, z = (int(n) for n in np.floor(place))
        self._seeding.start(Xyz(x, y, z))

    def _move_threshold(self, direction: int) -> None:
        now = self._seeding.look()
        self._seeding.set_thresholds(move_threshold=_moved(now.move_threshold, direction))
        if now.state == 'complete' and direction < 0:
            self._seeding.resume()

    def _segment_threshold(self, direction: int) -> None:
        now = self._seeding.look().segment_threshold
        self._seeding.set_thresholds(segment_threshold=_moved(now, direction))

    # In a thread of its own.

    def _show_changes(self) -> None:
        while not self._closing.wait(_EVERY_S):
            try:
                self._show(self._seeding.look(), self._note)
            except Exception:  # noqa: BLE001 - the next time may succeed
                logging.exception('the session cannot be shown')

    def _show(self, look: Look, note: str) -> None:
        self._layers.draw_object(look.version)
        if look.accepted != self._drawn_accepted:
            with self._viewer.neuroglancer.txn() as state:
                self._layers.draw_accepted(state, look.accepted)
            self._drawn_accepted = look.accepted
        text = f'{look}; {note}' if note else str(look)
        if text != self._text:
            with self._viewer.neuroglancer.config_state.txn() as config:
                config.status_messages['seeding'] = text
            self._text = text

    def close(self) -> None:
        """Ends the threads, once what has been posted is done."""
        self._posted.shutdown()
        self._closing.set()
        self._shower.join()

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _moved(probability: float, direction: int) -> float:
    return float(expit(logit(probability) + direction * _STEP))
