"""What the benches share: the sample volume, commands timed with their peak memory, medians."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np

from ffn.utils.errors import UserError, exit_status

ROOT = Path(__file__).resolve().parents[1]
README_THRESHOLDS = (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with --data and --repeats."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        '--data',
        type=Path,
        default=os.environ.get('FFN_TEST_DATA') or ROOT.parent / 'shared' / 'data',
        help='folder that holds fib25/ (default: $FFN_TEST_DATA)',
    )
    made.add_argument('--repeats', type=int, default=5, help='runs of which the median is printed')
    return made


def sample_labels(data: Path) -> np.ndarray:
    """Body ids of training_sample2, int64 [z, y, x]."""
    supervoxels, transforms = read_truth(data)
    bodies = np.zeros(transforms[:, 0].max() + 1, np.int64)
    bodies[transforms[:, 0]] = transforms[:, 1]
    return bodies[supervoxels]


def read_truth(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Supervoxels of training_sample2, [z, y, x], and the body of each, [n, 2]."""
    path = data / 'fib25' / 'training_sample2' / 'groundtruth.h5.gz'
    if not path.exists():
        sys.exit(f'error: no {path}; give --data or FFN_TEST_DATA')
    with gzip.open(path) as packed, h5py.File(io.BytesIO(packed.read()), 'r') as file:
        return file['stack'][:], file['transforms'][:]


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Writes labels as the import tools do: chunked, gzip."""
    with h5py.File(path, 'w') as file:
        file.create_dataset(
            'stack', data=labels, chunks=(64, 64, 64), compression='gzip', compression_opts=1
        )


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median wall time of a function."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def command(arguments: Sequence[str | Path], repeats: int) -> tuple[float, float]:
    """Runs a Python script of the project.

    Returns:
      Median wall time in seconds, and the greatest peak memory in MB (10^6 bytes).
    """
    times, peak = [], 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None:
            # Read off the process itself: ru_maxrss of a child counts the parent it came from.
            status = Path(f'/proc/{process.pid}/status').read_text()
            found = re.findall(r'VmHWM:\s*(\d+) kB', status)
            peak = max([peak, *(int(kilobytes) * 1.024e-3 for kilobytes in found)])
            time.sleep(0.02)
        times.append(time.perf_counter() - start)
        if process.returncode:
            sys.exit(process.stderr.read() if process.stderr else 1)
    return statistics.median(times), peak


def thresholds_flag() -> str:
    """--thresholds of the README."""
    return '--thresholds=' + ','.join(map(str, README_THRESHOLDS))


@contextlib.contextmanager
def work_folder(kept: Path | None) -> Iterator[Path]:
    """The folder that keeps what a benchmark makes, or a temporary one."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def run_bench(main: Callable[[], object]) -> NoReturn:
    """Runs a benchmark and exits: a mistake, or a command that has failed, is told in one line, as `ffn` does."""

    def call() -> None:
        try:
            main()
        except subprocess.CalledProcessError as error:
            command = shlex.join(map(str, error.cmd))
            told = (error.stderr or '').strip().splitlines()[-1:]
            raise UserError(
                ': '.join([f'{command} ended with status {error.returncode}', *told])
            ) from error

    sys.exit(exit_status(call))


def check_checkout(parser: argparse.ArgumentParser, folder: Path) -> None:
    """Refuses a folder that is no checkout: Python would take the installed ffn in its place."""
    if not (folder / 'ffn' / '__init__.py').is_file():
        parser.error(f'{folder} is no checkout: there is no ffn/__init__.py')


def run_with_network(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace, Path], None]
) -> None:
    """Runs a benchmark of several stages: adds --work and --quiet, and keeps TensorFlow's messages of its start away.

    Args:
      parser: with the other flags.
      run: gets the flags and the folder of --work, or a temporary one.
    """
    # Here, since other benchmarks measure what loading takes.
    from ffn.models import precision
    from ffn.utils.startup import startup_messages_hidden

    parser.add_argument('--work', type=Path, help='folder that keeps what is made')
    parser.add_argument('--quiet', action='store_true', help='no progress bars')
    args = parser.parse_args()
    with startup_messages_hidden():
        precision.gpu_capability()
    with work_folder(args.work) as folder:
        run(args, folder)
