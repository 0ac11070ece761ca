"""Every stage killed at random and started again, until it ends: is the result that of a run left alone?

    python -m benchmarks.kills [--kills 20] [--stage NAME ...] [--signal TERM] [--seed 0]

Stages run on a small generated sample, each as a user calls it. A stage is first run undisturbed; then copies of it are
killed with SIGKILL, with all processes that they started, after a random part of that time, and started again
until they end by themselves, until there were as many kills as asked for. Compared is what the stage makes: voxels,
weights, records, scores; not times. `repeated` is the time of all attempts over that of undisturbed runs: 2 says that
half of the work was done again. `left` are temporary files that are still there at the end. With `--signal TERM`, only
the command itself is asked to stop, as batch systems and `kill` do, and has 30 seconds to save and to end with all that it
started; `longest` is the longest time that this took.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from benchmarks import measure
from ffn.synthetic import generate, write_sample

SHAPE_ZYX, BOX = (56, 64, 72), 'start { x:0 y:0 z:0 } size { x:72 y:64 z:56 }'
LONGEST = 30
CUT = '--subvolume_size 40,40,40 --overlap 12,12,12'
MODEL = '{"depth": 3, "features": 8, "fov_size": [11, 11, 7], "deltas": [3, 3, 2]}'
REQUEST = """
image { hdf5: "sample.h5:image" }
model_checkpoint_path: "model"
segmentation_output_dir: "results"
checkpoint_interval: 1
seed_policy: "PolicyPeaks"
inference_options { move_threshold: 0.8 segment_threshold: 0.5 min_segment_size: 50 }
"""
TRAIN = (
    'train --train_coords coordinates --data_volumes s:sample.h5:image --label_volumes s:sample.h5:labels '
    f"--model_name convstack_3d.ConvStack3DFFNModel --model_args '{MODEL}' --image_mean 128 --image_stddev 40 "
    '--optimizer adam --max_steps 150 --checkpoint_steps 20 --train_dir model'
)

Content = Mapping[str, Any]


class Stage(NamedTuple):
    """A stage.

    Attributes:
      command: of `ffn`, run in the folder of the stages before.
      read: what it has made there, by name.
    """

    command: str
    read: Callable[[Path], Content]


def of_hdf5(name: str, dataset: str) -> Callable[[Path], Content]:
    """Reads a dataset."""

    def read(folder: Path) -> Content:
        with h5py.File(folder / name, 'r') as file:
            return {dataset: file[dataset][:]}

    return read


def of_records(folder: Path) -> Content:
    """Reads the coordinates, unpacked."""
    return {
        'records': hashlib.sha256(
            gzip.decompress((folder / 'coordinates').read_bytes())
        ).hexdigest()
    }


def of_training(folder: Path) -> Content:
    """Reads the weights and the optimizer's state of the last checkpoint."""
    from ffn.models import checkpoints

    return checkpoints.read_variables(folder / 'model')


def of_results(folder: Path) -> Content:
    """Reads the labels of all subvolumes."""
    from ffn.utils.npz import read_npz

    paths = sorted((folder / 'results').rglob('seg-*.npz'))
    return {path.name: read_npz(path, ['segmentation'], [])['segmentation'] for path in paths}


def of_volume(spec: str) -> Callable[[Path], Content]:
    """Reads a volume."""

    def read(folder: Path) -> Content:
        from ffn.volumes.volume import open_volume

        with open_volume(spec.format(folder)) as volume:
            return {spec: volume.read(volume.box)}

    return read


def of_scores(folder: Path) -> Content:
    """Reads the scores of an evaluation."""
    return {'scores': json.loads((folder / 'scores.json').read_text())}


def of_selection(folder: Path) -> Content:
    """Reads the request that a selection has chosen."""
    return {'selected': (folder / 'selection' / 'selected.pbtxt').read_text()}


# In their order: each finds what those before have made.
STAGES = {
    'partitions': Stage(
        'partitions --input_volume sample.h5:labels --output_volume partitions.h5:af --lom_radius 8,6,5 '
        '--thresholds 0.1,0.3,0.5,0.7,0.9 --min_size 100',
        of_hdf5('partitions.h5', 'af'),
    ),
    'coordinates': Stage(
        'coordinates --partition_volumes s:partitions.h5:af --coordinate_output coordinates --margin 8,9,10 '
        '--seed 3',
        of_records,
    ),
    'train': Stage(TRAIN, of_training),
    'segment': Stage(
        f'segment --inference_request request.pbtxt {CUT} --output zarr3://whole', of_results
    ),
    'assemble': Stage(
        f"assemble --segmentation results --bounding_box '{BOX}' {CUT} --output precomputed://joined "
        '--voxel_size 8,8,8 --assembly_dir joining',
        of_volume('precomputed://{}/joined'),
    ),
    'export': Stage(
        'export --output view --image sample.h5:image --labels precomputed://joined --voxel_size 8,8,8',
        of_volume('precomputed://{}/view/labels'),
    ),
    'evaluate': Stage(
        'evaluate --segmentation precomputed://joined --groundtruth sample.h5:labels --json scores.json',
        of_scores,
    ),
    'select': Stage(
        f"select --inference_request request.pbtxt --bounding_box '{BOX}' --labels sample.h5:labels "
        '--output selection --max_steps 300 --vary inference_options.segment_threshold=0.4,0.6',
        of_selection,
    ),
}


def attempt(
    stage: Stage, folder: Path, stop_after: float | None, number: int = signal.SIGKILL
) -> float | None:
    """Runs a stage, and stops it with a signal after a time.

    Returns:
      None if it ended by itself; else the seconds from the signal until it had ended.

    Raises:
      SystemExit: it failed, or did not stop within 30 seconds, or left processes behind.
    """
    process = subprocess.Popen(
        [sys.executable, '-m', 'ffn', *shlex.split(stage.command), '--quiet'],
        cwd=folder,
        env={**os.environ, 'PYTHONPATH': str(measure.ROOT), 'TF_CPP_MIN_LOG_LEVEL': '3'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stopped = None
    try:
        errors = process.communicate(timeout=stop_after)[1]
    except subprocess.TimeoutExpired:
        begin = time.monotonic()
        errors = _stop(process, stage, number)
        stopped = time.monotonic() - begin
    stops = (0, 128 + number, -number) if stopped is not None else (0,)
    if process.returncode not in stops:
        raise SystemExit(f'error: {stage.command} failed ({process.returncode}):\n{errors}')
    return stopped


def _stop(process: subprocess.Popen[str], stage: Stage, number: int) -> str:
    """Sends a signal, SIGKILL to all processes and others to the first; returns what was printed."""
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
        return process.communicate()[1]
    process.send_signal(number)
    try:
        errors = process.communicate(timeout=LONGEST)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise SystemExit(f'error: {stage.command} runs {LONGEST} s after the signal') from None
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return errors
    raise SystemExit(f'error: {stage.command} left processes behind:\n{errors}')


def is_same(one: Content, other: Content) -> bool:
    """Whether two runs made the same."""
    return set(one) == set(other) and all(
        np.array_equal(value, other[name])
        if isinstance(value, np.ndarray)
        else value == other[name]
        for name, value in one.items()
    )


def measure_stage(name: str, base: Path, kills: int, rng: random.Random, number: int) -> str:
    """Stops a stage again and again; returns its row. `base` then holds what the undisturbed run made."""
    stage, before = STAGES[name], base.with_name('before')
    shutil.copytree(base, before)
    begin = time.monotonic()
    attempt(stage, base, None)
    alone = time.monotonic() - begin
    expected = stage.read(base)
    killed = runs = differ = left = 0
    seconds = longest = 0.0
    while killed < kills:
        folder = base.with_name(f'{name}-{runs}')
        shutil.copytree(before, folder)
        begin, done = time.monotonic(), False
        while not done:
            # The last ones run to their end.
            stop_after = rng.uniform(0.05, 1.1) * alone if killed < kills else None
            stopped = attempt(stage, folder, stop_after, number)
            done = stopped is None
            killed += not done
            longest = max(longest, stopped or 0)
        seconds += time.monotonic() - begin
        runs += 1
        differ += not is_same(stage.read(folder), expected)
        left += sum(path.name.endswith('.tmp') for path in folder.rglob('*'))
        shutil.rmtree(folder)
    shutil.rmtree(before)
    return (
        f'{name:12} {killed:6d} {runs:6d} {runs - differ:6d} {differ:7d} {seconds / (alone * runs):9.2f} '
        f'{left:5d} {alone:8.1f} s {longest:8.1f} s'
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20, help='of each stage, at least')
    parser.add_argument('--stage', action='append', choices=STAGES, help='only this; repeatable')
    parser.add_argument('--signal', default='KILL', choices=['KILL', 'TERM'])
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    rng, number = random.Random(args.seed), signal.Signals[f'SIG{args.signal}']
    print('stage         kills   runs  equal  differ  repeated  left      alone    longest')
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary, 'base')
        base.mkdir()
        (base / 'request.pbtxt').write_text(REQUEST)
        write_sample(generate(SHAPE_ZYX, seed=1), str(base / 'sample.h5'))
        for name, stage in STAGES.items():
            if args.stage and name not in args.stage:
                attempt(stage, base, None)
            else:
                print(measure_stage(name, base, args.kills, rng, number), flush=True)


if __name__ == '__main__':
    measure.run_bench(main)
