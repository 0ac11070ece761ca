"""Sessions of seeding on volume.h5 of a folder, with a network of NumPy that can be slow.

    python -m tests.proofreading.seeded FOLDER MOMENT START...

accepts an object at each START (x,y,z), tells its id and waits to be killed; MOMENT, such as half:npz, see
`tests.inference.killed`, has it kill itself when the last one is written.

    python -m tests.proofreading.seeded FOLDER serve

is `ffn seed` on BOX with that network.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ffn.inference.config import InferenceConfig
from ffn.inference.request import read_config
from ffn.inference.runner import Runner
from ffn.proofreading.seeding.seeding import Seeding
from ffn.utils.geometry import Box, Xyz
from tests.inference.killed import die_at
from tests.inference.oracle import REQUEST, SeedNetwork, batched, stand_in

SHAPE_ZYX = (18, 22, 34)
BOX = Box(Xyz(2, 1, 1), Xyz(31, 20, 16))
# A voxel of each body, x,y,z in the volume.
STARTS = (Xyz(9, 8, 8), Xyz(24, 8, 9), Xyz(10, 17, 7), Xyz(25, 17, 8))


def write_volume(folder: Path) -> None:
    """Four bodies that touch."""
    image = np.zeros(SHAPE_ZYX, np.uint8)
    image[2:-2, 3:13, 3:17], image[2:-2, 3:13, 17:-2] = 1, 2
    image[2:-2, 13:-2, 3:17], image[2:-2, 13:-2, 17:-2] = 3, 4
    with h5py.File(folder / 'volume.h5', 'w') as file:
        file['raw'] = image


@contextlib.contextmanager
def configured(
    folder: Path, wait: Callable[[], object] = lambda: None, more: str = ''
) -> Iterator[InferenceConfig]:
    """What runs with the network while the context lasts; `wait` is called in every step, in its thread."""
    if not (folder / 'volume.h5').exists():
        write_volume(folder)
    network = batched(SeedNetwork())

    def predict(images, seeds):
        wait()
        return network(images, seeds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, 'ffn.models.predictor', stand_in(predict))
        yield read_config(REQUEST.format(folder=folder) + more)


@contextlib.contextmanager
def runner(folder: Path, *args: Any, **kwargs: Any) -> Iterator[Runner]:
    """A runner; for the arguments see `configured`."""
    with configured(folder, *args, **kwargs) as config, Runner(config) as made:
        yield made


@contextlib.contextmanager
def session(
    folder: Path, saved: bool = True, wait: Callable[[], object] = lambda: None, more: str = ''
) -> Iterator[Seeding]:
    """A session on BOX."""
    with (
        runner(folder, wait, more) as made,
        Seeding(made, BOX, folder / 'results' if saved else '') as seeding,
    ):
        yield seeding


def accept(seeding: Seeding, start: Xyz) -> int:
    """Grows an object to its end and accepts it."""
    seeding.start(start)
    assert seeding.wait(60).state == 'complete'
    return seeding.accept()


def everything(seeding: Seeding) -> np.ndarray:
    """The accepted objects, [z, y, x]."""
    return seeding.read_segments(np.s_[:, :, :])


def main() -> None:
    """See the module."""
    folder, moment, *starts = sys.argv[1:]
    if moment == 'serve':
        from ffn.proofreading.seeding import seed_run

        with configured(Path(folder)) as config:
            print(seed_run.serve(config, BOX))
        return
    with session(Path(folder)) as seeding:
        for number, start in enumerate(starts):
            if moment and number == len(starts) - 1:
                seeding._writer.close()  # what is killed is the object's own file
                die_at(*moment.split(':'))
            print(accept(seeding, Xyz(*map(int, start.split(',')))), flush=True)
        time.sleep(600)


if __name__ == '__main__':
    main()
