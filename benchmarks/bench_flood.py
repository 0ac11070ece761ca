"""The default movement policy against coarse-to-fine moves: steps, time in the network and scores, side by side.

    python -m benchmarks.bench_flood --data FOLDER [--case whole] [--arguments '{"coarse": 1.25}']

The cases are boxes of training_sample2: `golden`, 120³ from 60,60,60, and `whole`, 250³ (half an hour and more),
with the published network; `small`, the same 120³ with models/fib25_small; and `demo`, the held-out part of the
generated sample with the network of `make demo`, whose folder --demo names.

Adapted Rand errors are over the voxels that a segmentation labels, VOI (split + merge, bits) over those that the
truth labels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import measure, real_segmentation
from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.inference import inference_pb2
from ffn.utils.geometry import Box, Xyz

POLICIES = ('FaceMaxMovementPolicy', 'CoarseToFineMovementPolicy')
GOLDEN = Box(Xyz(60, 60, 60), Xyz(120, 120, 120))
WHOLE = Box(Xyz(0, 0, 0), Xyz(250, 250, 250))
CONFIGS = measure.ROOT / 'configs'


class Case(NamedTuple):
    """What is segmented.

    Attributes:
      request: without a movement policy and an output folder.
      box: of the image.
      truth: integer [z, y, x] labels of the box.
    """

    request: inference_pb2.InferenceRequest
    box: Box
    truth: np.ndarray


def make_case(name: str, args: argparse.Namespace, folder: Path) -> Case:
    """Reads the request and the truth of a case."""
    from ffn.inference.request import read_request
    from ffn.volumes.volume import open_volume

    if name == 'demo':
        request = read_request(str(args.demo / 'request.pbtxt'))
        request.image.hdf5 = f'{args.demo}/unseen.h5:image'
        request.model_checkpoint_path = f'{args.demo}/model'
        with open_volume(f'{args.demo}/unseen.h5:labels') as labels:
            return Case(request, labels.box, labels.read(labels.box))
    small = name == 'small'
    file = 'inference_fib25_small.pbtxt' if small else 'inference_training_sample2.pbtxt'
    request = read_request(str(CONFIGS / file))
    request.model_checkpoint_path = str(
        measure.ROOT / 'models/fib25_small.weights.h5'
        if small
        else Path(args.data, 'fib25/model/model.ckpt-27465036')
    )
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(args.data, folder / 'volume.h5')
    request.image.hdf5 = f'{folder}/volume.h5:raw'
    box = WHOLE if name == 'whole' else GOLDEN
    return Case(request, box, measure.sample_labels(args.data)[box.slices_zyx])


class Measured(NamedTuple):
    """What a run took and gave."""

    steps: int
    network_s: float
    error: float
    voi: float
    fill: float
    objects: int


def run(case: Case, policy: str, arguments: str, precision: str) -> Measured:
    """Segments the box of a case."""
    from ffn.inference.request import make_config
    from ffn.inference.runner import Runner

    request = inference_pb2.InferenceRequest()
    request.CopyFrom(case.request)
    request.movement_policy_name, request.movement_policy_args = policy, arguments
    request.precision = precision
    with tempfile.TemporaryDirectory() as output:
        request.segmentation_output_dir = output
        with Runner(make_config(request)) as runner:
            canvas = runner.run(case.box.start.zyx, case.box.size.zyx)
        if canvas is None:
            raise SystemExit('error: nothing was segmented')
    found = canvas.segmentation
    score = HeldOutScore.of(case.truth, Segmented(found), 'truth')
    return Measured(
        canvas.counters['predict-calls'],
        canvas.counters['predict-time-ms'] / 1e3,
        real_segmentation.truth_error(case.truth, found),
        score.voi_split + score.voi_merge,
        float((found > 0).mean()),
        len(canvas.origins),
    )


def lines(name: str, case: Case, arguments: str, precision: str) -> Iterator[str]:
    """Runs a case with both policies; yields the lines of its table."""
    yield f'{name}, {case.box.size.x}×{case.box.size.y}×{case.box.size.z}, {precision}'
    yield f'{"":28} {"steps":>7} {"network":>9} {"error":>7} {"VOI":>6} {"filled":>7} {"objects":>7}'
    results = []
    for policy, given in zip(POLICIES, ('', arguments), strict=True):
        found = run(case, policy, given, precision)
        results.append(found)
        yield (
            f'{policy:28} {found.steps:7d} {found.network_s:7.0f} s {found.error:7.4f} {found.voi:6.3f} '
            f'{found.fill:7.1%} {found.objects:7d}'
        )
    plain, coarse = results
    yield (
        f'{"ratio":28} {coarse.steps / plain.steps:7.3f} {coarse.network_s / plain.network_s:7.3f}'
    )


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__ or '')
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--case',
        action='append',
        choices=('golden', 'small', 'demo', 'whole'),
        help='may be repeated (default: golden and small)',
    )
    parser.add_argument('--demo', type=Path, default=measure.ROOT / 'demo', help='of `make demo`')
    parser.add_argument('--arguments', default='', help='of the coarse-to-fine policy, JSON')
    parser.add_argument('--precision', default='bfloat16', help='that of both')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    with tempfile.TemporaryDirectory() as folder:
        for name in args.case or ('golden', 'small'):
            case = make_case(name, args, Path(folder))
            for line in lines(name, case, args.arguments, args.precision):
                print(line, flush=True)


if __name__ == '__main__':
    main()
