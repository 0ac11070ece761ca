"""Precisions against float32: time of a step, error of logits, and the segmentation of boxes of real data.

    python -m benchmarks.bench_precision --data FOLDER [--boxes 3]

The published network segments boxes of training_sample2, 120³ voxels each, once in each precision (in float32 the
first alone). Fields of view
that the flood in float32 comes by (every tenth of the first box) are shown to all precisions in turns: times are
medians, errors of logits means over voxels, against float32. Errors of segmentations are adapted Rand errors over the
voxels that a segmentation labels, VOI (split + merge, bits) is over those that the truth labels.

int8 is left out where it does not run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import measure, real_segmentation
from ffn.evaluation.held_out_score import HeldOutScore, Segmented
from ffn.utils.errors import UserError

if TYPE_CHECKING:
    from ffn.inference import inference_pb2
    from ffn.models.predictor import Predict

CORNERS_ZYX = ((60, 60, 60), (10, 20, 120), (125, 120, 15))
SIZE_ZYX = (120, 120, 120)
FIELDS = 64


class Recorder:
    """A network that keeps every tenth field of view and its own."""

    def __init__(self, predict: Predict):
        self._predict, self._calls = predict, 0
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        self._calls += 1
        if self._calls % 10 == 0 and len(self.seen) < FIELDS:
            self.seen.append((images.copy(), seeds.copy()))
        return self._predict(images, seeds)


def segment(
    request: inference_pb2.InferenceRequest, corner_zyx: tuple[int, int, int], truth: np.ndarray
) -> tuple[Recorder, Predict]:
    """Segments a box and prints what it took and gave; returns what the network saw, and the network."""
    from ffn.inference.executor import Executor
    from ffn.inference.network import load_network, make_predictor
    from ffn.inference.request import make_config
    from ffn.inference.runner import Runner

    with Runner(make_config(request)) as runner:
        predict = make_predictor(runner.config, load_network(runner.config))
        recorder = Recorder(predict)
        runner.executor = Executor(recorder)
        canvas = runner.run_in_memory(corner_zyx, SIZE_ZYX)
    box = tuple(slice(a, a + n) for a, n in zip(corner_zyx, SIZE_ZYX, strict=True))
    found = canvas.segmentation
    score = HeldOutScore.of(truth[box], Segmented(found), 'truth')
    steps, milliseconds = canvas.counters['predict-calls'], canvas.counters['predict-time-ms']
    whole = canvas.counters['segment_all-time-ms'] / 1e3
    print(
        f'{request.precision:9s} {corner_zyx!s:15s} {whole:7.1f} s {steps:6d} steps {milliseconds / steps:6.1f} ms '
        f'each, {len(canvas.origins):3d} objects, error {real_segmentation.truth_error(truth[box], found):.4f}, '
        f'VOI {score.voi_split + score.voi_merge:.3f}, filled {(found > 0).mean():.1%}',
        flush=True,
    )
    return recorder, predict


def compare(ways: Mapping[str, Predict], seen: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Shows all networks the same; prints times and errors of logits."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    logits: dict[str, list[np.ndarray]] = {name: [] for name in ways}
    for turn, (image, seed) in enumerate(seen):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            logits[name].append(ways[name](image, seed))
            times[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name in ways:
        pairs = zip(logits[name], logits['float32'], strict=True)
        error = np.mean([np.abs(found - exact).mean() for found, exact in pairs])
        print(
            f'{name:9s} {medians[name] * 1e3:7.1f} ms a step, {medians[name] / medians["float32"]:.2f} of float32, '
            f'{medians[name] / medians["bfloat16"]:.2f} of bfloat16, mean error of logits {error:.4f}'
        )


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--boxes', type=int, default=1, help=f'of {len(CORNERS_ZYX)}')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    from ffn.inference.request import read_request
    from ffn.models.int8 import check_int8

    precisions = ['float32', 'bfloat16', 'int8']
    try:
        check_int8()
    except UserError as error:
        print(f'no int8: {error}')
        precisions.pop()
    truth = measure.sample_labels(args.data)
    request = read_request(str(measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'))
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    ways: dict[str, Predict] = {}
    with tempfile.TemporaryDirectory() as folder:
        request.model_checkpoint_path = real_segmentation.copy_model(args.data, Path(folder))
        real_segmentation.write_image(args.data, Path(folder, 'volume.h5'))
        request.image.hdf5 = f'{folder}/volume.h5:raw'
        for corner_zyx in CORNERS_ZYX[: args.boxes]:
            for precision in precisions[bool(seen) :]:
                request.precision = precision
                recorder, predict = segment(request, corner_zyx, truth)
                ways.setdefault(precision, predict)
                seen = seen or recorder.seen
    compare(ways, seen)


if __name__ == '__main__':
    measure.run_bench(main)
