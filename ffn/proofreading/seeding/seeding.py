"""Objects grown one after the other from voxels that a person chooses, live.

    with Runner(config) as runner, Seeding(runner, box, 'results') as seeding:
        seeding.start(Xyz(60, 55, 40))
        print(seeding.wait())
        seeding.accept()

The network runs in a thread of its own. Every call returns at once, also while a step is computed, and may come from
any thread; `look` says what has become of the object. What is accepted is on disk when `accept` returns, see
`ffn.proofreading.seeding.accepted`, and is there again when the same folder is opened next.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from absl import logging

from ffn.inference.core.canvas import Extent, Interrupted
from ffn.inference.core.growing import GrowingObject
from ffn.inference.core.steering import SteeredCanvas
from ffn.inference.runner import Runner
from ffn.inference.serialization import serialize_request
from ffn.inference.storage import smallest_unsigned
from ffn.proofreading.seeding.accepted import AcceptedObjects
from ffn.proofreading.seeding.background import BackgroundWriter
from ffn.proofreading.seeding.look import Look, State
from ffn.utils.errors import UserError, reason
from ffn.utils.geometry import Box, Position, Xyz
from ffn.utils.locks import exclusive_directory
from ffn.utils.logits import logit
from ffn.visualization.recorder import start_in


class Seeding(contextlib.AbstractContextManager['Seeding']):
    """A session on one box: one object at a time is grown, and accepted or rejected.

    Attributes:
      box: the voxels that are seeded; objects end at its border.
    """

    def __init__(self, runner: Runner, box: Box, directory: str | Path = ''):
        """Opens the box, and puts the objects of earlier sessions into it.

        Args:
          runner: ready to run, with what its request says; init_segmentation is respected.
          box: what leaves the volume is clipped, with a warning.
          directory: the segmentation's folder, seg-X_Y_Z.npz is written there; '' for none.

        Raises:
          UserError: see `Runner.open_canvas`; also a folder in which another session is at this box, or that
            holds something else.
        """
        self._canvas = canvas = runner.open_canvas_as(SteeredCanvas, box)
        self.box = Box(canvas.corner_zyx.xyz, canvas.shape.xyz)
        self._fov = runner.info.input_image_size
        self._state: State = 'empty'
        self._message, self._version = '', 0
        self._failure: Exception | None = None
        self._closing = self._anew = False
        self._changed = threading.Condition(canvas.lock)
        self._objects: AcceptedObjects | None = None
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            if directory:
                request = serialize_request(runner.config)
                objects = AcceptedObjects(Path(directory), canvas, request)
                self._objects = self._open_objects(opened, objects)
            self._thread = threading.Thread(target=self._run, name='flood', daemon=True)
            self._thread.start()
            opened.callback(self._end_thread)
            self._resources = opened.pop_all()

    def _open_objects(
        self, opened: contextlib.ExitStack, objects: AcceptedObjects
    ) -> AcceptedObjects:
        objects.check_new()
        opened.enter_context(exclusive_directory(objects.folder))
        is_written = objects.restore(self._canvas)
        self._writer = BackgroundWriter(self._write_result, self._fail_to_write)
        opened.callback(self._writer.close)
        if not is_written:
            self._writer.change()
        return objects

    def start(self, position: Xyz) -> None:
        """Begins an object.

        Args:
          position: its first voxel, in coordinates of the volume.

        Raises:
          UserError: an object is there already, or none can be started there.
        """
        with self._changed:
            if self._canvas.grown is not None:
                raise UserError('there is an object already; accept or reject it first')
            self._begin(start_in(self._canvas, position, 'the seed'))

    def again(self) -> None:
        """Begins the object that is there once more, with the thresholds as they are now.

        Raises:
          UserError: there is none.
        """
        with self._changed:
            self._begin(self._object().start)

    def stop(self) -> None:
        """Stops growing after the step that is being computed; what there is stays."""
        with self._changed:
            if self._state == 'growing':
                self._state = 'stopping'

    def resume(self) -> None:
        """Grows on from where the object is, with the thresholds as they are now.

        Raises:
          UserError: there is no object.
        """
        with self._changed:
            self._object()
            self._grow_from_now_on()

    def set_thresholds(
        self, move_threshold: float | None = None, segment_threshold: float | None = None
    ) -> None:
        """Changes thresholds, for the object that is there and for later ones.

        An object that grows goes on with them at once; one that is stopped or complete, when it is resumed.

        Args:
          move_threshold: probability that a voxel must have to be moved to; None leaves it.
          segment_threshold: probability of voxels that become the object; None leaves it.

        Raises:
          UserError: no probability.
        """
        for name, value in (('move', move_threshold), ('segment', segment_threshold)):
            if value is not None and not 0 < value < 1:
                raise UserError(
                    f'{name}_threshold is {value:g}; expected a probability between 0 and 1'
                )
        with self._changed:
            now = self._canvas.options
            self._canvas.change_thresholds(
                now.move_threshold if move_threshold is None else logit(move_threshold),
                now.segment_threshold if segment_threshold is None else logit(segment_threshold),
            )
            self._anew = True
            self._version += 1

    def accept(self) -> int:
        """Makes the object, as it is, a segment of the result, and saves it.

        Returns:
          Its id.

        Raises:
          UserError: there is no object, or no voxel of it reaches segment_threshold.
          OSError: it could not be saved, and is not accepted.
        """
        with self._changed:
            self._object()
            voxels = self._canvas.voxels
            segment = self._canvas.keep()
            if not segment:
                raise UserError(
                    'no voxel of the object reaches segment_threshold; lower it, or reject the object'
                )
            if self._objects is not None:
                try:
                    self._objects.save(self._canvas, segment)
                except BaseException:
                    self._canvas.forget_segment(segment)
                    raise
                self._writer.change()
            self._drop(f'accepted as {segment}, {voxels} voxels')
            return segment

    def reject(self) -> None:
        """Forgets the object.

        Raises:
          UserError: there is none.
        """
        with self._changed:
            self._object()
            self._drop('rejected')

    def undo(self) -> int:
        """Takes back what was accepted last, also in an earlier session; again for the one before it.

        Returns:
          The id that is free again.

        Raises:
          UserError: nothing is accepted.
          OSError: its file could not be removed, and it stays accepted.
        """
        with self._changed:
            if not self._canvas.origins:
                raise UserError('there is no accepted object to take back')
            segment = max(self._canvas.origins)
            if self._objects is not None:
                self._objects.remove(segment)
                self._writer.change()
            self._canvas.forget_segment(segment)
            self._version += 1
            self._message = f'object {segment} is taken back'
            return segment

    def look(self) -> Look:
        """What the session looks like now."""
        with self._changed:
            return Look.at(self._canvas, self._fov, self._state, self._message, self._version)

    def wait(self, timeout_s: float | None = None) -> Look:
        """Waits until the object does not grow any more, or for a time.

        Raises:
          Exception: whatever the network raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._state not in ('growing', 'stopping'), timeout_s)
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return self.look()

    def read_object(self, part: Extent) -> np.ndarray:
        """Where the object is in a part of the box, bool [z, y, x]; counted from the box's first voxel."""
        with self._canvas.lock:
            return self._canvas.object_mask(part)

    def read_segments(self, part: Extent) -> np.ndarray:
        """The ids in a part of the box, uint32 [z, y, x]: those of init_segmentation, from 1, then accepted ones."""
        with self._canvas.lock:
            return self._canvas.segmentation[part].astype(np.uint32)

    def close(self) -> None:
        """Ends the thread, writes the result, and frees the folder; the object that is there is lost.

        Raises:
          OSError: the result cannot be written; the accepted objects have been saved nevertheless.
        """
        self._resources.close()

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _object(self) -> GrowingObject:
        if self._canvas.grown is None:
            raise UserError('there is no object; start one first')
        return self._canvas.grown

    def _begin(self, start: Position) -> None:
        self._canvas.begin(start)
        self._message = ''
        self._grow_from_now_on()

    def _grow_from_now_on(self) -> None:
        self._state, self._failure = 'growing', None
        self._version += 1
        self._changed.notify_all()

    def _drop(self, message: str) -> None:
        self._canvas.drop()
        self._state, self._message = 'empty', message
        self._version += 1
        self._changed.notify_all()

    # In the thread of the network, which holds the lock except while the network computes.

    def _run(self) -> None:
        with self._changed:
            while not self._closing:
                if self._state == 'growing':
                    self._grow()
                else:
                    self._changed.wait()

    def _grow(self) -> None:
        try:
            self._canvas.go_on(self._after_step)
            self._state = 'complete'
        except Interrupted:
            if self._state == 'stopping':
                self._state = 'stopped'
        except Exception as error:  # noqa: BLE001 - whatever the network raises, it is told
            logging.error('growing failed: %s', reason(error))
            self._failure, self._state, self._message = error, 'stopped', f'failed: {reason(error)}'
        self._version += 1
        self._changed.notify_all()

    def _after_step(self) -> None:
        self._version += 1
        if self._anew or self._closing or self._state != 'growing':
            self._anew = False
            raise Interrupted('asked for')

    def _end_thread(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    # In the thread of the writer.

    def _write_result(self) -> None:
        canvas = self._canvas
        with canvas.lock:
            members = {
                'segmentation': smallest_unsigned(canvas.segmentation),
                'origins': dict(canvas.origins),
                'counters': _counters(canvas),
                'overlaps': dict(canvas.overlaps),
                'qprob': canvas.seg_prob.copy(),
                **canvas.about_prefilled(),
            }
        if self._objects is not None:
            self._objects.write_result(**members)

    def _fail_to_write(self, error: Exception) -> None:
        logging.error('the result cannot be written: %s', reason(error))
        with self._changed:
            self._message = f'the result cannot be written: {reason(error)}'


def _counters(canvas: SteeredCanvas) -> dict[str, int]:
    """Those of the canvas; what counts segments is about those that are accepted now, in whichever session."""
    seconds = sum(origin.walltime_sec for origin in canvas.origins.values())
    return {
        **canvas.counters.as_dict(),
        'voxels-segmented': int(np.count_nonzero(canvas.segmentation > canvas.prefilled)),
        'voxels-overlapping': sum(int(counts.sum()) for _, counts in canvas.overlaps.values()),
        'valid-time-ms': round(1e3 * seconds),
    }
