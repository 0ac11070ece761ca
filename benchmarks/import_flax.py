"""`ffn import-weights` against the network that the weights were made with: what both compute, on all backends.

    python -m benchmarks.import_flax --oracle ENVIRONMENT/bin/python [--backend torch=ENVIRONMENT/bin/python]

The oracle's environment is made with `pip install connectomics==20250606 jax flax orbax-checkpoint`; it makes random
weights and stores what its network computes (benchmarks/flax_oracle.py). They are imported here by the command, and
loaded as `ffn infer` loads them, in a process for each backend. Prints a table of largest differences; the exit status
is 1 if one is above 1e-4.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.measure import ROOT
from ffn.cli import import_weights

LIMIT = 1e-4
VERSIONS = 'from importlib.metadata import version; import sys; print(*map(version, sys.argv[1:]))'


def predict(folder: Path) -> None:
    """Writes what the imported networks of a folder compute on the backend of this process."""
    from ffn.models.predictor import load_model, make_predictor
    from ffn.models.trained_settings import read_trained_settings

    backend = os.environ['KERAS_BACKEND']
    for case in sorted(folder.glob('case-*.npz')):
        weights = str(case.with_suffix('.weights.h5'))
        trained = read_trained_settings(weights)
        if trained is None or trained.model_name is None or trained.model_args is None:
            raise SystemExit(f'no settings beside {weights}')
        model = load_model(trained.model_name, json.loads(trained.model_args), weights)
        with np.load(case) as stored:
            logits = make_predictor(model)(stored['image'], stored['seed'])
            expected = stored['seed'].copy()
            expected[:, *model.info.predicted] += stored['update']
        np.save(folder / f'{case.stem}.{backend}.npy', np.abs(logits - expected).max())


def run(python: str | Path, *arguments: str, **variables: str) -> str:
    """Runs a Python; returns what it printed, or ends with what it complained about."""
    environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'PYTHONPATH': str(ROOT), **variables}
    done = subprocess.run(
        [str(python), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    if done.returncode:
        sys.exit(f'{" ".join(arguments)}: {done.stderr}')
    return done.stdout


def import_case(case: Path, name: str) -> None:
    """Imports a checkpoint as a user does."""
    with np.load(case) as stored:
        sizes = json.loads(stored['sizes'].item())
    flags = [
        *(
            '--checkpoint',
            str(case.with_suffix('')),
            '--output',
            f'{case.with_suffix("")}.weights.h5',
        ),
        *('--deltas', '1,1,1', '--fov_size', ','.join(map(str, sizes['fov_size']))),
        *('--padding', sizes['padding'], '--image_mean', '128', '--image_stddev', '33'),
        *(('--params', 'ema_params') if '--params' in name else ()),
    ]
    with contextlib.redirect_stdout(sys.stderr):
        import_weights.main(flags)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--oracle', help='Python with connectomics, flax and orbax-checkpoint')
    parser.add_argument(
        '--backend',
        action='append',
        default=[],
        help='BACKEND=PYTHON, where it is not the one that runs this',
    )
    parser.add_argument('--predict', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.predict:
        predict(args.predict)
        return 0
    if not args.oracle:
        parser.error('--oracle is required')
    backends = dict.fromkeys(('tensorflow', 'jax'), sys.executable)
    backends |= dict(given.split('=', 1) for given in args.backend)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = json.loads(
            run(args.oracle, 'benchmarks/flax_oracle.py', temporary).splitlines()[-1]
        )
        for number, name in enumerate(names):
            import_case(folder / f'case-{number}.npz', name)
        for backend, python in backends.items():
            module = ('-m', 'benchmarks.import_flax', '--predict', temporary)
            run(python, *module, KERAS_BACKEND=backend)
        return report(folder, names, list(backends), args.oracle)


def report(folder: Path, names: list[str], backends: list[str], oracle: str) -> int:
    """Prints the table; returns 1 if a difference is too large."""
    packages = ('connectomics', 'jax', 'flax', 'orbax-checkpoint')
    found = run(oracle, '-c', VERSIONS, *packages).split()
    print(', '.join(map(' '.join, zip(packages, found, strict=True))), end='\n\n')
    print(f'| network, checkpoint | largest update | {" | ".join(backends)} |')
    print('|---|' + '---:|' * (len(backends) + 1))
    worst = 0.0
    for number, name in enumerate(names):
        with np.load(folder / f'case-{number}.npz') as stored:
            largest = np.abs(stored['update']).max()
        off = [float(np.load(folder / f'case-{number}.{one}.npy')) for one in backends]
        worst = max(worst, *off)
        shown = ' | '.join(re.sub('e-0', 'e-', f'{value:.0e}') for value in off)
        print(f'| {name} | {largest:.1f} | {shown} |')
    return int(worst > LIMIT)


if __name__ == '__main__':
    sys.exit(main())
