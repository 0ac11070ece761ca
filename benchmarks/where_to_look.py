"""Where to look first, on real data: how many of the errors are at the beginning of the queue of `ffn queue --others`.

    python -m benchmarks.where_to_look --data FOLDER [--work FOLDER]

Segmentations of the part of training_sample2 that the small network of models/ has not been trained on (z >= 150): the published
one, that of the small network, that of the same network from the same seeds in reverse order, and four watersheds. Judged
are the published one, with the watersheds as the others or with both of the small network, and the first of the small network with the reverse one.
No ground truth is used but to check the queues:

- a split is an error if most of both objects is of one body;
- a merger, if the object has voxels of a second body, at least as many as `--least` and farther than 2 voxels from the
  boundary of bodies; how much it matters follows from how many these are;
- an orphan, if its body goes on in another object.

Printed is, for several orders of the same places, which part of the errors is in the first fifth: of their number, and of the bits of
variation of information that putting them right would gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from benchmarks import (
    consensus_real,
    measure,
    real_segmentation,
    simulated_proofreader,
    watershed,
)
from benchmarks.proofreading_real import bodies
from ffn.agglomeration import consensus_run
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.blocks import boundary_band
from ffn.inference import box_run
from ffn.inference.request import make_config, read_box
from ffn.proofreading.editing.disagreement import compare_with_others
from ffn.proofreading.editing.merge_table import MergeTable
from ffn.proofreading.editing.objects import replay
from ffn.proofreading.editing.queue import Change, QueueConfig, Queued, make_queue
from ffn.proofreading.editing.survey import survey
from ffn.utils.geometry import Box
from ffn.utils.labels import joint_histogram
from ffn.volumes.volume import VolumeSource

BOX = 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }'
REQUEST = str(measure.ROOT / 'configs' / 'inference_fib25_small.pbtxt')
WATERSHEDS = tuple(
    watershed.Settings('dark', 0.75, 'cores', inside, radius)
    for inside in (0.4, 0.5)
    for radius in (1, 2)
)
# Voxels from another body that are not judged, as tracings differ by as much; part of the queue that is looked at.
_BOUNDARY, _FIRST = 2, 0.2


class Errors:
    """What the ground truth says about places of a queue."""

    def __init__(self, labels: np.ndarray, truth: np.ndarray, least: int):
        """Takes both volumes, uint64 [z, y, x]; for `least` see above."""
        inside = ~boundary_band(truth, _BOUNDARY)
        rows = joint_histogram(labels[inside], truth[inside]).astype(np.int64)
        rows = rows[(rows[:, 0] > 0) & (rows[:, 1] > 0)]
        self._least = least
        self._body = simulated_proofreader.bodies_of(labels, truth)
        self._parts: dict[int, list[int]] = {}
        for segment, _, voxels in rows.tolist():
            self._parts.setdefault(segment, []).append(voxels)
        sizes = np.unique(labels[labels > 0], return_counts=True)
        self._size = dict(zip(*(one.tolist() for one in sizes), strict=True))
        self._of_body: dict[int, int] = {}
        for segment, voxels in self._size.items():
            body = self._body.get(segment, 0)
            self._of_body[body] = self._of_body.get(body, 0) + voxels
        self._change = Change('voi', int(np.count_nonzero(labels)))

    def bits(self, one: Queued) -> float:
        """Bits that putting a place right gains; 0 if nothing is wrong there."""
        ids = one.item.ids
        if one.item.kind == 'split':
            a, b = ids
            same = self._body.get(a) is not None and self._body.get(a) == self._body.get(b)
            return self._change(self._size[a], self._size[b]) if same else 0.0
        if one.item.kind == 'merger':
            first, second = ([*sorted(self._parts.get(ids[0], ()), reverse=True), 0, 0])[:2]
            return self._change(first, second) if second >= self._least else 0.0
        body = self._body.get(ids[0])
        rest = self._of_body[body] - self._size[ids[0]] if body is not None else 0
        return self._change(self._size[ids[0]], rest)


class Row(NamedTuple):
    """What an order of a queue comes to.

    Attributes:
      places: in the queue.
      wrong: of these.
      share: of the wrong places that are in its first fifth.
      bits: all that would be gained.
      share_of_bits: of that, in the first fifth.
    """

    places: int
    wrong: int
    share: float
    bits: float
    share_of_bits: float


def score(queue: Sequence[Queued], errors: Errors) -> Row:
    """Scores a queue in its order."""
    gains = np.array([errors.bits(one) for one in queue])
    first = gains[: round(_FIRST * len(gains))]
    wrong, bits = int(np.count_nonzero(gains)), float(gains.sum())
    return Row(
        len(gains),
        wrong,
        np.count_nonzero(first) / max(wrong, 1),
        bits,
        float(first.sum()) / max(bits, 1e-12),
    )


def queues(labels: VolumeSource, others: Sequence[str], folder: Path) -> Mapping[str, list[Queued]]:
    """The queue in each order that `ffn queue` knows."""
    objects = replay({}, ())
    tables = compare_with_others(labels, others, objects)
    segments = survey(labels, folder, InProcess(), True)
    return {
        rank: make_queue(QueueConfig(rank_by=rank), MergeTable(), objects, segments, others=tables)
        for rank in ('voxels', 'voi', 'run_length')
    }


def segment(args: argparse.Namespace, folder: Path) -> None:
    """Segments the box with the network in both orders; what is there already is kept."""
    request = consensus_real.inference_request(args, folder)
    request.movement_policy_name = 'CoarseToFineMovementPolicy'
    box_run.run(make_config(request), [read_box(args.box)], quiet=args.quiet)
    consensus_run.segment_reversed(
        make_config(request), f'{folder}/forward', f'{folder}/reverse', InProcess(), args.quiet
    )


def write_watersheds(path: Path, box: Box, folder: Path) -> None:
    """Writes a watershed of the box for each of the settings."""
    with h5py.File(folder / 'volume.h5', 'r') as file:
        image = file['raw'][box.slices_zyx]
        shape = file['raw'].shape
    with h5py.File(path, 'w') as file:
        for n, (_, labels) in enumerate(watershed.segmentations(image, WATERSHEDS)):
            whole = file.create_dataset(
                f'{n}', shape, np.uint32, chunks=(50, 50, 50), compression='gzip'
            )
            whole[box.slices_zyx] = labels


def write_judged(path: Path, name: str, labels: np.ndarray, box: Box) -> str:
    """Writes labels of the box as a volume of training_sample2; returns its name."""
    with h5py.File(path, 'a') as file:
        file.pop(name, None)
        whole = file.create_dataset(
            name, (250, 250, 250), np.uint64, chunks=(50, 50, 50), compression='gzip'
        )
        whole[box.slices_zyx] = labels
    return f'{path}:{name}'


def run(args: argparse.Namespace, folder: Path) -> None:
    """Makes all of it and prints the table."""
    box = read_box(args.box)
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(args.data, folder / 'volume.h5')
    truth = bodies(args.data)[box.slices_zyx]
    cases = []
    published = real_segmentation.published(args.data)[box.slices_zyx]
    if not args.no_watershed:
        write_watersheds(folder / 'watersheds.h5', box, folder)
        others = [f'{folder}/watersheds.h5:{n}' for n in range(len(WATERSHEDS))]
        cases.append(('published', published, 'watersheds', others))
    if not args.no_network:
        segment(args, folder)
        forward = real_segmentation.stored(folder / 'forward', box.start.zyx)
        runs = [str(folder / 'forward'), str(folder / 'reverse')]
        cases.append(('published', published, 'network, both orders', runs))
        cases.append(('network', forward, 'reverse order', runs[1:]))
    print(
        '| judged | others | places | order | places | wrong | in the first fifth | bits | in the first fifth |\n'
        '|---|---|---|---|---:|---:|---:|---:|---:|'
    )
    for n, (name, labels, against, others) in enumerate(cases):
        source = VolumeSource(write_judged(folder / 'judged.h5', f'{n}', labels, box))
        errors = Errors(labels, truth, args.least)
        found = queues(source, others, folder / f'{n}.segments')
        for kinds in (('split', 'merger'), ('split', 'merger', 'orphan')):
            for rank, queue in found.items():
                row = score([one for one in queue if one.item.kind in kinds], errors)
                print(
                    f'| {name} | {against} | {", ".join(kinds)} | {rank} | {row.places} | {row.wrong} | '
                    f'{row.share:.0%} | {row.bits:.3f} | {row.share_of_bits:.0%} |',
                    flush=True,
                )


def main() -> None:
    """Prints the table."""
    parser = measure.parser(__doc__)
    parser.add_argument('--request', default=REQUEST, help='InferenceRequest of the runs')
    parser.add_argument('--box', default=BOX)
    parser.add_argument('--precision', default='')
    parser.add_argument('--least', type=int, default=200, help='voxels of a body that count')
    parser.add_argument('--no_network', action='store_true', help='watersheds only')
    parser.add_argument('--no_watershed', action='store_true', help='the network only')
    parser.add_argument('--work', type=Path, help='folder that keeps what is made')
    parser.add_argument('--quiet', action='store_true', help='no progress bars')
    args = parser.parse_args()
    with measure.work_folder(args.work) as folder:
        run(args, folder)


if __name__ == '__main__':
    measure.run_bench(main)
