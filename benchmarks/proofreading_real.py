"""A simulated proofreader on real data: scores after so many decisions.

    python -m benchmarks.proofreading_real --data FOLDER

proofreads the published segmentation of training_sample2. Places come from three queues: pairs of segments that are
close to each other, by size alone; the same pairs, where a segment that reaches no face of the volume is taken to belong to
one of its neighbours, the more probably the more it touches it (no network is run for either); and the error cases
that `ffn evaluate` lists, which know the ground truth. Answers come from the ground truth, see
`benchmarks.simulated_proofreader`. Everything goes through
the journal and the session that `ffn proofread` uses. VOI (bits) and adapted Rand error are over the voxels that
the segmentation labels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from benchmarks import measure, real_segmentation, simulated_proofreader
from ffn.agglomeration.decision_points import DecisionPoint, find_decision_points
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.rand import rand_score
from ffn.evaluation.voi import voi_score
from ffn.proofreading.editing.journal import Base, open_journal
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.proofreading.editing.queue import QueueConfig, Queued, make_queue
from ffn.proofreading.editing.survey import Segment, survey
from ffn.utils.labels import remap
from ffn.volumes.volume import VolumeSource, open_volume

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
    truth, labels = bodies(args.data), real_segmentation.published(args.data)
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
            'error cases': (
                MergeTable(),
                simulated_proofreader.error_cases(f'{folder}/v.h5:truth', f'{folder}/v.h5:labels'),
            ),
        }
        for queue, (table, places) in queues.items():
            _proofread(folder, queue, table, places, truth, counts)


def bodies(data: Path) -> np.ndarray:
    """Bodies of training_sample2, uint64 [z, y, x]."""
    supervoxels, table = measure.read_truth(data)
    transforms = table.astype(np.uint64)
    order = np.argsort(transforms[:, 0])
    return remap(supervoxels, *transforms[order].T, others='background')


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
        body = simulated_proofreader.bodies_of(segmented, truth)
        judged, wrong = 0, 0
        for count in counts:
            while judged < count and session.item is not None:
                wrong += simulated_proofreader.judge(session, body, truth, segmented)
                judged += 1
            _print_row(f'{name} | {judged} | {wrong}', session, truth)


def _print_row(begin: str, session: Proofreading, truth: np.ndarray) -> None:
    labels = simulated_proofreader.corrected(session)
    split, merge = voi_score(truth, labels, 'segmentation')
    rand = rand_score(truth, labels, 'segmentation').error
    print(f'| {begin} | {split:.3f} | {merge:.3f} | {rand:.4f} |', flush=True)


if __name__ == '__main__':
    measure.run_bench(main)
