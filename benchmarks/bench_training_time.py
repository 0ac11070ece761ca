"""Where the time of a training goes, in turns with oneDNN off, with another checkout, or with other flags.

    python -m benchmarks.bench_training_time --data FOLDER [--case demo] [--against FOLDER | --flag=--precision=bfloat16]

The trainings are that of `make demo`, that of configs/train_fib25_small.flags, and depth 12 with the flags' defaults; the
latter two on training_sample2. All make the real steps: input, walks, network, scores. Both sides of a comparison begin
with the same weights and see the same examples, so that their losses must agree.

Times are processor time of all threads, which work of others on the machine changes less than wall time; the time of a part
includes what other threads do meanwhile. Those of TensorFlow's operations are shares of their wall time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks import measure, real_segmentation
from ffn.demo import stages
from ffn.synthetic import generate, write_sample

WORKER = Path(__file__).with_name('train_in_turns.py')
STACK = f'--model_name={stages.MODEL}'
CASES = {
    'demo': [
        STACK,
        f'--model_args={stages.MODEL_ARGS}',
        f'--image_mean={stages.IMAGE_MEAN}',
        f'--image_stddev={stages.IMAGE_STDDEV}',
        '--permutable_axes=0,1,2',
        '--fov_policy=max_pred_moves',
        '--optimizer=adam',
        '--learning_rate=0.002',
        '--batch_size=12',
    ],
    'small': [f'--flagfile={measure.ROOT}/configs/train_fib25_small.flags'],
    'deep': [
        STACK,
        '--model_args={"depth": 12, "fov_size": [33, 33, 33], "deltas": [8, 8, 8]}',
        '--image_mean=128',
        '--image_stddev=33',
    ],
}
STEPS = {'demo': 10, 'small': 4, 'deep': 2}
WARM_UP = 2
OFF = 'oneDNN off'
ONEDNN = 'TF_ENABLE_ONEDNN_OPTS'
Turn = dict[str, Any]


def write_data(case: str, data: Path, folder: Path) -> list[str]:
    """Writes image, labels and training locations, and returns the flags that name them."""
    volume = folder / 'volume.h5'
    if case == 'demo':
        write_sample(generate((128, 128, 128), 1), str(volume))
    else:
        real_segmentation.write_image(data, volume)
        with h5py.File(volume, 'a') as file:
            file['labels'] = measure.sample_labels(data)
            file.move('raw', 'image')
    with h5py.File(volume, 'r') as file:
        labels = file['labels'][:]
    write_locations(folder / 'coordinates', labels, 13 if case == 'demo' else 45)
    return [
        f'--train_coords={folder}/coordinates',
        f'--data_volumes=v:{volume}:image',
        f'--label_volumes=v:{volume}:labels',
    ]


def write_locations(path: Path, labels: np.ndarray, margin: int) -> None:
    """Writes locations in objects, evenly distributed: TFRecord."""
    import tensorflow as tf

    inner = labels[(slice(margin, -margin),) * 3]
    zyx = np.argwhere(inner > 0) + margin
    centers = np.random.default_rng(0).permutation(zyx)[:5000, ::-1].tolist()
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for center in centers:
            made = tf.train.Example()
            made.features.feature['center'].int64_list.value.extend(center)
            made.features.feature['label_volume_name'].bytes_list.value.append(b'v')
            writer.write(made.SerializeToString())


class Training:
    """A training in a process of its own, which makes steps when it is told to."""

    def __init__(self, root: Path, flags: Sequence[str], folder: Path, settings: dict[str, str]):
        self._log = folder / 'log'
        # ffn has set it here; another checkout may not.
        inherited = {k: v for k, v in os.environ.items() if k != ONEDNN}
        folder.mkdir()
        with self._log.open('w') as log:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), *flags, f'--train_dir={folder}/model'],
                env=inherited | {'PYTHONPATH': str(root.absolute())} | settings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._read()

    def _read(self) -> Turn:
        line = self._process.stdout.readline() if self._process.stdout else ''
        if not line:
            sys.exit(f'error: the training has ended: {self._log.read_text()[-2000:]}')
        turn: Turn = json.loads(line)
        return turn

    def steps(self, count: int, profile: bool = False) -> Turn:
        """Makes steps."""
        if self._process.stdin:
            self._process.stdin.write(f'{"profile " * profile}{count}\n')
            self._process.stdin.flush()
        return self._read()

    def finish(self) -> Turn:
        """Makes the last step, with a summary and a checkpoint."""
        if self._process.stdin:
            self._process.stdin.close()
        turn = self._read()
        self._process.wait()
        return turn


def compare(case: str, roots: dict[str, Path], turns: int, folder: Path, data: list[str]) -> None:
    """Runs a training in several ways, in turns, and prints what they took; a way that is a flag is trained with it."""
    count = STEPS[case]
    flags = [
        *CASES[case],
        *data,
        '--seed=1',
        '--summary_rate_secs=1e9',
        '--checkpoint_minutes=0',
        '--quiet',
    ]
    flags.append(f'--max_steps={WARM_UP + turns * count + count + 1}')
    ways = {
        name: Training(
            root,
            [*flags, name] if name.startswith('--') else flags,
            folder / f'{case}_{number}',
            {ONEDNN: '0'} if name == OFF else {},
        )
        for number, (name, root) in enumerate(roots.items())
    }
    for way in ways.values():
        way.steps(WARM_UP)
    measured: dict[str, list[Turn]] = {name: [] for name in ways}
    for turn in range(turns):
        for name in list(ways)[:: 1 if turn % 2 else -1]:
            measured[name].append(ways[name].steps(count))
    print(f'\n{case}: {turns} turns of {count} steps', flush=True)
    for name, way in ways.items():
        show(name, measured[name], count, way.steps(count, profile=True), way.finish())
    first, *others = measured
    for name in others:
        for kind in ('cpu', 'wall'):
            ratios = [
                a[kind] / b[kind] for a, b in zip(measured[name], measured[first], strict=True)
            ]
            print(
                f'{name} / {first}, {kind}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})'
            )


def show(name: str, turns: Sequence[Turn], count: int, profiled: Turn, last: Turn) -> None:
    """Prints the processor time of a step and of its parts, the loss, and the shares of operations."""

    def median(values: Iterable[float]) -> float:
        return statistics.median(values) / count * 1e3

    total = median(turn['cpu'] for turn in turns)
    print(f'{name}: {total:.1f} ms of processor time a step')
    for part in turns[0]['parts']:
        own = median(turn['parts'][part][0] for turn in turns)
        print(f'  {part:40s} {own:9.2f} ms {own / total:7.1%}')
    seconds = profiled['operations']
    for group, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f'  {group:40s} {"of operations":>12s} {value / sum(seconds.values()):7.1%}')
    for part in ('summary', 'checkpoint'):
        print(f'  a {part:38s} {last["parts"][part][0] * 1e3:9.2f} ms')
    print('  loss by turn:', *(f'{statistics.mean(turn["losses"]):.4f}' for turn in turns))


def main() -> None:
    """Prints the figures."""
    parser = measure.parser(__doc__)
    parser.add_argument('--case', action='append', choices=CASES, help='default: all')
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        '--against', type=Path, help='another checkout (default: this one with oneDNN off)'
    )
    other.add_argument('--flag', help='a flag of training that the other way has as well')
    args = parser.parse_args()
    roots = {'this': measure.ROOT}
    if args.against:
        measure.check_checkout(parser, args.against)
        roots[str(args.against)] = args.against
    else:
        roots[args.flag or OFF] = measure.ROOT
    for case in args.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            data = write_data(case, args.data, Path(folder))
            compare(case, roots, args.repeats, Path(folder), data)


if __name__ == '__main__':
    measure.run_bench(main)
