"""The fast tests with the oldest and the newest releases that the project's bounds allow, on several Pythons.

    make compat [PYTHONS='3.11 3.13'] [VERSIONS=lowest] [TESTS='tests/inference tests/test_demo.py']

For each Python and each end of the bounds, uv chooses the releases, from requirements.txt and the extra [dev], and installs
them in build/compat/PYTHON-VERSIONS with the project. The lowest are those that have binary packages for that Python. Then
pytest runs; its output is in build/compat/PYTHON-VERSIONS.log. Printed is a row of the table in doc/compatibility.md for each.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure

SHOWN = ('tensorflow', 'keras', 'numpy', 'protobuf', 'h5py', 'tensorstore', 'scipy', 'jax', 'dask')
RESOLUTIONS = {'lowest': 'lowest-direct', 'newest': 'highest'}
SOURCE_ONLY = ('atomicwrites',)  # needed by neuroglancer, and never published as a binary package
OUTCOMES = ('passed', 'skipped', 'failed', 'error')


def uv(*arguments: object) -> None:
    """Calls uv; its messages go to this process's."""
    subprocess.run([sys.executable, '-m', 'uv', *map(str, arguments)], cwd=measure.ROOT, check=True)


def make_environment(folder: Path, python: str, versions: str) -> dict[str, str]:
    """Makes an environment with the project in it.

    Args:
      folder: of the environment; what is there is replaced.
      python: version or path of an interpreter.
      versions: a key of RESOLUTIONS.

    Returns:
      The release of each package, by its name.
    """
    uv('venv', '--quiet', '--clear', '--seed', '--python', python, folder)
    wanted, chosen = folder / 'requirements.in', folder / 'requirements.txt'
    project = tomllib.loads((measure.ROOT / 'pyproject.toml').read_text())['project']
    lines = [
        (measure.ROOT / 'requirements.txt').read_text(),
        *project['optional-dependencies']['dev'],
    ]
    wanted.write_text('\n'.join(lines))
    interpreter = folder / 'bin' / 'python'
    binary = ['--only-binary', ':all:']
    binary += [flag for name in SOURCE_ONLY for flag in ('--no-binary', name)]
    uv(
        *('pip', 'compile', '--quiet', '--no-header', '--no-annotate', wanted),
        *('--resolution', RESOLUTIONS[versions], *binary, '--python', interpreter),
        *('--output-file', chosen),
    )
    uv('pip', 'install', '--quiet', '--python', interpreter, '--requirements', chosen)
    uv('pip', 'install', '--quiet', '--python', interpreter, '--no-deps', '--editable', '.')
    return dict(re.findall(r'^([\w.-]+)==(\S+)', chosen.read_text(), re.M))


def run_tests(folder: Path, arguments: Sequence[str]) -> dict[str, int]:
    """Runs pytest in an environment.

    Args:
      folder: of the environment.
      arguments: of pytest, besides how many processes it uses.

    Returns:
      How many tests had each outcome.
    """
    log = folder.with_name(f'{folder.name}.log')
    command = [str(folder / 'bin' / 'python'), '-m', 'pytest', '-n', '2', '--dist', 'loadfile']
    with open(log, 'w') as stream:
        subprocess.run(
            [*command, *arguments], cwd=measure.ROOT, stdout=stream, stderr=stream, check=False
        )
    lines = log.read_text().splitlines()
    counts = re.findall(rf'(\d+) ({"|".join(OUTCOMES)})', lines[-1] if lines else '')
    return {outcome: int(number) for number, outcome in counts}


def row(cells: Sequence[object]) -> str:
    """A row of a table in Markdown."""
    return f'| {" | ".join(map(str, cells))} |'


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--pythons', nargs='+', default=['3.11', '3.12', '3.13'])
    parser.add_argument('--versions', nargs='+', default=[*RESOLUTIONS], choices=RESOLUTIONS)
    parser.add_argument('--folder', type=Path, default=measure.ROOT / 'build' / 'compat')
    parser.add_argument('tests', nargs='*', help='arguments of pytest, after --')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    args.folder.mkdir(parents=True, exist_ok=True)
    print(row(['Python', 'versions', *SHOWN, *OUTCOMES, 'date']))
    print(row(['---'] * (3 + len(SHOWN) + len(OUTCOMES))), flush=True)
    for python in args.pythons:
        for versions in args.versions:
            name = re.sub(r'[^\w.]+', '-', python).strip('-')
            folder = args.folder / f'{name}-{versions}'
            found = make_environment(folder, python, versions)
            counts = run_tests(folder, args.tests)
            cells = [found.get(name, '') for name in SHOWN]
            cells += [str(counts.get(outcome, 0)) for outcome in OUTCOMES]
            print(row([python, versions, *cells, datetime.date.today()]), flush=True)


if __name__ == '__main__':
    measure.run_bench(main)
