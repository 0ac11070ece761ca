"""How fast a device runs the published network: steps, batches, and a whole volume.

Needs the repository, NumPy, SciPy, Keras and JAX or PyTorch (or TensorFlow), nothing else, so that it
runs on a bare machine with a GPU. Where everything is installed, prepare what it needs:

    python -m benchmarks.device --prepare --data FOLDER --files device_files

writes the weights as fib25.weights.h5, and training_sample2 with its PolicyPeaks seeds as
sample.npz. Carry the folder along, and there:

    KERAS_BACKEND=jax python -m benchmarks.device --files device_files

Steps are timed as inference makes them, from NumPy arrays to NumPy arrays: depth 12, field of view
33, 32 features. The share is that of the rate at which the device multiplies square matrices in the
same precision, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.bench_network_step import CHECKPOINT, DEPTH, FOV
from ffn.inference.core.canvas import Canvas
from ffn.inference.core.counters import Counters
from ffn.inference.core.options import CanvasOptions
from ffn.inference.executor import Executor, Predict
from ffn.models import keras_weights
from ffn.models import precision as precisions
from ffn.models.model import FFNModel, create_model
from ffn.models.predictor import make_predictor
from ffn.models.weights import convert
from ffn.utils.geometry import Xyz
from ffn.utils.logits import logit

NAME = 'convstack_3d.ConvStack3DFFNModel'
ARGS = {'depth': DEPTH, 'fov_size': [FOV] * 3, 'deltas': [8] * 3}
OPERATIONS = 2 * FOV**3 * (27 * (2 * 32 + (2 * DEPTH - 1) * 32 * 32) + 32)
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


def seconds_of(call: Callable[[], object], at_least_s: float) -> float:
    """Median time of a call that returns when it is done; the first, which compiles, is left out."""
    call()
    times: list[float] = []
    end = time.perf_counter() + at_least_s
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def matmul_rate(kind: str, size: int, at_least_s: float) -> float:
    """Operations per second of multiplying square matrices on the active backend."""
    dtype = 'float32' if kind == 'tf32' else kind
    # Several in a row, so that starting them does not count.
    repeats = 8
    name = precisions.backend()
    if name == 'jax':
        import jax

        a = jax.random.normal(jax.random.PRNGKey(0), (size, size)).astype(dtype)

        @jax.jit
        def multiply(a: Any) -> Any:
            with jax.default_matmul_precision('tensorfloat32' if kind == 'tf32' else 'float32'):
                return jax.lax.fori_loop(0, repeats, lambda i, b: a @ b / size, a)

        seconds = seconds_of(lambda: multiply(a).block_until_ready(), at_least_s)
    elif name == 'torch':
        import torch

        on_gpu = torch.cuda.is_available()
        torch.backends.cuda.matmul.allow_tf32 = kind == 'tf32'
        a = torch.randn(size, size, device='cuda' if on_gpu else 'cpu').to(getattr(torch, dtype))

        def multiply() -> None:
            b = a
            for _ in range(repeats):
                b = torch.matmul(a, b)
            if on_gpu:
                torch.cuda.synchronize()

        with torch.inference_mode():
            seconds = seconds_of(multiply, at_least_s)
    else:
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(kind == 'tf32')
        a = tf.cast(tf.random.normal((size, size)), dtype)

        @tf.function
        def multiply() -> Any:
            b = a
            for _ in range(repeats):
                b = tf.linalg.matmul(a, b)
            return b[0, 0]

        seconds = seconds_of(lambda: multiply().numpy(), at_least_s)
    return repeats * 2 * size**3 / seconds


def step_rate(predict: Predict, batch: int, at_least_s: float) -> float:
    """Fields of view per second."""
    rng = np.random.default_rng(0)
    shape = (batch, FOV, FOV, FOV, 1)
    images, seeds = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    return batch / seconds_of(lambda: predict(images, seeds), at_least_s)


def segment(model: FFNModel, predict: Predict, raw: np.ndarray, seeds: np.ndarray) -> None:
    """Segments a volume with one canvas and prints how long that took."""
    counters = Counters()
    executor = Executor(predict)
    canvas = Canvas(
        model.info, executor.client(counters), normalized(raw), OPTIONS, counters=counters
    )
    half = FOV // 2
    fits = np.all((seeds >= half) & (seeds + half < raw.shape), axis=1)
    begin = time.perf_counter()
    canvas.segment_all(Given(seeds[fits]))
    seconds = time.perf_counter() - begin
    steps = counters['predict-calls']
    print(
        f'    volume {raw.shape}: {seconds:8.1f} s, {steps} steps, {seconds / max(steps, 1) * 1e3:.3f} ms '
        f'each, of which the network {counters["inference-time-ms"] / max(steps, 1):.3f} ms; '
        f'{len(canvas.origins)} objects, {canvas.segmented_voxels() / raw.size:.1%} filled',
        flush=True,
    )


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--files', type=Path, required=True, help='folder that --prepare wrote')
    parser.add_argument('--prepare', action='store_true', help='write the folder and stop')
    parser.add_argument('--data', type=Path, default=measure.ROOT.parent / 'shared' / 'data')
    parser.add_argument(
        '--precisions',
        nargs='+',
        default=['float32', 'tf32', 'bfloat16'],
        choices=['float32', 'tf32', 'bfloat16', 'float16'],
    )
    parser.add_argument('--batches', nargs='+', type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument('--seconds', type=float, default=3.0, help='for every figure')
    parser.add_argument('--matrix', type=int, default=8192, help='size of the matrices')
    parser.add_argument('--volume', type=int, default=250, help='voxels along each axis; 0: none')
    args = parser.parse_args()
    if args.prepare:
        prepare(args.data, args.files)
        return
    print(f'{precisions.describe_device()}; {OPERATIONS / 1e9:.1f} GFLOP a step')
    with np.load(args.files / 'sample.npz') as sample:
        raw, seeds = sample['raw'][(slice(args.volume),) * 3], sample['seeds']
    for kind in args.precisions:
        rate = matmul_rate(kind, args.matrix, args.seconds)
        print(f'{kind}: matrices of {args.matrix}² multiply at {rate / 1e12:.2f} TFLOP/s')
        model = create_model(NAME, ARGS, 'float32' if kind == 'tf32' else kind)
        keras_weights.load(model, args.files / 'fib25.weights.h5')
        predict = make_predictor(model, tf32=kind == 'tf32')
        for batch in args.batches:
            steps = step_rate(predict, batch, args.seconds)
            print(
                f'    batch {batch:3d}: {steps:8.1f} steps/s, {1e3 / steps:8.3f} ms a step, '
                f'{steps * OPERATIONS / rate:.1%} of the matrix rate',
                flush=True,
            )
        if args.volume:
            segment(model, predict, raw, seeds)


if __name__ == '__main__':
    main()
