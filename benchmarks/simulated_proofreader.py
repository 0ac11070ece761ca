"""A proofreader who knows the ground truth: answers about places of a queue, and which objects are done.

Two segments belong together if most voxels of both are of one body, and an object that joins bodies is split between the
pieces of the two largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from edt import edt
from scipy.ndimage import maximum_filter, minimum_filter

from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.evaluation import Evaluation
from ffn.proofreading.editing.merge_table import MergeTable
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.proofreading.editing.queue import QueueConfig, Queued, make_queue
from ffn.utils.geometry import Xyz
from ffn.utils.labels import joint_histogram, remap
from ffn.volumes.volume import open_volume

# Voxels from another body that are not judged: tracings differ by as much.
_BOUNDARY = 2


def error_cases(truth: str, labels: str) -> list[Queued]:
    """Splits and mergers that `ffn evaluate` lists for two volumes, as a queue."""
    with open_volume(truth) as expected, open_volume(labels) as found:
        table = compare_volumes(expected, found, expected.box, boundary=_BOUNDARY, quiet=True)
    report: Mapping[str, Any] = Evaluation.of(table, _BOUNDARY, worst=1000).as_json()
    queue = make_queue(QueueConfig(), MergeTable(), replay({}, ()), {}, {**report, 'missing': []})
    return [one for one in queue if one.item.kind in ('split', 'merger')]


def bodies_of(labels: np.ndarray, truth: np.ndarray) -> dict[int, int]:
    """Segment → the body that most of its voxels are of."""
    rows = joint_histogram(labels, truth)
    rows = rows[(rows[:, 0] > 0) & (rows[:, 1] > 0)]
    rows = rows[np.argsort(rows[:, 2], kind='stable')]
    return {int(segment): int(body) for segment, body, _ in rows}


def judge(
    session: Proofreading, body: Mapping[int, int], truth: np.ndarray, labels: np.ndarray
) -> bool:
    """Answers about the place of the queue; returns whether something was wrong."""
    if session.item is None:
        return False
    item = session.item.item
    if item.kind == 'merger':
        points = _points_of_two_bodies(labels == np.uint64(item.ids[0]), truth)
        segments = [session.segment_at(point) for point in points]
        if session.objects.are_one(*segments):
            session.split([points[0]], [points[1]])
        session.answer('wrong')
        return True
    a, b = item.ids
    is_wrong = (body.get(a) == body.get(b)) != session.objects.are_one(a, b)
    session.answer('wrong' if is_wrong else 'right')
    return is_wrong


def mark_done(session: Proofreading, truth: np.ndarray, share: float, voxels: int) -> int:
    """Marks objects as done that are one body and all of it, but for voxels that are not labelled or near boundaries.

    Args:
      session: of a volume that is held in memory here.
      truth: unsigned [z, y, x], bodies.
      share: of an object's voxels that are of its body, and of the body's voxels that are the object's, at least; those count
        that are labelled and farther than _BOUNDARY from another body.
      voxels: objects that are smaller are left alone.

    Returns:
      How many there are.
    """
    labels, side = corrected(session), 2 * _BOUNDARY + 1
    inside = maximum_filter(truth, side) == minimum_filter(truth, side)
    rows = joint_histogram(labels[inside], truth[inside]).astype(np.int64)
    rows = rows[rows[:, 0] > 0]
    sizes = [dict(zip(*_sums(rows[:, n], rows[:, 2]), strict=True)) for n in (0, 1)]
    done = 0
    for segment, body, count in rows.tolist():
        size = sizes[0][segment]
        if body and size >= voxels and count >= share * max(size, sizes[1][body]):
            session.mark_done(_deepest(labels == np.uint64(segment)))
            done += 1
    return done


def corrected(session: Proofreading) -> np.ndarray:
    """The volume after all edits, uint64 [z, y, x]."""
    volume, table = session.volume, session.objects.equivalences()
    segments = session.labels.read(volume, volume.box)
    pairs = np.array(sorted(table.items()), np.uint64).reshape(-1, 2)
    return remap(segments, *pairs.T, others='keep')


def _sums(ids: np.ndarray, counts: np.ndarray) -> tuple[list[int], list[int]]:
    unique, number = np.unique(ids, return_inverse=True)
    return unique.tolist(), np.bincount(number, counts).astype(np.int64).tolist()


def _points_of_two_bodies(segment: np.ndarray, truth: np.ndarray) -> tuple[Xyz, Xyz]:
    """A voxel deep inside a segment in each of the two bodies that most of it is of."""
    bodies, voxels = np.unique(truth[segment & (truth > 0)], return_counts=True)
    first, second = bodies[np.argsort(-voxels)[:2]]
    return _deepest(segment & (truth == first)), _deepest(segment & (truth == second))


def _deepest(mask: np.ndarray) -> Xyz:
    """The voxel that is farthest from the surface."""
    places = np.argwhere(mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    depth = edt(np.pad(mask[inside], 1))
    z, y, x = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - 1 + low
    return Xyz(int(x), int(y), int(z))
