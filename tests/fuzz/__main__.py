"""Reads mutated files with everything that reads files, and prints what came of it: `make fuzz`.

A defect is named with its case: `--loader NAME --case N` repeats it and shows the traceback.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tests.fuzz.case import DEFECTS, Loader
from tests.fuzz.run import (
    MODULES,
    Counts,
    Task,
    find_loaders,
    format_table,
    make_sample,
    run_tasks,
    scratch,
)


def main() -> int:
    """Returns the exit status: 1 if there is a defect."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        '--cases', type=int, default=2000, help='of all loaders together; one of each at least'
    )
    parser.add_argument('--seed', type=int, default=0, help='other seeds are other cases')
    parser.add_argument(
        '--loader', default='', help='regular expression for module: name, default all'
    )
    parser.add_argument('--jobs', type=int, default=1, help='processes at a time')
    parser.add_argument('--case', type=int, help='repeats one case of one loader')
    args = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    chosen = [
        (module, index, loader)
        for module in MODULES
        for index, loader in enumerate(find_loaders(module))
        if re.search(args.loader, f'{module}: {loader.name}')
    ]
    if args.case is not None:
        repeat(chosen[0][2], args.seed, args.case)
        return 0
    tasks = []
    for number, (module, index, _) in enumerate(chosen):
        first, end = (args.cases * n // len(chosen) for n in (number, number + 1))
        tasks.append(Task(module, index, args.seed, range(max(end - first, 1))))
    begin = time.monotonic()
    # Interleaved, as neighbours take about as long.
    parts = [slice(first, None, args.jobs) for first in range(args.jobs)]
    found: list[Counts] = [Counts() for _ in tasks]
    with ThreadPoolExecutor(args.jobs) as pool:
        for part, counts in zip(parts, pool.map(run_tasks, [tasks[p] for p in parts]), strict=True):
            found[part] = counts
    for (_, _, loader), counts in zip(chosen, found, strict=True):
        for what, case in counts.defects.items():
            print(f'{loader.name}, case {case}: {what}', file=sys.stderr, flush=True)
    named = [(loader.name, counts) for (_, _, loader), counts in zip(chosen, found, strict=True)]
    print(format_table(named))
    print(f'{time.monotonic() - begin:.0f} s', file=sys.stderr)
    return int(any(counts.outcomes[defect] for counts in found for defect in DEFECTS))


def repeat(loader: Loader, seed: int, case: int) -> None:
    """Repeats a case in this process, without its limits, and leaves what was read in a folder."""
    with scratch() as place, make_sample(loader, place) as sample:
        folder = Path(tempfile.mkdtemp(), 'mutated-sample')
        shutil.copytree(sample, folder)
        loader.mutate(folder, np.random.default_rng([seed, case]))
        print(f'the mutated file is in {folder}', flush=True)
        print(loader.read(folder))


if __name__ == '__main__':
    sys.exit(main())
