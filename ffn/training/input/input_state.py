"""Where the input of training stands, saved beside the checkpoint of the same step.

Each process of a run has its own file, `model.ckpt-N.input-I-of-K`, an npz of arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffn.models.checkpoints import PREFIX
from ffn.utils.atomic import atomic_path, set_aside
from ffn.utils.errors import UserError, damage_told
from ffn.utils.npz import open_archive, read_npz


def write_input_state(
    directory: str | Path, step: int, worker: int, workers: int, state: Mapping[str, np.ndarray]
) -> None:
    """Writes the state of one process's input.

    Args:
      directory: of the checkpoints.
      step: training step of the checkpoint that it belongs to.
      worker: number of this process.
      workers: number of processes.
      state: name → array.

    Raises:
      UserError: it cannot be written.
    """
    path = _path(Path(directory, f'{PREFIX}-{step}'), worker, workers)
    arrays: dict[str, Any] = dict(state)
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        np.savez(file, **arrays)


def read_input_state(
    checkpoint: str | Path, worker: int, workers: int
) -> dict[str, np.ndarray] | None:
    """Reads what `write_input_state` wrote; None where there is none.

    One that is damaged is set aside, with a warning, and None is returned.

    Args:
      checkpoint: path of the checkpoint, without the endings of its files.
      worker: number of this process.
      workers: number of processes.
    """
    path = _path(Path(checkpoint), worker, workers)
    if not path.exists():
        return None
    try:
        with damage_told(path, 'it cannot be used'), open_archive(path) as archive:
            names = [name.removesuffix('.npy') for name in archive.namelist()]
        return read_npz(path, names, [])
    except UserError as error:
        set_aside(path, error)
        return None


def _path(checkpoint: Path, worker: int, workers: int) -> Path:
    return checkpoint.with_name(f'{checkpoint.name}.input-{worker:05d}-of-{workers:05d}')
