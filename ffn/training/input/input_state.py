"""Where the input of training stands, saved beside the checkpoint of the same step.

Each process of a run has its own file, `model.ckpt-N.input-I-of-K`, an npz of arrays.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffn.models.checkpoints import PREFIX
from ffn.models.info import ModelInfo
from ffn.training.config import DataConfig, WalkConfig
from ffn.utils.atomic import atomic_path, set_aside
from ffn.utils.errors import UserError, damage_told
from ffn.utils.npz import open_archive, read_npz
from ffn.utils.settings import all_settings

_SETTING = 'setting/'
# Decides what is said of an example, not the example.
_DECIDES_NOTHING = ('missing',)


def setting_digests(data: DataConfig, walk: WalkConfig, info: ModelInfo) -> dict[str, np.ndarray]:
    """What decides examples and walks over them, besides the seed: 'setting/FLAG' → text, a digest of its value."""
    values: dict[str, Any] = {'model_args': dataclasses.asdict(info)}
    for config in (data, walk):
        given = dataclasses.asdict(config)
        values |= {one.flag: given[one.field] for one in all_settings(type(config))}
    return {
        f'{_SETTING}{flag}': np.array(_digest(value))
        for flag, value in values.items()
        if flag not in _DECIDES_NOTHING
    }


def changed_settings(
    state: Mapping[str, np.ndarray], digests: Mapping[str, np.ndarray]
) -> list[str]:
    """Flags whose values are not those that a state was saved with; what it does not tell counts as equal."""
    return [
        name.removeprefix(_SETTING)
        for name, digest in digests.items()
        if name in state and str(state[name]) != str(digest)
    ]


def _digest(value: Any) -> str:
    if isinstance(
        value, dict
    ):  # kinds of augmentation that are not used, which later versions may add to
        value = {key: part for key, part in value.items() if part is not None}
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


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
        with contextlib.suppress(FileNotFoundError):  # another process of the run has done so
            set_aside(path, error)
        return None


def read_input_states(checkpoint: str | Path, workers: int) -> list[dict[str, np.ndarray] | None]:
    """Reads the states of all processes of the run that saved a checkpoint, however many these were.

    Args:
      checkpoint: path of the checkpoint, without the endings of its files.
      workers: number of processes now; if as many have saved states, these are read.

    Returns:
      The state of each process, None where there is none; nothing if there is none at all.
    """
    name = re.escape(Path(checkpoint).name)
    names = (path.name for path in Path(checkpoint).parent.iterdir())
    found = (re.fullmatch(rf'{name}\.input-\d{{5}}-of-(\d{{5}})', one) for one in names)
    counts = {int(match[1]) for match in found if match}
    count = workers if workers in counts else max(counts, default=0)
    return [read_input_state(checkpoint, worker, count) for worker in range(count)]


def _path(checkpoint: Path, worker: int, workers: int) -> Path:
    return checkpoint.with_name(f'{checkpoint.name}.input-{worker:05d}-of-{workers:05d}')
