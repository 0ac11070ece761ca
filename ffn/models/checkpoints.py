"""Checkpoints: TensorFlow files of named variables, as FFN installations have always exchanged.

A checkpoint `model.ckpt-N` is two files, `.index` and `.data-00000-of-00001`, that hold
`seed_update/<layer>/weights` and `/biases`, `global_step`, and, in ours, the optimizer's state.
TensorFlow is imported where such a file is read or written; where it is not installed, weights come
from Keras files (`ffn.models.keras_weights`).
"""

from __future__ import annotations

import glob
import json
import re
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.models import keras_weights
from ffn.models.model import FFNModel
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError

PREFIX = 'model.ckpt'
STEP = 'global_step'
EMA = 'ema/'
SETTINGS = 'model.json'


def latest_checkpoint(directory: str | Path) -> str | None:
    """Path of the last complete checkpoint of a folder, without its endings, or None."""
    state = Path(directory, 'checkpoint')
    if state.exists():
        named = re.search(
            r'^model_checkpoint_path: "(.*)"', state.read_text(errors='replace'), re.MULTILINE
        )
        if named and _complete(path := Path(directory, named[1])):
            return str(path)
    found = [path for path in _numbered(directory) if _complete(path)]
    return str(max(found, key=_step_of)) if found else None


def _state(directory: str | Path, pattern: str) -> str | None:
    """A value of the file `checkpoint`, which TensorFlow reads as well."""
    file = Path(directory, 'checkpoint')
    text = file.read_text(errors='replace') if file.exists() else ''
    found = re.search(f'^{pattern}', text, re.MULTILINE)
    return found[1] if found else None


def _numbered(directory: str | Path) -> list[Path]:
    """Checkpoints of a folder that are named after a step."""
    paths = [path.with_suffix('') for path in Path(directory).glob(f'{PREFIX}-*.index')]
    return [path for path in paths if path.name.rpartition('-')[2].isdigit()]


def _step_of(path: Path) -> int:
    return int(path.name.rpartition('-')[2])


def _files(path: Path) -> list[Path]:
    return [path.with_name(f'{path.name}{end}') for end in ('.index', '.data-00000-of-00001')]


def _complete(path: Path) -> bool:
    return all(file.exists() for file in _files(path))


def _find(path: str | Path) -> str:
    """Resolves a folder to its last checkpoint, and drops an ending that was typed along."""
    path = re.sub(r'\.(index|data-\d+-of-\d+)$', '', str(path))
    if Path(path).is_dir():
        latest = latest_checkpoint(path)
        if latest is None:
            raise UserError(f'{path} holds no checkpoint ({PREFIX}-N.index)')
        return latest
    if not Path(f'{path}.index').exists():
        raise UserError(
            f'no checkpoint at {path}: {path}.index is not there; expected a path such as '
            f'train_dir/{PREFIX}-1000, or the folder'
        )
    return path


def read_variables(path: str | Path) -> dict[str, np.ndarray]:
    """Reads all variables of a checkpoint.

    Args:
      path: 'train_dir/model.ckpt-N', or the folder for its last one.

    Raises:
      UserError: there is none, or it is damaged.
    """
    found = _find(path)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            f'{found} can only be read with TensorFlow, which is not installed here; convert it '
            'elsewhere: python -m ffn.models.keras_weights --checkpoint PATH --output NAME.weights.h5'
        ) from error
    try:
        reader = tf.train.load_checkpoint(found)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f'{found} is no readable checkpoint: {str(error).splitlines()[0]}'
        ) from error


def load_weights(model: FFNModel, path: str | Path, ema: bool = False) -> int:
    """Fills a network with the weights of a checkpoint.

    Args:
      model: the network.
      path: see `read_variables`; or NAME.weights.h5, a Keras file.
      ema: take the running averages of the weights, which training with --ema_decay saves as well.

    Returns:
      The training step of the checkpoint.

    Raises:
      UserError: see `read_variables`; also variables that are missing or have another shape.
    """
    if keras_weights.is_keras_file(path):
        return keras_weights.load(model, path, ema)
    stored = read_variables(path)
    weights, what = stored, f'checkpoint {path}'
    if ema:
        weights, what = _averages(stored, what), f'the averaged weights of {what}'
    assign(model.named_variables(), weights, what)
    return int(stored.get(STEP, 0))


def _averages(stored: Mapping[str, np.ndarray], what: str) -> dict[str, np.ndarray]:
    """The averaged weights of a checkpoint under the names of the weights themselves."""
    found = {name.removeprefix(EMA): v for name, v in stored.items() if name.startswith(EMA)}
    if not found:
        raise UserError(
            f'{what} holds no averaged weights ({EMA}…), which train.py --ema_decay saves; leave '
            'use_ema (--ema) out'
        )
    return found


def assign(variables: Mapping[str, Any], stored: Mapping[str, np.ndarray], what: str) -> None:
    """Sets variables to stored values; all of them or none.

    Raises:
      UserError: a variable is missing or has another shape; names it and both shapes.
    """
    for name, variable in variables.items():
        if name not in stored:
            raise UserError(
                f'{what} has no variable {name}; do model_name and model_args fit? It has '
                f'{_layers(stored)} and this model needs {_layers(variables)}'
            )
        if tuple(stored[name].shape) != tuple(variable.shape):
            raise UserError(
                f'{what}: {name} has shape {tuple(stored[name].shape)}, but model_args make it '
                f'{tuple(variable.shape)}'
            )
    extra = _layer_names(stored) - _layer_names(variables)
    if extra and any(name.startswith('seed_update/') for name in variables):
        raise UserError(
            f'{what} has layers that this model lacks ({", ".join(sorted(extra))}); it has '
            f'{_layers(stored)} and this model needs {_layers(variables)}'
        )
    for name, variable in variables.items():
        variable.assign(stored[name])


def _layer_names(names: Mapping[str, Any]) -> set[str]:
    return {name.split('/')[1] for name in names if name.startswith('seed_update/')}


def _layers(names: Mapping[str, Any]) -> str:
    return f'{len(_layer_names(names))} layers'


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """Reads the training settings beside a checkpoint, None where there are none.

    Args:
      path: see `read_variables`.

    Returns:
      model_name, model_args, image_mean, image_stddev, seed_pad, threshold, …
    """
    if keras_weights.is_keras_file(path):
        file = keras_weights.settings_path(path)
    else:
        file = Path(_find(path)).parent / SETTINGS
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f'{file} is damaged: {error}') from error


def write_settings(directory: str | Path, settings: Mapping[str, Any]) -> None:
    """Writes what inference needs to know beside the checkpoints."""
    with atomic_path(Path(directory, SETTINGS)) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + '\n')


def write_input_state(
    directory: str | Path, step: int, worker: int, workers: int, state: Mapping[str, np.ndarray]
) -> None:
    """Writes where the input of one process stands, beside the checkpoint of the same step.

    Raises:
      UserError: it cannot be written.
    """
    path = _input_path(Path(directory, f'{PREFIX}-{step}'), worker, workers)
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        np.savez(file, **state)


def read_input_state(
    checkpoint: str | Path, worker: int, workers: int
) -> dict[str, np.ndarray] | None:
    """Reads what `write_input_state` wrote, None where there is none or it is damaged."""
    try:
        with np.load(_input_path(Path(checkpoint), worker, workers), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error):
        return None


def _input_path(checkpoint: Path, worker: int, workers: int) -> Path:
    return checkpoint.with_name(f'{checkpoint.name}.input-{worker:05d}-of-{workers:05d}')


class CheckpointWriter:
    """Saves checkpoints and removes old ones.

    A checkpoint counts as there once the small file `checkpoint` names it, which is renamed into
    place when the others are complete; killed at any moment, a run leaves its last one usable.
    """

    def __init__(self, directory: str | Path, keep: int = 5, keep_every_hours: float = 0):
        """Makes a writer.

        Args:
          directory: where checkpoints go.
          keep: number of newest ones that are kept; 0 keeps all.
          keep_every_hours: besides, one is kept for good whenever so long has passed; 0: none.
        """
        self._directory = Path(directory)
        self._keep = keep
        self._keep_every_s = keep_every_hours * 3600
        self._last_kept = float(
            _state(directory, r'last_preserved_timestamp: ([\d.e+]+)$') or time.time()
        )

    def save(self, variables: Mapping[str, Any], step: int) -> str:
        """Writes variables and the step, and makes them the last checkpoint.

        Args:
          variables: name → variable or array.
          step: training step.

        Returns:
          Path of the checkpoint.

        Raises:
          UserError: it cannot be written; the last one stays.
        """
        self.write(variables, step)
        return self.commit(step)

    def write(self, variables: Mapping[str, Any], step: int) -> None:
        """The first half of `save`: the files are there, but do not count yet."""
        import tensorflow as tf

        path = self._directory / f'{PREFIX}-{step}'
        tensors = {name: tf.convert_to_tensor(value) for name, value in variables.items()}
        tensors[STEP] = tf.constant(step, tf.int64)
        try:
            tf.raw_ops.SaveV2(
                prefix=str(path),
                tensor_names=list(tensors),
                shape_and_slices=[''] * len(tensors),
                tensors=list(tensors.values()),
            )
        except tf.errors.OpError as error:
            self._remove(path)
            raise UserError(f'{path} cannot be written: {str(error).splitlines()[0]}') from error

    def commit(self, step: int) -> str:
        """The second half of `save`."""
        path = self._directory / f'{PREFIX}-{step}'
        old = self._old_ones()
        with atomic_path(self._directory / 'checkpoint') as temporary:
            temporary.write_text(
                f'model_checkpoint_path: "{path.name}"\nall_model_checkpoint_paths: "{path.name}"\n'
                f'last_preserved_timestamp: {self._last_kept!r}\n'
            )
        logging.info('saved %s', path)
        for checkpoint in old:
            self._remove(checkpoint)
        return str(path)

    def _remove(self, path: Path) -> None:
        # A temporary folder is what a failure leaves of the data.
        for file in [*_files(path), *path.parent.glob(f'{glob.escape(path.name)}.input-*'),
                     *path.parent.glob(f'{glob.escape(path.name)}.data-*.tempstate*')]:  # fmt: skip
            file.unlink(missing_ok=True)

    def _old_ones(self) -> list[Path]:
        """Chooses what to remove, and remembers what is kept for good."""
        if not self._keep:
            return []
        found = _numbered(self._directory)
        old = []
        for path in sorted(found, key=_step_of)[: -self._keep]:
            written = path.with_name(f'{path.name}.index').stat().st_mtime
            if self._keep_every_s and written - self._last_kept >= self._keep_every_s:
                self._last_kept = written
            elif written > self._last_kept or not self._keep_every_s:
                old.append(path)
        return old
