"""Runs cases in a process of their own, which a hang or a crash does not take the others with it."""

from __future__ import annotations

import collections
import contextlib
import importlib
import logging
import os
import resource
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tests import loaded
from tests.fuzz.case import DEFECTS, Loader, Outcome, digest

MODULES = (
    'results',
    'volumes',
    'images',
    'texts',
    'edits',
    'runs',
    'views',
    'exports',
    'fits',
    'networks',
    'flax',
)
LIMIT_S, LIMIT_BYTES = 20.0, 2 * 2**30
_START_S = 120


@dataclass(frozen=True)
class Task:
    """Cases of a loader.

    Attributes:
      module: of this package, with the loader.
      index: of the loader in it.
      seed: of all cases.
      cases: their numbers.
    """

    module: str
    index: int
    seed: int
    cases: range


@dataclass
class Counts:
    """What became of the cases of a loader.

    Attributes:
      outcomes: of each kind.
      defects: what was wrong → the first case in which it was.
    """

    outcomes: collections.Counter[Outcome] = field(default_factory=collections.Counter)
    defects: dict[str, int] = field(default_factory=dict)


def find_loaders(module: str) -> tuple[Loader, ...]:
    """The loaders of a module of this package."""
    found: tuple[Loader, ...] = importlib.import_module(f'tests.fuzz.{module}').LOADERS
    return found


def run_case(loader: Loader, sample: Path, seed: int, case: int) -> tuple[Outcome, str]:
    """Mutates a copy of a sample, reads it and judges what comes of it.

    Args:
      loader: what reads it.
      sample: of `make_sample`.
      seed: of all cases.
      case: number of this one.
    """
    rng = np.random.default_rng([seed, case])
    with tempfile.TemporaryDirectory(prefix='case-', dir=sample.parent) as name:
        folder = Path(name, 'mutated-sample')
        shutil.copytree(sample, folder, copy_function=shutil.copyfile)
        damaged = loader.mutate(folder, rng)
        expected = sample.with_name('digest').read_text()
        return loader.judge(folder, expected, damaged)


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A folder for samples, in memory where there is such a file system."""
    shared = Path('/dev/shm')
    with tempfile.TemporaryDirectory(
        prefix='fuzz-', dir=shared if shared.is_dir() else None, ignore_cleanup_errors=True
    ) as name:
        yield name


@contextlib.contextmanager
def make_sample(loader: Loader, place: str) -> Iterator[Path]:
    """A folder with a valid sample; the digest of its value is in the file `digest` beside it.

    Args:
      loader: of the sample.
      place: see `scratch`.
    """
    with tempfile.TemporaryDirectory(dir=place) as name:
        sample = Path(name, 'mutated-sample')
        sample.mkdir()
        loader.write(sample)
        Path(name, 'digest').write_text(digest(loader.read(sample)))
        yield sample


def _work(tasks: Sequence[Task], place: str, results: Connection) -> None:
    """Runs tasks; sends None (or why not) before the first case of a loader, and what became of each case."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL='3', KERAS_BACKEND='tensorflow')
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)
    # What libraries written in C print.
    with open(os.devnull, 'w') as nothing:
        os.dup2(nothing.fileno(), 2)
    for task in tasks:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        loader = find_loaders(task.module)[task.index]
        with contextlib.ExitStack() as stack:
            try:
                sample = stack.enter_context(make_sample(loader, place))
                loader.read(sample)
            except Exception:  # noqa: BLE001 - told where it is seen
                results.send(traceback.format_exc())
                return
            mapped = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + LIMIT_BYTES, resource.RLIM_INFINITY))
            results.send(None)
            for case in task.cases:
                results.send(run_case(loader, sample, task.seed, case))


def run_tasks(tasks: Sequence[Task]) -> list[Counts]:
    """Runs the cases of loaders, each within its limits; returns what became of those of each task."""
    found = [Counts() for _ in tasks]
    left = list(tasks)
    while left:
        with scratch() as place:
            _run_process(left, place, found)
    return found


def _run_process(left: list[Task], place: str, found: Sequence[Counts]) -> None:
    """Runs tasks in a process, until all are done or it hangs or crashes."""
    context = loaded.context()
    receive, send = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(left, place, send))
    worker.start()
    send.close()
    try:
        _follow(receive, left, found)
    except (EOFError, TimeoutError) as error:
        hangs = isinstance(error, TimeoutError)
        worker.kill() if hangs else worker.join()
        outcome = Outcome.HANG if hangs else Outcome.CRASH
        _note(found[-len(left)], left, outcome, f'exit status {worker.exitcode}')
    finally:
        worker.kill()
        worker.join()
        receive.close()


def _follow(receive: Connection, left: list[Task], found: Sequence[Counts]) -> None:
    """Counts what a process sends, and removes from `left` what is done."""
    while left:
        try:
            why_not = receive.recv() if receive.poll(_START_S) else f'not within {_START_S} s'
        except EOFError:
            why_not = 'its process ended'
        if why_not is not None:
            raise RuntimeError(f'the sample of {left[0]} cannot be read: {why_not}')
        counts = found[-len(left)]
        for _ in range(len(left[0].cases)):
            if not receive.poll(LIMIT_S):
                raise TimeoutError
            _note(counts, left, *receive.recv())


def _note(counts: Counts, left: list[Task], outcome: Outcome, what: str) -> None:
    case, *others = left[0].cases
    counts.outcomes[outcome] += 1
    if outcome in DEFECTS:
        counts.defects.setdefault(f'{outcome}: {what}', case)
    left[:1] = [replace(left[0], cases=left[0].cases[1:])] if others else []


def format_table(found: Sequence[tuple[str, Counts]]) -> str:
    """A Markdown table: loader, cases, and how many of them came to what."""
    lines = [
        f'| loader | cases | {" | ".join(Outcome)} |',
        '|---|' + '---:|' * (len(Outcome) + 1),
    ]
    total: collections.Counter[Outcome] = collections.Counter()
    for name, counts in found:
        total += counts.outcomes
        lines.append(_row(name, counts.outcomes))
    return '\n'.join([*lines, _row('**all**', total)])


def _row(name: str, outcomes: collections.Counter[Outcome]) -> str:
    return f'| {name} | {outcomes.total()} | {" | ".join(str(outcomes[o]) for o in Outcome)} |'
