"""Movement policies and precisions side by side: steps, time in the network, operations and scores.

    python -m benchmarks.bench_flood --data FOLDER [--case whole] [--way face:bfloat16 --way coarse:int8]
      [--way 'coarse:int8:{"coarse": 1.25}']

A way is a movement policy, `face` (FaceMaxMovementPolicy, the default) or `coarse` (CoarseToFineMovementPolicy), a
precision, and arguments of the policy. The last lines are ratios to the first way. MFLOP are the network's multiplications and additions per voxel
of the box, in whichever precision.

The cases are boxes of training_sample2: `golden`, 120³ from 60,60,60, and `whole`, 250³ (half an hour and more),
with the published network; `small`, the same 120³ with models/fib25_small; and `demo`, the held-out part of the
generated sample with the network of `make demo`, whose folder --demo names.

Adapted Rand errors are over the voxels that a segmentation labels, VOI (split + merge, bits) over those that the
truth labels; the last two columns are those of the segmentation filled by `ffn fill`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import expit

from benchmarks import measure, real_segmentation
from ffn.agglomeration.fill import Filling, fill
from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.inference import inference_pb2
from ffn.utils.geometry import Box, Xyz

if TYPE_CHECKING:
    from ffn.inference.core.canvas import Canvas
    from ffn.models.predictor import Predict

POLICIES = {'face': 'FaceMaxMovementPolicy', 'coarse': 'CoarseToFineMovementPolicy'}
WAYS = ('face:bfloat16', 'coarse:bfloat16', 'face:int8', 'coarse:int8')
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
    if small:
        for path in (measure.ROOT / 'models').glob('fib25_small.*'):
            shutil.copy(path, folder)
        request.model_checkpoint_path = f'{folder}/fib25_small.weights.h5'
    else:
        request.model_checkpoint_path = real_segmentation.copy_model(args.data, folder)
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(args.data, folder / 'volume.h5')
    request.image.hdf5 = f'{folder}/volume.h5:raw'
    box = WHOLE if name == 'whole' else GOLDEN
    return Case(request, box, measure.sample_labels(args.data)[box.slices_zyx])


class Fates:
    """Where steps go, by what became of the object; and those that changed no probability by a hundredth.

    It is the network of a run, and timed as such, and an observer of its canvas.
    """

    def __init__(self, predict: Predict):
        self._predict = predict
        self.network_s = 0.0
        self.unchanged = 0
        self.steps: Counter[str] = Counter()
        self._counted, self._outcomes = 0, [0, 0, 0]

    def __call__(self, images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Runs the network."""
        begin = time.perf_counter()
        logits = self._predict(images, seeds)
        self.network_s += time.perf_counter() - begin
        self.unchanged += int(np.abs(expit(logits) - expit(seeds)).max() < 0.01)
        return logits

    def observe(self, canvas: Canvas) -> None:
        """Counts the steps of an object when it has ended."""
        counters = canvas.counters
        outcomes = [len(canvas.origins), counters['rejected-weak'], counters['rejected-small']]
        for name, before, after in zip(
            ('kept', 'weak', 'small'), self._outcomes, outcomes, strict=True
        ):
            if after > before:
                self.steps[name] += counters['predict-calls'] - self._counted
                self._counted = counters['predict-calls']
        self._outcomes = outcomes

    def __str__(self) -> str:
        total = self._counted
        parts = [f'{name} {self.steps[name] / total:.1%}' for name in ('kept', 'weak', 'small')]
        return f'steps by object: {", ".join(parts)}; changed nothing: {self.unchanged / total:.1%}'


class Measured(NamedTuple):
    """What a run took and gave."""

    steps: int
    network_s: float
    flop: float
    error: float
    voi: float
    fill: float
    objects: int
    filled: tuple[float, float]
    fates: Fates


def run(case: Case, way: str) -> Measured:
    """Segments the box of a case in one way."""
    from ffn.inference.executor import Executor
    from ffn.inference.network import load_network, make_predictor
    from ffn.inference.request import make_config
    from ffn.inference.runner import Runner

    request = inference_pb2.InferenceRequest()
    request.CopyFrom(case.request)
    policy, request.precision, *arguments = way.split(':', 2)
    request.movement_policy_name = POLICIES[policy]
    request.movement_policy_args = ''.join(arguments)
    with Runner(make_config(request)) as runner:
        model = load_network(runner.config)
        fates = Fates(make_predictor(runner.config, model))
        runner.executor = Executor(fates)
        with runner.config.image.open() as volume:
            image = volume.read(case.box)
        canvas = runner.run_in_memory(case.box.start.zyx, case.box.size.zyx, fates.observe)
    found, steps = canvas.segmentation, canvas.counters['predict-calls']
    return Measured(
        steps,
        fates.network_s,
        steps * flop_of_step(model),
        *scores(case.truth, found),
        float((found > 0).mean()),
        len(canvas.origins),
        scores(case.truth, fill(found, image, Filling())),
        fates,
    )


def scores(truth: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Adapted Rand error and VOI."""
    score = HeldOutScore.of(truth, Segmented(found), 'truth')
    return real_segmentation.truth_error(truth, found), score.voi_split + score.voi_merge


def flop_of_step(model: Any) -> float:
    """Multiplications and additions of a step of a network that keeps the field of view from layer to layer."""
    kernels = (np.prod(v.shape) for v in model.named_variables().values() if len(v.shape) == 5)
    return float(2 * sum(kernels) * np.prod(model.info.input_image_size))


def lines(name: str, case: Case, ways: Sequence[str]) -> Iterator[str]:
    """Runs a case in several ways; yields the lines of its table."""
    yield f'{name}, {case.box.size.x}×{case.box.size.y}×{case.box.size.z}'
    yield (
        f'{"":16} {"steps":>7} {"network":>9} {"MFLOP":>6} {"error":>7} {"VOI":>6} {"filled":>7} {"objects":>7} '
        f'{"error":>7} {"VOI":>6}'
    )
    results = []
    for way in ways:
        found = run(case, way)
        results.append(found)
        yield (
            f'{way:16} {found.steps:7d} {found.network_s:7.0f} s {found.flop / case.truth.size / 1e6:6.1f} '
            f'{found.error:7.4f} {found.voi:6.3f} {found.fill:7.1%} {found.objects:7d} '
            f'{found.filled[0]:7.4f} {found.filled[1]:6.3f}'
        )
        yield f'{"":16} {found.fates}'
    first = results[0]
    for way, found in zip(ways[1:], results[1:], strict=True):
        yield (
            f'{way:16} {found.steps / first.steps:7.3f} {found.network_s / first.network_s:9.3f}   of {ways[0]}'
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
    parser.add_argument(
        '--way',
        action='append',
        help='policy:precision[:arguments]; may be repeated (default: ' + ', '.join(WAYS) + ')',
    )
    args = parser.parse_args()
    for way in args.way or ():
        if way.partition(':')[0] not in POLICIES or not way.partition(':')[2]:
            parser.error(f'--way is {way}; expected {" or ".join(POLICIES)}, a colon, a precision')
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    with tempfile.TemporaryDirectory() as folder:
        for name in args.case or ('golden', 'small'):
            case = make_case(name, args, Path(folder))
            for line in lines(name, case, args.way or WAYS):
                print(line, flush=True)


if __name__ == '__main__':
    measure.run_bench(main)
