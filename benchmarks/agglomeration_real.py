"""Agglomeration that learns, on real data: fitted on one part of a volume, tested on another.

    python -m benchmarks.agglomeration_real --data FOLDER [--work FOLDER] [--precision int8]

takes the published segmentation of training_sample2, resegments pairs of its segments with the published network in two
disjoint parts, and fits a classifier to each part. On the other part it compares

- the fixed thresholds,
- thresholds chosen on the first part, those of many with the lowest VOI there,
- the fit, with several values of --min_probability, and
- for a limit, joining every pair of which most voxels are of one body.

VOI (bits) is over the voxels of the part that the segmentation labels; precision and recall of merges over the pairs whose
bodies are clear: accepted pairs within a body, of all accepted ones; and pairs within a body that are one object
afterwards, of all such pairs. With --work, what is there already is not made again, and the reliability plots
stay there.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from benchmarks import measure, real_segmentation
from ffn.agglomeration.agglomerate import FIT, AgglomerationConfig, agglomerate
from ffn.agglomeration.config import ResegmentationConfig, make_config
from ffn.agglomeration.evidence import SCORES, Thresholds
from ffn.agglomeration.fitting import Tested, figures_of, reliability
from ffn.agglomeration.joins import JoinRules
from ffn.agglomeration.merges import join_ids
from ffn.agglomeration.truth import FitConfig, Owners, find_owners
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.voi import VoiScore, voi_score
from ffn.inference import inference_pb2
from ffn.inference.request import read_request
from ffn.utils.geometry import Box, Xyz
from ffn.utils.labels import joint_histogram, remap
from ffn.visualization.reliability import plot_reliability
from ffn.volumes.volume import VolumeSource

PARTS = {
    'A': Box(Xyz(45, 45, 0), Xyz(160, 160, 125)),
    'B': Box(Xyz(45, 45, 125), Xyz(160, 160, 125)),
}
RADIUS, ANALYSIS, NEAR = Xyz(24, 24, 24), Xyz(20, 20, 20), Xyz(4, 4, 4)
MAX_DISTANCE = 10.0  # nm
# Of --min_probability.
LIMITS = (0.5, 0.7, 0.9)
CHOICES = [
    Thresholds(*values)
    for values in itertools.product(
        (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0, 0.1, 0.2, 0.3, 0.45, 0.6), (0.02, 0.1, 1)
    )
]


class Part(NamedTuple):
    """A part of the volume, with what is known about it.

    Attributes:
      truth: bodies, int64 [z, y, x].
      labels: segments, uint64 [z, y, x].
      pairs: uint64 [n, 2].
      scores: float64 [n, len(SCORES)].
      owners: bodies of the segments.
    """

    truth: np.ndarray
    labels: np.ndarray
    pairs: np.ndarray
    scores: np.ndarray
    owners: Owners

    def voi(self, accepted: np.ndarray) -> VoiScore:
        """Scores the part with pairs joined."""
        joined = join_ids([(a, b) for a, b in self.pairs[accepted].tolist()])
        table = np.array(sorted(joined.items()), np.uint64).reshape(-1, 2)
        labels = remap(self.labels, table[:, 0], table[:, 1], others='keep')
        return voi_score(self.truth, labels, 'segmentation')

    @property
    def bodies(self) -> np.ndarray:
        """Bodies of the pairs, uint64 [n, 2], 0 where that is not clear."""
        return self.owners.of(self.pairs)


def write_volumes(data: Path, folder: Path) -> None:
    """Writes image, segmentation and bodies."""
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(data, folder / 'volume.h5')
        with h5py.File(folder / 'volume.h5', 'a') as file:
            labels = real_segmentation.published(data)
            file.create_dataset('labels', data=labels, compression='gzip')
    if not (folder / 'truth.h5').exists():
        measure.write_labels(folder / 'truth.h5', measure.sample_labels(data))


def resegmentation(args: argparse.Namespace, folder: Path, name: str) -> ResegmentationConfig:
    """How the pairs of a part are resegmented."""
    request = read_request(str(measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'))
    request.model_checkpoint_path = str(args.data / 'fib25/model/model.ckpt-27465036')
    request.image.hdf5 = f'{folder}/volume.h5:raw'
    request.init_segmentation.hdf5 = f'{folder}/volume.h5:labels'
    request.voxel_size.x = request.voxel_size.y = request.voxel_size.z = 10
    request.precision = args.precision
    request.batch_size, request.concurrent_requests = 4, 8
    return make_config(
        inference_pb2.ResegmentationRequest(
            inference=request,
            output_directory=f'{folder}/{name}',
            radius=RADIUS.to_proto(),
            analysis_radius=ANALYSIS.to_proto(),
            init_exclusion_radius=NEAR.to_proto(),
            exclusion_radius=NEAR.to_proto(),
            segment_recovery_fraction=0.6,
            max_retry_iters=2,
            terminate_early=True,
        )
    )


def read_merges(path: Path) -> Mapping[str, np.ndarray]:
    """Reads the columns of merges.csv that are numbers, NaN where there is none; ids exactly."""
    with open(path, newline='') as file:
        rows = list(csv.DictReader(file))
    names = ('accepted', 'probability', *SCORES)
    table = {n: np.array([float(row.get(n) or 'nan') for row in rows]) for n in names}
    return table | {n: np.array([int(row[n]) for row in rows], np.uint64) for n in ('id_a', 'id_b')}


def load(data: Path, folder: Path, name: str) -> Part:
    """Reads a part after its evidence has been gathered."""
    with (
        h5py.File(folder / 'volume.h5', 'r') as file,
        h5py.File(folder / 'truth.h5', 'r') as truths,
    ):
        at = PARTS[name].slices_zyx
        labels, truth = file['labels'][at], truths['stack'][at]
    merges = read_merges(folder / name / 'merges.csv')
    overlaps = joint_histogram(labels, truth)
    return Part(
        truth,
        labels,
        np.stack([merges['id_a'], merges['id_b']], axis=1),
        np.stack([merges[n] for n in SCORES], axis=1),
        find_owners(overlaps[overlaps[:, 0] > 0], FitConfig().min_majority),
    )


def merges_of(part: Part, accepted: np.ndarray) -> tuple[float, float]:
    """Precision and recall of merges."""
    bodies = part.bodies
    clear = (bodies > 0).all(axis=1)
    same = clear & (bodies[:, 0] == bodies[:, 1])
    joined = join_ids([(a, b) for a, b in part.pairs[accepted].tolist()])
    together = np.array(
        [a in joined and joined[a] == joined.get(b) for a, b in part.pairs.tolist()]
    )
    right = (accepted & same).sum() / max((accepted & clear).sum(), 1)
    return float(right), float((together & same).sum() / max(same.sum(), 1))


def show(part: Part, name: str, accepted: np.ndarray) -> None:
    """Prints a line of the table."""
    voi, before = part.voi(accepted), part.voi(np.zeros(len(accepted), bool))
    right, found = merges_of(part, accepted)
    gain = before.total - voi.total if accepted.any() else 0.0
    print(
        f'| {name} | {accepted.sum()} | {right:.3f} | {found:.3f} | {voi.split:.4f} | {voi.merge:.4f} | '
        f'{voi.split + voi.merge:.4f} | {gain:.4f} |'
    )


def compare(args: argparse.Namespace, folder: Path, fitted: str, tested: str) -> None:
    """Fits on one part, and prints what that does on the other."""
    parts = {name: load(args.data, folder, name) for name in PARTS}
    part = parts[tested]
    best = min(
        CHOICES, key=lambda one: sum(parts[fitted].voi(one.accept_all(parts[fitted].scores))[:2])
    )
    found = {}
    for least in LIMITS:
        rules, fit = JoinRules(min_probability=least), str(folder / fitted / FIT)
        config = AgglomerationConfig(
            PARTS[tested], Thresholds(), MAX_DISTANCE, model=fit, rules=rules
        )
        agglomerate(resegmentation(args, folder, tested), config, InProcess(), args.quiet)
        found[least] = read_merges(folder / tested / 'merges.csv')
    bodies = part.bodies
    same = (bodies > 0).all(axis=1) & (bodies[:, 0] == bodies[:, 1])
    print(
        f'\nfitted on {fitted}, tested on {tested}: {len(part.pairs)} pairs, {same.sum()} within a body'
    )
    print(f'thresholds chosen on {fitted}: {best}')
    print('| | accepted | precision | recall | VOI split | VOI merge | sum | gain |')
    print('|---|---:|---:|---:|---:|---:|---:|---:|')
    show(part, 'before', np.zeros(len(same), bool))
    show(part, 'fixed thresholds', Thresholds().accept_all(part.scores))
    show(part, 'chosen thresholds', best.accept_all(part.scores))
    for least, merges in found.items():
        show(part, f'fit, {least:g}', merges['accepted'] > 0)
        if least == JoinRules().min_probability:
            single = np.nan_to_num(merges['probability']) >= least
            show(part, f'fit, {least:g}, each pair for itself', single)
    show(part, 'every pair within a body', same)
    p = found[LIMITS[0]]['probability']
    clear = (bodies > 0).all(axis=1) & np.isfinite(p)
    seen = Tested(same[clear], np.ones(clear.sum()), p[clear], p[clear])
    rate = np.full(clear.sum(), same[clear].mean())
    figures = figures_of(seen)
    print(
        f'{clear.sum()} pairs with clear bodies: log loss {figures["log_loss"]:.4f} (their rate alone '
        f'{figures_of(seen._replace(probabilities=rate))["log_loss"]:.4f}), Brier score {figures["brier"]:.4f}, '
        f'precision {figures["precision"]:.3f}, recall {figures["recall"]:.3f}'
    )
    table = reliability(seen)
    print(
        'predicted → observed:',
        ', '.join(f'{r["predicted"]:.2f} → {r["observed"]:.2f} ({r["weight"]:.0%})' for r in table),
    )
    plot_reliability(table, folder / f'reliability_{fitted}_{tested}.png')


def run(args: argparse.Namespace, folder: Path) -> None:
    """Makes all of it and prints the tables."""
    write_volumes(args.data, folder)
    for name, box in PARTS.items():
        fit = FitConfig(VolumeSource(f'{folder}/truth.h5:stack'))
        config = AgglomerationConfig(box, Thresholds(), MAX_DISTANCE, fit=fit)
        found = agglomerate(resegmentation(args, folder, name), config, InProcess(), args.quiet).fit
        if found:
            print(
                f'part {name}, {box}: {found.validation["chosen"]}; {found.fitted_on["pairs"]} pairs'
            )
            for tried, figures in found.validation['tried'].items():
                print(f'  {tried:40s}', ' '.join(f'{k} {v:.4f}' for k, v in figures.items()))
    compare(args, folder, 'A', 'B')
    compare(args, folder, 'B', 'A')


def main() -> None:
    """Makes all of it and prints the tables."""
    parser = measure.parser(__doc__.splitlines()[0])
    parser.add_argument('--precision', default='bfloat16', help='of the network')
    measure.run_with_network(parser, run)


if __name__ == '__main__':
    measure.run_bench(main)
