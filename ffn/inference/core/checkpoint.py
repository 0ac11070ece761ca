"""Checkpoints of a canvas: everything needed to continue as if never interrupted."""

from __future__ import annotations

import dataclasses
import json
import operator
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from absl import logging

from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.growing import GrowingObject
from ffn.inference.core.protocols import Seeds
from ffn.inference.storage import OriginInfo, save_npz
from ffn.utils.errors import UserError, reason
from ffn.utils.geometry import Position
from ffn.utils.npz import read_npz, stored_bytes

NOTHING: Mapping[str, str] = MappingProxyType({})
# Arrays are in z, y, x order.
_MEMBERS = (
    'segmentation',  # ids, as in the finished result
    'seg_prob',  # quantized probabilities, as in the finished result
    'seed',  # logits of the object that is growing
    'origins',  # by id: where and how each object grew
    'overlaps',  # by id: the objects that each one ran into
    'state',  # JSON: counters, index of the next seed, the object that is growing and its queue
    'settings',  # the settings of the run, to compare
    'seed_points',  # n × 3: all seeds of the policy
    'seed_parts',  # of a combined policy: number of seeds of each part, and its next one
    'history',  # n × 4: position and id of each step, where it is kept
)


def save_checkpoint(
    canvas: Canvas, path: str | Path, settings: bytes = b'', digests: Mapping[str, str] = NOTHING
) -> None:
    """Writes a canvas atomically, even in the middle of an object.

    Args:
      canvas: what to save; its seed policy is set.
      path: the checkpoint.
      settings: the settings of the run; a checkpoint is only restored under the same settings.
      digests: of what else must be the same, by its name, such as the network; '' where it is not known.
    """
    policy = _seeds(canvas).get_state()
    growing = canvas.growing
    state = {
        'counters': canvas.counters.as_dict(),
        'growing': dataclasses.asdict(growing) if growing else None,
        'movement': canvas.movement_policy.get_state() if growing else None,
        'visited': canvas.visited,
        'seed_index': policy['index'],
        'prefilled': canvas.prefilled,
        'limited': canvas.limited,
        'made_from': {**digests, **canvas.input_crcs},
        **({'prefilled_crc': canvas.prefilled_crc} if canvas.prefilled else {}),
        **({'joined_seeds': canvas.joined_seeds} if canvas.joined_seeds else {}),
    }
    members: dict[str, Any] = {
        'segmentation': canvas.segmentation,
        'seg_prob': canvas.seg_prob,
        'origins': np.array(canvas.origins, dtype=object),
        'overlaps': np.array(canvas.overlaps, dtype=object),
        'state': json.dumps(state, default=_plain).encode(),
        'settings': np.frombuffer(settings, np.uint8),
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


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy as JSON has them: positions of a user's own policies may be such."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f'a state holds {type(value).__name__}, which JSON cannot hold')


def restore_checkpoint(
    canvas: Canvas,
    path: str | Path,
    settings: bytes = b'',
    digests: Mapping[str, str] = NOTHING,
    compare: Callable[[bytes, bytes, Collection[str]], str] = lambda there, here, same: (
        '' if there == here else 'all of it'
    ),
) -> None:
    """Brings a new canvas, with its seed policy set, to the state of a checkpoint; see `save_checkpoint`.

    Args:
      canvas: the canvas.
      path: the checkpoint.
      settings: see `save_checkpoint`.
      digests: likewise.
      compare: names what differs between the settings of the checkpoint and these, '' for nothing; is also given the names
        of volumes, and of what `digests` has, that are known to be the same.

    Raises:
      UserError: a file that is damaged, unsafe, or from another subvolume, other settings or other volumes or weights.
        The segments of the canvas are unchanged, but it must not be used afterwards.
    """
    data = read_npz(path, _MEMBERS, [OriginInfo], canvas.shape)
    made_with = stored_bytes(data.get('settings', np.zeros(0, np.uint8)), path)
    try:
        state = json.loads(bytes(data['state'].item()))
        if differences := compare(made_with, settings, _find_same(state, canvas, digests)):
            raise UserError(f'{path} was made with another request: {differences}')
        _check_shapes(data, canvas)
        if state.get('prefilled_crc', 0) != canvas.prefilled_crc:
            raise UserError(f'{path} was made with another init_segmentation')
        _check_made_from(state.get('made_from'), canvas.input_crcs, digests, path)
        _restore(canvas, data, state)
    except UserError:
        raise
    except Exception as error:  # also of a policy, for a state that it did not save
        raise UserError(f'{path} is no usable checkpoint: {reason(error)}') from error


def _find_same(state: dict[str, Any], canvas: Canvas, digests: Mapping[str, str]) -> list[str]:
    """Names of what a checkpoint and what would go on know, and know to be the same."""
    there = {**(state.get('made_from') or {}), 'init_segmentation': state.get('prefilled_crc', 0)}
    here = {**digests, **canvas.input_crcs, 'init_segmentation': canvas.prefilled_crc}
    return [name for name, known in here.items() if known and there.get(name) == known]


def _check_made_from(
    there: dict[str, Any] | None, crcs: dict[str, int], digests: Mapping[str, str], path: str | Path
) -> None:
    """Compares what a checkpoint was made from with what would go on; what earlier versions wrote does not say."""
    there = there or {**digests, **crcs}
    both = [name for name in digests if there.get(name) and digests[name]]
    changed = [name for name in both if there[name] != digests[name]]
    of_volumes = {**crcs, **{name: crc for name, crc in there.items() if isinstance(crc, int)}}
    changed += [name for name in of_volumes if there.get(name) != crcs.get(name)]
    if changed:
        raise UserError(f'{path} was made with another {" and another ".join(changed)}')


def _check_shapes(data: dict[str, Any], canvas: Canvas) -> None:
    for name in ('segmentation', 'seg_prob'):
        if data[name].shape != tuple(canvas.shape) or data[name].dtype.kind not in 'iu':
            raise ValueError(
                f'{name} is {data[name].dtype} of shape {data[name].shape}, not {tuple(canvas.shape)}'
            )


def _restore(canvas: Canvas, data: dict[str, Any], state: dict[str, Any]) -> None:
    growing = state['growing']
    if growing is not None:
        growing = GrowingObject(**{**growing, 'start': _position(growing['start'], canvas)})
        growing.iters, growing.voxels = map(operator.index, (growing.iters, growing.voxels))
        growing.seconds = float(growing.seconds)
        canvas.movement_policy.set_state(state['movement'])
        first, last = state['visited']
        canvas.visited = _position(first, canvas), _position(last, canvas)
        visited = canvas.seed[canvas.visited_extent()]
        if data['seed'].shape != visited.shape or data['seed'].dtype.kind != 'f':
            raise ValueError(f'seed is {data["seed"].dtype} of shape {data["seed"].shape}')
        canvas.put_seed(data['seed'])
    policy = {'points': _points(data.get('seed_points'), canvas), 'index': state['seed_index']}
    if 'seed_parts' in data:
        policy['parts'] = data['seed_parts']
    _seeds(canvas).set_state(policy)
    origins, overlaps = dict(data['origins']), dict(data['overlaps'])
    limited = {int(i): str(limit) for i, limit in state.get('limited', {}).items()}
    joined = [
        (*_position(seed, canvas), operator.index(segment), operator.index(greatest))
        for *seed, segment, greatest in state.get('joined_seeds', [])
    ]
    counters = {str(name): int(value) for name, value in state['counters'].items()}
    if canvas.history is not None and 'history' in data:
        canvas.history.extend(((z, y, x), n) for z, y, x, n in data['history'].tolist())
    canvas.growing, canvas.prefilled = growing, int(state['prefilled'])
    canvas.segmentation[:], canvas.seg_prob[:] = data['segmentation'], data['seg_prob']
    canvas.limited.update(limited)
    canvas.joined_seeds.extend(joined)
    canvas.origins.update(origins)
    canvas.overlaps.update(overlaps)
    canvas.counters.merge(counters)


def _position(value: Any, canvas: Canvas) -> Position:
    z, y, x = value
    for n, size in zip((z, y, x), canvas.shape, strict=True):
        if not isinstance(n, int) or not 0 <= n < size:
            raise ValueError(f'{value} is no position in {tuple(canvas.shape)}')
    return z, y, x


def _points(points: np.ndarray | None, canvas: Canvas) -> np.ndarray | None:
    if points is not None and (
        points.dtype.kind not in 'iu'
        or points.shape[1:] != (3,)
        or np.any(points < 0)
        or np.any(points >= canvas.shape)
    ):
        raise ValueError(f'its seeds are no positions in {tuple(canvas.shape)}')
    return points


def _seeds(canvas: Canvas) -> Seeds:
    if canvas.seed_policy is None:
        raise ValueError('the canvas has no seed policy, which is part of its checkpoint')
    return canvas.seed_policy


class Checkpointer:
    """An observer that saves a canvas: at a fixed interval, and when the run is asked to stop."""

    def __init__(
        self,
        path: str | Path,
        interval_s: float,
        stop: threading.Event,
        settings: bytes = b'',
        digests: Mapping[str, str] = NOTHING,
    ):
        """Makes a checkpointer.

        Args:
          path: the checkpoint.
          interval_s: seconds between checkpoints; 0 or less: only when stopped.
          stop: set to end the run.
          settings: see `save_checkpoint`.
          digests: likewise.
        """
        self._made_with = settings, digests
        self._path = path
        self._interval = interval_s
        self._stop = stop
        self._last = time.monotonic()

    def __call__(self, canvas: Canvas) -> None:
        """Saves the canvas if it is time.

        Raises:
          Interrupted: the run is to stop; the canvas has been saved.
          OSError: the run is to stop, and the canvas cannot be saved.
        """
        stopping = self._stop.is_set()
        due = 0 < self._interval <= time.monotonic() - self._last
        if not (stopping or due):
            return
        try:
            save_checkpoint(canvas, self._path, *self._made_with)
            logging.info('saved checkpoint %s', self._path)
        except OSError as error:
            if stopping:
                raise
            # There may be room on the disk by the next time; until then, the run loses nothing.
            logging.warning('checkpoint %s cannot be written: %s', self._path, error)
        self._last = time.monotonic()
        if stopping:
            raise Interrupted(f'stopped; run again to resume from {self._path}', canvas)
