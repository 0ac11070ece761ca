"""A simulated proofreader on real data: scores after so many decisions.

    python -m benchmarks.proofreading_real --data FOLDER

proofreads the published segmentation of training_sample2. Places come from three queues: pairs of segments that are
close to each other, by size alone; the same pairs, where a segment that reaches no face of the volume is taken to belong to
one of its neighbours, the more probably the more it touches it (no network is run for either); and the error cases
that `ffn evaluate` lists, which know the ground truth. Answers come from the ground truth: two segments belong together if most voxels of both are of
one body, and an object that joins bodies is split between the pieces of the two largest. Everything goes through
the journal and the session that `ffn proofread` uses. VOI (bits) and adapted Rand error are over the voxels that
the segmentation labels.
"""

from __future__ import annotations

import gzip
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import measure, real_segmentation
from ffn.agglomeration.decision_points import DecisionPoint, find_decision_points
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.evaluation import Evaluation
from ffn.evaluation.rand import rand_score
from ffn.evaluation.voi import voi_score
from ffn.proofreading.editing.journal import Base, open_journal
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.proofreading.editing.queue import QueueConfig, Queued, make_queue
from ffn.proofreading.editing.survey import Segment, survey
from ffn.utils.geometry import Xyz
from ffn.utils.labels import joint_histogram, remap
from ffn.volumes.volume import Volume, VolumeSource, open_volume

Ids = tuple[int, int]
Contacts = Mapping[Ids, DecisionPoint]
# Probability of pairs of which both reach a face.
_AT_FACE = 0.01


def main() -> None:
    """Prints the table."""
    parser = measure.parser(__doc__)
    parser.add_argument('--decisions', default='0,20,50,100', help='when to score')
    parser.add_argument('--max_distance', type=float, default=3.0, help='of pairs, voxels')
    args = parser.parse_args()
    counts = [int(n) for n in args.decisions.split(',')]
    truth, labels = _truth(args.data), real_segmentation.published(args.data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with h5py.File(folder / 'v.h5', 'w') as file:
            file['labels'], file['truth'] = labels, truth
        print('| queue | decisions | wrong | VOI split | VOI merge | Rand error |')
        print('|---|---:|---:|---:|---:|---:|')
        segments = survey(VolumeSource(f'{folder}/v.h5:labels'), folder / 's', InProcess(), True)
        found = find_decision_points(labels, max_distance=args.max_distance)
        queues = {
            'pairs by size': _pairs(found, segments, {}),
            'pairs of orphans': _pairs(found, segments, _probabilities(found, segments)),
            'error cases': (MergeTable(), _errors(folder)),
        }
        for queue, (table, places) in queues.items():
            _proofread(folder, queue, table, places, truth, counts)


def _truth(data: Path) -> np.ndarray:
    """Bodies of training_sample2, uint64 [z, y, x]."""
    with gzip.open(data / 'fib25' / 'training_sample2' / 'groundtruth.h5.gz') as packed:
        file = h5py.File(io.BytesIO(packed.read()))
    transforms = file['transforms'][:].astype(np.uint64)
    order = np.argsort(transforms[:, 0])
    return remap(file['stack'][:], *transforms[order].T, others='background')


def _probabilities(found: Contacts, segments: Mapping[int, Segment]) -> dict[Ids, float]:
    """How probable it is that two segments belong together, if all that is known is which ones reach a face."""
    total: dict[int, int] = {}
    for ids, one in found.items():
        for segment in ids:
            total[segment] = total.get(segment, 0) + one.touching
    return {
        ids: max(one.touching / total[i] if not segments[i].at_face else _AT_FACE for i in ids)
        for ids, one in found.items()
    }


def _pairs(
    found: Contacts, segments: Mapping[int, Segment], probabilities: Mapping[Ids, float]
) -> tuple[MergeTable, list[Queued]]:
    """All pairs that are close, none of them joined; those with the larger smaller side first."""
    pairs = [
        ScoredPair(*ids, one.distance, one.point_xyz, False, probabilities.get(ids))
        for ids, one in found.items()
    ]
    config = QueueConfig(min_doubt=0, orphan_voxels=0)
    table = MergeTable(pairs)
    return table, make_queue(config, table, replay({}, ()), segments)


def _errors(folder: Path) -> list[Queued]:
    """The error cases of an evaluation."""
    with (
        open_volume(f'{folder}/v.h5:truth') as truth,
        open_volume(f'{folder}/v.h5:labels') as found,
    ):
        table = compare_volumes(truth, found, truth.box, boundary=2, quiet=True)
    report: Mapping[str, Any] = Evaluation.of(table, 2, worst=1000).as_json()
    queue = make_queue(QueueConfig(), MergeTable(), replay({}, ()), {}, {**report, 'missing': []})
    return [one for one in queue if one.item.kind in ('split', 'merger')]


def _proofread(
    folder: Path,
    name: str,
    table: MergeTable,
    queue: Sequence[Queued],
    truth: np.ndarray,
    counts: Sequence[int],
) -> None:
    """Judges places, and prints scores along the way."""
    path = folder / f'{name.replace(" ", "-")}.jsonl'
    with (
        open_volume(f'{folder}/v.h5:labels') as volume,
        open_journal(path, Base('labels', '', table.digest)) as journal,
    ):
        session = Proofreading(volume, table, journal, queue)
        segmented = volume.read(volume.box)
        body = _bodies(segmented, truth)
        judged, wrong = 0, 0
        for count in counts:
            while judged < count and session.item is not None:
                wrong += _judge(session, body, truth, segmented)
                judged += 1
            _print_row(f'{name} | {judged} | {wrong}', session, volume, truth)


def _bodies(labels: np.ndarray, truth: np.ndarray) -> dict[int, int]:
    """Segment → the body that most of its voxels are of."""
    rows = joint_histogram(labels, truth)
    rows = rows[(rows[:, 0] > 0) & (rows[:, 1] > 0)]
    rows = rows[np.argsort(rows[:, 2], kind='stable')]
    return {int(segment): int(body) for segment, body, _ in rows}


def _judge(
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


def _points_of_two_bodies(segment: np.ndarray, truth: np.ndarray) -> tuple[Xyz, Xyz]:
    """A voxel deep inside a segment in each of the two bodies that most of it is of."""
    from edt import edt

    places = np.argwhere(segment)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    segment, truth = segment[inside], truth[inside]
    bodies, voxels = np.unique(truth[segment & (truth > 0)], return_counts=True)
    found = []
    for one in bodies[np.argsort(-voxels)[:2]]:
        depth = edt(np.pad(segment & (truth == one), 1))
        z, y, x = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) - 1 + low
        found.append(Xyz(int(x), int(y), int(z)))
    return found[0], found[1]


def _print_row(begin: str, session: Proofreading, volume: Volume, truth: np.ndarray) -> None:
    table = np.array(sorted(session.objects.equivalences().items()), np.uint64).reshape(-1, 2)
    segments = session.labels.read(volume, volume.box)
    labels = remap(segments, table[:, 0], table[:, 1], others='keep')
    split, merge = voi_score(truth, labels, 'segmentation')
    rand = rand_score(truth, labels, 'segmentation').error
    print(f'| {begin} | {split:.3f} | {merge:.3f} | {rand:.4f} |', flush=True)


if __name__ == '__main__':
    main()
