"""Checkpoints of a canvas: everything needed to go on as if never interrupted."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.inference.canvas import Canvas, GrowingObject, Interrupted
from ffn.inference.storage import OriginInfo, save_npz
from ffn.inference.unpickling import read_npz
from ffn.utils.errors import UserError

_MEMBERS = ('segmentation', 'seg_prob', 'seed', 'origins', 'overlaps', 'state',
            'seed_points', 'seed_parts', 'history')  # fmt: skip


def save_checkpoint(canvas: Canvas, path: str | Path) -> None:
    """Writes a canvas, in mid-object too, whole or not at all."""
    policy = canvas.seed_policy.get_state()
    growing = canvas.growing
    state = {
        'counters': canvas.counters.as_dict(),
        'growing': dataclasses.asdict(growing) if growing else None,
        'movement': canvas.movement_policy.get_state() if growing else None,
        'visited': canvas.visited,
        'seed_index': policy['index'],
        'prefilled': canvas.prefilled,
    }
    members: dict[str, Any] = {
        'segmentation': canvas.segmentation,
        'seg_prob': canvas.seg_prob,
        'origins': np.array(canvas.origins, dtype=object),
        'overlaps': np.array(canvas.overlaps, dtype=object),
        'state': json.dumps(state).encode(),
    }
    if growing is not None:
        members['seed'] = canvas.seed[canvas.visited_extent()]
    if policy['points'] is not None:
        members['seed_points'] = policy['points']
    if 'parts' in policy:
        members['seed_parts'] = policy['parts']
    if canvas.history is not None:
        members['history'] = np.array([(*p, n) for p, n in canvas.history]).reshape(-1, 4)
    save_npz(path, **members)


def restore_checkpoint(canvas: Canvas, path: str | Path) -> None:
    """Brings a new canvas, with its seed policy set, to the state of a checkpoint.

    Raises:
      UserError: a file that is damaged, unsafe, or of another subvolume; the canvas is unchanged.
    """
    data = read_npz(path, _MEMBERS, [OriginInfo])
    try:
        state = json.loads(bytes(data['state'].item()))
        growing = state['growing']
        for name in ('segmentation', 'seg_prob'):
            if data[name].shape != tuple(canvas.shape):
                raise ValueError(f'its shape is {data[name].shape}, not {tuple(canvas.shape)}')
        if growing is not None:
            growing = GrowingObject(tuple(growing['start']), growing['iters'], growing['seconds'])
            visited = tuple(map(tuple, state['visited']))
            seed = data['seed']
        origins, overlaps, counters = data['origins'], data['overlaps'], state['counters']
        policy = {'points': data.get('seed_points'), 'index': state['seed_index']}
        if 'seed_parts' in data:
            policy['parts'] = data['seed_parts']
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f'{path} is no usable checkpoint: {error}') from error
    if growing is not None:
        canvas.movement_policy.set_state(state['movement'])
        canvas.visited = visited
        canvas.seed[canvas.visited_extent()] = seed
    canvas.growing = growing
    canvas.seed_policy.set_state(policy)
    canvas.segmentation[:] = data['segmentation']
    canvas.seg_prob[:] = data['seg_prob']
    canvas.prefilled = state['prefilled']
    canvas.origins.update(origins)
    canvas.overlaps.update(overlaps)
    canvas.counters.merge(counters)
    if canvas.history is not None and 'history' in data:
        canvas.history.extend(((z, y, x), n) for z, y, x, n in data['history'].tolist())


class Checkpointer:
    """Saves a canvas between steps: every so many seconds, and when the run is to stop."""

    def __init__(self, path: str | Path, interval_s: float, stop: threading.Event):
        """Makes a checkpointer.

        Args:
          path: the checkpoint.
          interval_s: seconds between checkpoints; 0 or less: only when stopped.
          stop: set to end the run.
        """
        self._path = path
        self._interval = interval_s
        self._stop = stop
        self._last = time.monotonic()

    def __call__(self, canvas: Canvas) -> None:
        """Saves the canvas if it is time.

        Raises:
          Interrupted: the run is to stop; the canvas has been saved.
        """
        stopping = self._stop.is_set()
        due = 0 < self._interval <= time.monotonic() - self._last
        if not (stopping or due):
            return
        save_checkpoint(canvas, self._path)
        logging.info('saved checkpoint %s', self._path)
        self._last = time.monotonic()
        if stopping:
            raise Interrupted(f'stopped; run again to go on from {self._path}')
