"""From a network to objects, on the part of real data that is held out of training: every stage scored.

    python -m benchmarks.held_out_pipeline --data FOLDER [--precision int8] [--work FOLDER]

The network of a request segments training_sample2, the part that it has learned from (z < 150) and the rest by themselves, in both
orders of seeds; `ffn consensus` splits where the two disagree, `ffn agglomerate` joins the pieces, and `ffn fill` gives away what
is empty. How probable a join is, it learns from the ground truth of z < 150 alone (`--fit`); the fixed thresholds are beside it.

Printed for z >= 150: adapted Rand error and VOI (bits) over the voxels that are labelled in truth or segmentation, so
that a network pays for what it leaves empty. With --work, what is there already is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastremap
import h5py
import numpy as np

from benchmarks import consensus_real, measure, real_segmentation
from ffn.agglomeration import consensus_run
from ffn.agglomeration.agglomerate import FIT, Agglomeration, AgglomerationConfig, agglomerate
from ffn.agglomeration.config import ResegmentationConfig, make_config
from ffn.agglomeration.evidence import Thresholds
from ffn.agglomeration.fill import Filling, fill
from ffn.agglomeration.joins import JoinRules
from ffn.agglomeration.truth import FitConfig
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.held_out_score import HEADER, HeldOutScore, Segmented
from ffn.inference import box_run, inference_pb2
from ffn.inference import request as requests
from ffn.utils.geometry import Box, Xyz
from ffn.utils.labels import renumber
from ffn.volumes.volume import VolumeSource

SPLIT_Z, SIZE = 150, 250
PARTS = {
    'known': Box(Xyz(0, 0, 0), Xyz(SIZE, SIZE, SPLIT_Z)),
    'held_out': Box(Xyz(0, 0, SPLIT_Z), Xyz(SIZE, SIZE, SIZE - SPLIT_Z)),
}
# Of the boxes in which pairs are resegmented: their radius, that of what is compared, and where other objects stay away.
RADIUS, ANALYSIS, NEAR = Xyz(24, 24, 24), Xyz(20, 20, 20), Xyz(4, 4, 4)
LIMITS = (0.5, 0.7, 0.9)


def segment(
    request: inference_pb2.InferenceRequest, folder: Path, args: argparse.Namespace
) -> None:
    """Segments both parts in both orders, and makes their consensus."""
    box_run.run(requests.make_config(request), list(PARTS.values()), quiet=args.quiet)
    consensus_run.segment_reversed(
        requests.make_config(request),
        f'{folder}/forward',
        f'{folder}/reverse',
        InProcess(),
        args.quiet,
    )
    consensus = consensus_real.consensus_of(folder, args.split_min_size)
    consensus_run.run_consensus(consensus, InProcess(), args.quiet)


def write_labels(folder: Path, of: str, part: str) -> str:
    """Writes a segmentation of a part as a volume of the whole sample; returns its name."""
    path, box = folder / f'{of}_{part}.h5', PARTS[part]
    if not path.exists():
        labels = real_segmentation.stored(folder / of, box.start.zyx)
        measure.write_labels(path, placed(labels, box))
    return f'{path}:stack'


def placed(labels: np.ndarray, box: Box) -> np.ndarray:
    """Labels of a box in an array of the whole sample, elsewhere 0."""
    whole = np.zeros((SIZE,) * 3, labels.dtype)
    whole[box.slices_zyx] = labels
    return whole


def resegmentation(
    request: inference_pb2.InferenceRequest, labels: str, output: Path
) -> ResegmentationConfig:
    """How pairs of segments are resegmented."""
    again = inference_pb2.ResegmentationRequest(
        inference=request,
        output_directory=str(output),
        radius=RADIUS.to_proto(),
        analysis_radius=ANALYSIS.to_proto(),
        init_exclusion_radius=NEAR.to_proto(),
        exclusion_radius=NEAR.to_proto(),
        segment_recovery_fraction=0.6,
        max_retry_iters=2,
        terminate_early=True,
    )
    again.inference.init_segmentation.hdf5 = labels
    return make_config(again)


def join(
    request: inference_pb2.InferenceRequest, of: str, folder: Path, args: argparse.Namespace
) -> Callable[[float], Agglomeration]:
    """Gathers the evidence of both parts and fits to the known one.

    Returns:
      min_probability, or 0 for the fixed thresholds → the held-out part with its pieces joined.
    """

    def run(part: str, **settings: Any) -> Agglomeration:
        labels, output = write_labels(folder, of, part), folder / f'{of}_again_{part}'
        config = AgglomerationConfig(PARTS[part], Thresholds(), args.max_distance, **settings)
        return agglomerate(resegmentation(request, labels, output), config, InProcess(), args.quiet)

    found = run('known', fit=FitConfig(VolumeSource(f'{folder}/truth.h5:stack'))).fit
    if found is None:
        raise SystemExit('error: nothing was fitted')
    model = str(folder / f'{of}_again_known' / FIT)
    print(f'{of}: fitted to {found.fitted_on}, {found.validation["chosen"]}', flush=True)

    def held_out(least: float) -> Agglomeration:
        settings = {'model': model, 'rules': JoinRules(min_probability=least)} if least else {}
        return run('held_out', **settings)

    return held_out


def run(args: argparse.Namespace, folder: Path) -> None:
    """Makes all of it and prints the table."""
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(args.data, folder / 'volume.h5')
        known = measure.sample_labels(args.data)[PARTS['known'].slices_zyx]
        measure.write_labels(folder / 'truth.h5', placed(known, PARTS['known']))
    inside = PARTS['held_out'].slices_zyx
    truth = renumber(measure.sample_labels(args.data)[inside])[0]
    with h5py.File(folder / 'volume.h5', 'r') as file:
        image = file['raw'][inside]
    request = consensus_real.inference_request(args, folder)
    request.batch_size, request.concurrent_requests = 4, 8
    begin = time.perf_counter()
    segment(request, folder, args)
    print(HEADER)

    def show(name: str, labels: np.ndarray) -> None:
        found = Segmented(labels, 0, time.perf_counter() - begin)
        print(f'{HeldOutScore.of(truth, found).row()}  {name}')
        found = dataclasses.replace(found, labels=fill(labels, image, Filling()))
        print(f'{HeldOutScore.of(truth, found).row()}  {name}, filled', flush=True)

    for name in ('forward', 'reverse', 'consensus'):
        show(name, real_segmentation.stored(folder / name, PARTS['held_out'].start.zyx))
    for of in args.join:
        labels = real_segmentation.stored(folder / of, PARTS['held_out'].start.zyx)
        joined = join(request, of, folder, args)
        for least in (0.0, *LIMITS):
            found = joined(least)
            how = f'fit, {least:g}' if least else 'thresholds'
            name = f'{of}, joined by {how}: {found.accepted} of {found.pairs} pairs'
            show(name, fastremap.remap(labels, found.equivalences, preserve_missing_labels=True))


def main() -> None:
    """Prints the table."""
    parser = measure.parser(__doc__)
    request = measure.ROOT / 'configs' / 'inference_fib25_medium.pbtxt'
    parser.add_argument('--request', default=str(request), help='InferenceRequest')
    parser.add_argument('--precision', default='auto')
    parser.add_argument('--split_min_size', type=int, default=200)
    parser.add_argument('--max_distance', type=float, default=20, help='nanometres')
    parser.add_argument(
        '--join', nargs='*', default=['consensus', 'forward'], help='what is agglomerated'
    )
    measure.run_with_network(parser, run)


if __name__ == '__main__':
    measure.run_bench(main)
