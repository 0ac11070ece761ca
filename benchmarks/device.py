"""How fast a device runs the published network: steps, batches, and a whole volume.

Needs the repository, NumPy, SciPy, Keras and JAX or PyTorch (or TensorFlow), nothing else, so that it
runs on a bare machine with a GPU. Where everything is installed, prepare what it needs:

    python -m benchmarks.device --prepare --data FOLDER --files device_files

writes the weights as fib25.weights.h5, and training_sample2 with its PolicyPeaks seeds as
sample.npz. Carry the folder along, and there:

    KERAS_BACKEND=jax python -m benchmarks.device --files device_files

Everything is measured in two ways, side by side. 'host': fields of view go to the device and logits come back, from
NumPy arrays to NumPy arrays. 'device': image and seed stay there, and a step returns the maxima of the faces
(FFN_DEVICE_CANVAS=1; not with TensorFlow). Printed are steps per second, the share of the rate at which the device
multiplies square matrices in the same precision, measured in the same run; and for floods voxels per second, and the
host's share: the part of the time in which no step is being made. What does not fit into --budget is left out.
`--small` tries everything on a CPU, with another network, and needs no files.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.bench_network_step import CHECKPOINT, DEPTH, FOV
from benchmarks.matrices import matmul_rate, seconds_of
from ffn.inference.core.canvas import Canvas, Interrupted
from ffn.inference.core.counters import Counters
from ffn.inference.core.device_canvas import DeviceCanvas
from ffn.inference.core.options import CanvasOptions
from ffn.inference.device_executor import DeviceExecutor, make_steps
from ffn.inference.executor import Executor
from ffn.models import keras_weights
from ffn.models import precision as precisions
from ffn.models.model import FFNModel, create_model
from ffn.models.predictor import make_predictor
from ffn.models.weights import convert
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

NAME = 'convstack_3d.ConvStack3DFFNModel'
ARGS: dict[str, Any] = {'depth': DEPTH, 'fov_size': [FOV] * 3, 'deltas': [8] * 3, 'features': 32}
POLICY = 'CoarseToFineMovementPolicy'
# As in configs/inference_training_sample2.pbtxt.
OPTIONS = CanvasOptions(
    init_activation=logit(0.95),
    pad_value=logit(0.05),
    move_threshold=logit(0.9),
    segment_threshold=logit(0.6),
    disco_seed_threshold=0.0,
    min_boundary_dist=Xyz(1, 1, 1),
    min_segment_size=1000,
)


# A network of random weights moves wherever it may.
SMALL_ARGS: dict[str, Any] = {'depth': 2, 'fov_size': [9] * 3, 'deltas': [2] * 3, 'features': 4}
SMALL_OPTIONS = dataclasses.replace(
    OPTIONS, move_threshold=-20, segment_threshold=-20, min_segment_size=10
)


def operations(depth: int, features: int, fov_size: list[int], **_: Any) -> int:
    """Floating-point operations of a step."""
    return (
        2 * math.prod(fov_size) * (27 * (2 * features + (2 * depth - 1) * features**2) + features)
    )


class Given:
    """A seed policy of stored points."""

    def __init__(self, points: np.ndarray):
        self.total, self.index, self._points = len(points), 0, points.tolist()

    def __next__(self) -> tuple[int, int, int]:
        if self.index == self.total:
            raise StopIteration
        self.index += 1
        z, y, x = self._points[self.index - 1]
        return z, y, x

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint would hold."""
        return {'points': None, 'index': self.index}

    def set_state(self, state: dict[str, Any]) -> None:
        """Benchmarks do not continue from checkpoints."""
        raise NotImplementedError


def prepare(data: Path, files: Path) -> None:
    """Writes the files that a run needs."""
    from types import SimpleNamespace

    from PIL import Image

    from ffn.inference.seeds.peaks import PolicyPeaks
    from ffn.utils.geometry import Zyx

    files.mkdir(parents=True, exist_ok=True)
    convert(str(data / CHECKPOINT), str(files / 'fib25.weights.h5'), NAME, json.dumps(ARGS))
    sections = sorted((data / 'fib25' / 'training_sample2' / 'grayscale_maps').glob('iso.*.png'))
    raw = np.stack([np.asarray(Image.open(path)) for path in sections])
    half = Zyx(*[FOV // 2] * 3)
    view = SimpleNamespace(
        image=normalized(raw),
        segmentation=np.zeros(raw.shape, np.int32),
        mask=None,
        seed_mask=None,
        margin_zyx=half,
        voxel_size_zyx=(1, 1, 1),
    )
    np.savez_compressed(files / 'sample.npz', raw=raw, seeds=list(PolicyPeaks(view)))


def normalized(raw: np.ndarray) -> np.ndarray:
    """The image as the network is shown it."""
    return (raw.astype(np.float32) - 128) / np.float32(33)


@dataclasses.dataclass
class Case:
    """A network in one precision, and what its steps are compared with.

    Attributes:
      model: the network.
      options: of the floods.
      rate: operations per second of matrices in this precision.
      operations: of a step.
      executors: name of the way → its executor.
      calls: name of the way → a function of the size of a batch that returns a call that makes such a batch.
    """

    model: FFNModel
    options: CanvasOptions
    rate: float
    operations: int
    executors: dict[str, Executor] = dataclasses.field(default_factory=dict)
    calls: dict[str, Callable[[int], Callable[[], object]]] = dataclasses.field(
        default_factory=dict
    )

    def add_ways(self, shape: tuple[int, ...], batch: int, slots: int, tf32: bool) -> None:
        """Compiles the network for both ways; shape: of the largest canvas."""
        predict = make_predictor(self.model, tf32=tf32)
        rng = np.random.default_rng(0)

        def on_host(size: int) -> Callable[[], object]:
            field = (size, *self.model.info.input_image_size.zyx, 1)
            images, seeds = (rng.normal(size=field).astype(np.float32) for _ in range(2))
            return lambda: predict(images, seeds)

        if precisions.backend() != 'tensorflow':
            from ffn.models.device_steps import WATCHED

            steps = make_steps(self.model, self.options, slots, tf32)
            executor = DeviceExecutor(predict, steps, batch)
            boxes = self.canvas(executor, np.zeros(shape, np.float32)).movement_policy.boxes

            def on_device(size: int) -> Callable[[], object]:
                noise = rng.normal(size=shape).astype(np.float32)
                rows = np.zeros((size, 4 + 3 * WATCHED), np.int32)
                rows[:, 0] = taken = [steps.open(noise, boxes) for _ in range(size)]
                for slot in taken:
                    steps.write(slot, noise)
                    steps.close(slot)  # others are measured afterwards
                return lambda: steps.run(rows)

            self.executors['device'], self.calls['device'] = executor, on_device
        self.executors['host'], self.calls['host'] = Executor(predict, batch), on_host
        # What floods call besides batches is compiled before they are timed.
        for way in self.executors:
            canvas = self.canvas(self.executors[way], np.zeros(shape, np.float32))
            canvas.init_seed([n // 2 for n in shape])
            canvas.update_at([n // 2 for n in shape])
            canvas.view.reaches_threshold((0, 0, 0))

    def canvas(self, executor: Executor, image: np.ndarray) -> Any:
        """An empty canvas."""
        counters = Counters()
        kind: Callable[..., Canvas] = (
            DeviceCanvas if isinstance(executor, DeviceExecutor) else Canvas
        )
        return kind(
            self.model.info,
            executor.client(counters),
            image,
            self.options,
            counters=counters,
            movement_policy=(POLICY, {}),
        )


def print_steps(case: Case, way: str, batch: int, at_least_s: float) -> None:
    """Times a batch of steps."""
    rate = batch / seconds_of(case.calls[way](batch), at_least_s)
    print(
        f'    batch {batch:3d}, {way:>6}: {rate:8.1f} steps/s, {1e3 / rate:8.3f} ms a step, '
        f'{rate * case.operations / case.rate:.1%} of the matrix rate',
        flush=True,
    )


def boxes_of(shape: tuple[int, ...], cuts: int, half: int) -> Iterator[tuple[slice, ...]]:
    """Cuts a volume into cuts³ boxes that overlap by a field of view."""
    for part in itertools.product(range(cuts), repeat=3):
        yield tuple(
            slice(max(i * n // cuts - half, 0), min((i + 1) * n // cuts + half, n))
            for i, n in zip(part, shape, strict=True)
        )


def print_flood(
    case: Case, way: str, raw: np.ndarray, seeds: np.ndarray, cuts: int, at_most_s: float
) -> None:
    """Segments a volume in cuts³ boxes at the same time, or as far as one gets."""
    half, executor, until = (
        case.model.info.input_image_size.z // 2,
        case.executors[way],
        time.perf_counter() + at_most_s,
    )
    canvases: list[Canvas] = []
    finished: list[Canvas] = []

    def observe(canvas: Canvas) -> None:
        if time.perf_counter() > until:
            raise Interrupted('enough')

    def one(canvas: Canvas, points: np.ndarray) -> None:
        fits = np.all((points >= half) & (points + half < canvas.shape), axis=1)
        with executor.active(), canvas.observed_by(observe), contextlib.suppress(Interrupted):
            canvas.segment_all(Given(points[fits]))
            finished.append(canvas)

    threads = []
    for box in boxes_of(raw.shape, cuts, half):
        canvas = case.canvas(executor, normalized(raw[box]))
        canvases.append(canvas)
        points = seeds - [part.start for part in box]
        threads.append(threading.Thread(target=one, args=(canvas, points)))
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    steps, network_s = (
        sum(canvas.counters[name] for canvas in canvases)
        for name in ('predict-calls', 'inference-time-ms')
    )
    host = 1 - network_s / 1e3 / seconds
    voxels = sum(
        canvas.segmentation.size for canvas in canvases
    )  # more than once where boxes overlap
    done = (
        f'{raw.size / seconds / 1e6:.3f} Mvx/s'
        if len(finished) == len(canvases)
        else 'not finished'
    )
    print(
        f'    {cuts**3:3d} boxes, {way:>6}: {seconds:6.1f} s, {done}, {steps} steps, '
        f'{seconds / max(steps, 1) * 1e3:.3f} ms a step, host {host:.1%}, '
        f'{steps / seconds * case.operations / case.rate:.1%} of the matrix rate; '
        f'{sum(len(canvas.origins) for canvas in canvases)} objects, '
        f'{sum(canvas.segmented_voxels() for canvas in canvases) / voxels:.1%} filled',
        flush=True,
    )


def measure_all(args: argparse.Namespace, raw: np.ndarray, seeds: np.ndarray) -> None:
    """Prints the figures, as long as there is time."""
    until = time.monotonic() + args.budget

    def each_way(case: Case, what: Callable, *others: Any) -> None:
        for way in args.ways:
            if way not in case.executors:
                continue
            if time.monotonic() < until:
                what(case, way, *others)
            else:
                print(f'    left out for want of time: {what.__name__} {way} {others[-2:]}')

    network = SMALL_ARGS if args.small else ARGS
    for kind in args.precisions:
        if time.monotonic() > until:
            print(f'{kind}: left out for want of time')
            continue
        rate = matmul_rate(kind, args.matrix, args.seconds)
        print(f'{kind}: matrices of {args.matrix}² multiply at {rate / 1e12:.2f} TFLOP/s')
        model = create_model(NAME, network, 'float32' if kind == 'tf32' else kind)
        if args.small:
            model.initialize(np.random.default_rng(0))
        else:
            keras_weights.load(model, args.files / 'fib25.weights.h5')
        options = SMALL_OPTIONS if args.small else OPTIONS
        case = Case(model, options, rate, operations(**network))
        many = max(args.batches)
        # One slot more for the canvas that is tried first.
        case.add_ways(raw.shape, args.together or many, max(many, args.cuts**3) + 1, kind == 'tf32')
        for batch in args.batches:
            each_way(case, print_steps, batch, args.seconds)
        if args.volume:
            for cuts in dict.fromkeys((1, args.cuts)):
                each_way(case, print_flood, raw, seeds, cuts, args.flood)


def small_sample() -> tuple[np.ndarray, np.ndarray]:
    """Noise, and seeds in it."""
    raw = np.random.default_rng(0).integers(0, 256, (30, 32, 34), np.uint8)
    return raw, np.mgrid[8:30:10, 8:32:10, 8:34:10].reshape(3, -1).T


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=Path, help='folder that --prepare wrote')
    parser.add_argument('--prepare', action='store_true', help='write the folder and stop')
    parser.add_argument('--data', type=Path, default=measure.ROOT.parent / 'shared' / 'data')
    parser.add_argument(
        '--precisions',
        nargs='+',
        default=['bfloat16', 'tf32', 'float32'],
        choices=['float32', 'tf32', 'bfloat16', 'float16'],
    )
    parser.add_argument('--ways', nargs='+', default=['device', 'host'], choices=['device', 'host'])
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument('--seconds', type=float, default=2.0, help='for every rate')
    parser.add_argument('--flood', type=float, default=25.0, help='seconds for a flood at most')
    parser.add_argument('--budget', type=float, default=400.0, help='seconds for everything')
    parser.add_argument('--matrix', type=int, default=8192, help='size of the matrices')
    parser.add_argument('--volume', type=int, default=250, help='voxels along each axis; 0: none')
    parser.add_argument('--cuts', type=int, default=3, help='many boxes: parts along each axis')
    parser.add_argument(
        '--together', type=int, default=0, help='steps of a batch of many boxes (0: as --batches)'
    )
    parser.add_argument('--small', action='store_true', help='another network and noise')
    args = parser.parse_args()
    if args.small:
        parser.set_defaults(batches=[1, 2], seconds=0.1, flood=1.5, matrix=256, cuts=2)
        args = parser.parse_args()
    elif not args.files:
        parser.error('--files or --small is required')
    if args.prepare:
        prepare(args.data, args.files)
        return
    raw, seeds = small_sample()
    if not args.small:
        with np.load(args.files / 'sample.npz') as sample:
            raw, seeds = sample['raw'][(slice(args.volume),) * 3], sample['seeds']
    gflop = operations(**(SMALL_ARGS if args.small else ARGS)) / 1e9
    print(f'{precisions.describe_device()}; {gflop:.1f} GFLOP a step; {POLICY}; {raw.shape}')
    measure_all(args, raw, seeds)


if __name__ == '__main__':
    measure.run_bench(main)
