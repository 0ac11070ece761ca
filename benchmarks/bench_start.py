"""Seconds around the network in a run over 250 x 250 x 250 voxels: starting, reading, seeds, writing.

    python -m benchmarks.bench_start --data FOLDER

Every repetition is a process of its own, which does what `ffn infer` does for training_sample2 with the published network,
but for the steps: the published segmentation is written instead of what they would have made. What the first step of
the network takes longer than the second belongs to it, too. Medians of wall time and of processor time, of all threads.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks import measure, real_segmentation

SIZE = (250, 250, 250)
T = TypeVar('T')


def timed(name: str, call: Callable[[], T]) -> T:
    """Calls a function, and prints name, wall time and processor time, seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    print(f'{name}\t{time.perf_counter() - wall}\t{time.process_time() - processor}', flush=True)
    return result


def run(request_path: str, published: str) -> None:
    """One run; prints how long its parts took."""
    begun = time.process_time()  # of which nobody knows the wall time
    print(f'interpreter and NumPy\t{begun}\t{begun}')
    timed('loading our modules', lambda: __import__('ffn.cli.infer'))
    timed('loading Keras and TensorFlow', lambda: __import__('tensorflow').keras.Model)
    from ffn.inference import storage
    from ffn.inference.network import load_network
    from ffn.inference.request import make_config, read_request
    from ffn.inference.runner import Runner
    from ffn.inference.seeds.peaks import PolicyPeaks
    from ffn.inference.serialization import serialize_request
    from ffn.utils.geometry import Box

    config = make_config(read_request(request_path))
    model = timed('network and its weights', lambda: load_network(config))
    runner = timed('what runs it', lambda: Runner(config, model))
    canvas = timed('reading the image', lambda: runner.open_canvas(Box.of_shape(SIZE)))
    canvas.init_seed((125, 125, 125))
    timed('PolicyPeaks', lambda: PolicyPeaks(canvas.view).points())
    times = []
    for _ in range(2):
        begin = time.perf_counter(), time.process_time()
        canvas.update_at((125, 125, 125))
        times.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    (wall, processor), (next_wall, next_processor) = times
    print(f'first step, beyond the second\t{wall - next_wall}\t{processor - next_processor}')
    with np.load(published) as data:
        labels = data['segmentation'].astype(np.int32)
    prob = np.random.default_rng(0).integers(200, 256, SIZE, np.uint8) * (labels > 0)
    origins = {i: storage.OriginInfo((0, 0, 0), 1, 1.0) for i in np.unique(labels)[1:].tolist()}
    folder, request = config.segmentation_output_dir, serialize_request(config)
    counts = canvas.counters.as_dict()
    timed(
        'writing the result',
        lambda: storage.save_result(folder, (0, 0, 0), labels, origins, request, counts, {}, prob),
    )
    timed('ending', runner.close)


def main() -> None:
    """Prints the figures."""
    args = measure.parser(__doc__).parse_args()
    parts: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        real_segmentation.write_image(args.data, folder / 'image.h5')
        published = Path(args.data, 'fib25', 'sample-training2.npz')
        text = (measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt').read_text()
        text = text.replace('data/training_sample2.h5', f'{folder}/image.h5')
        text = text.replace('models/fib25', f'{args.data}/fib25/model')
        for turn in range(args.repeats):
            request = folder / f'{turn}.pbtxt'
            request.write_text(text.replace('results/', f'{folder}/{turn}/'))
            script = f'from benchmarks import bench_start as b; b.run({str(request)!r}, {str(published)!r})'
            command = [sys.executable, '-c', script]
            done = subprocess.run(
                command, cwd=measure.ROOT, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr)
            rows = [line.split('\t') for line in done.stdout.splitlines() if line.count('\t') == 2]
            for name, wall, processor in rows:
                parts.setdefault(name, []).append((float(wall), float(processor)))
            sums = np.array([row[1:] for row in rows], float).sum(axis=0).tolist()
            parts.setdefault('all of it', []).append((sums[0], sums[1]))
    for name, times in parts.items():
        wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
        print(f'{wall:8.2f} s {processor:8.2f} s of processor time   {name}')


if __name__ == '__main__':
    measure.run_bench(main)
