"""Memory, threads and open files of a process that segments small boxes, or trains, for a long time.

    python -m benchmarks.soak [--minutes 60]

Half of the time one process segments boxes of 40×40×36 voxels, one after the other, each with a canvas of its own and a
result on disk; half of the time it trains, with summaries and checkpoints. Printed are resident memory, threads and
file descriptors at each quarter, and how far it had come. The first quarter holds what is loaded and compiled; a leak
shows as growth between the others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from benchmarks import measure
from benchmarks.kills import MODEL, REQUEST, SHAPE_ZYX, STAGES, attempt
from ffn.synthetic import generate, write_sample

QUARTERS = 4
CORNERS = [(z, y, x) for z in (0, 20) for y in (0, 24) for x in (0, 32)]


def watch(what: str, seconds: float, stop: threading.Event, done: Callable[[], str]) -> None:
    """Prints the state of this process at each quarter of a time, and then sets `stop`."""
    process = psutil.Process()
    for quarter in range(1, QUARTERS + 1):
        stop.wait(seconds / QUARTERS)
        memory, threads = process.memory_info().rss / 2**20, process.num_threads()
        print(
            f'{what:10} {quarter}/{QUARTERS} {memory:8.0f} MiB {threads:5d} threads {process.num_fds():5d} files  '
            f'{done()}',
            flush=True,
        )
    stop.set()


def infer(folder: Path, seconds: float) -> None:
    """Segments boxes until the time is over."""
    from ffn.inference.request import read_config
    from ffn.inference.runner import Runner

    stop, boxes = threading.Event(), 0
    watcher = threading.Thread(
        target=watch, args=('inference', seconds, stop, lambda: f'{boxes} boxes')
    )
    with Runner(read_config(str(folder / 'request.pbtxt'))) as runner:
        watcher.start()
        while not stop.is_set():
            runner.run(CORNERS[boxes % len(CORNERS)], (36, 40, 40))
            boxes += 1
            if boxes % len(CORNERS) == 0:
                shutil.rmtree(folder / 'results')
    watcher.join()


def train(folder: Path, seconds: float) -> None:
    """Trains until the time is over."""
    from ffn.models import checkpoints
    from ffn.training.config import CheckpointConfig, DataConfig, TrainConfig, WalkConfig
    from ffn.training.optimizer_config import OptimizerConfig
    from ffn.training.train_loop import train
    from ffn.utils.texts import parse_json

    def done() -> str:
        latest = checkpoints.latest_checkpoint(folder / 'soaked')
        return f'step {latest.rpartition("-")[2]}' if latest else ''

    data = DataConfig(
        train_coords=str(folder / 'coordinates'),
        data_volumes={'s': f'{folder}/sample.h5:image'},
        label_volumes={'s': f'{folder}/sample.h5:labels'},
        image_mean=128,
        image_stddev=40,
    )
    config = TrainConfig(
        data=data,
        walk=WalkConfig(),
        optimizer=OptimizerConfig(),
        model_name='convstack_3d.ConvStack3DFFNModel',
        model_args=parse_json(MODEL, 'model_args'),
        train_dir=str(folder / 'soaked'),
        max_steps=10**9,
        summary_seconds=5,
        checkpoints=CheckpointConfig(minutes=0.25),
        quiet=True,
    )
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=('training', seconds, stop, done))
    watcher.start()
    train(config, stop)
    watcher.join()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--minutes', type=float, default=60, help='of both together')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_sample(generate(SHAPE_ZYX, seed=1), str(folder / 'sample.h5'))
        (folder / 'request.pbtxt').write_text(REQUEST)
        os.chdir(folder)
        for name in ('partitions', 'coordinates', 'train'):
            attempt(STAGES[name], folder, None)
        for soak in (infer, train):
            soak(folder, args.minutes * 30)


if __name__ == '__main__':
    measure.run_bench(main)
