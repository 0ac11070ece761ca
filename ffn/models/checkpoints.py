"""Checkpoints: TensorFlow files of named variables, as FFN installations have always exchanged them.

A checkpoint `model.ckpt-N` is two files, `.index` and `.data-00000-of-00001`, which hold
`seed_update/<layer>/weights` and `/biases`, `global_step`, and, in ours, the optimizer's state.
TensorFlow is imported only where such a file is read or written; without it, weights are loaded from
Keras files (`ffn.models.keras_weights`).
"""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError

PREFIX = 'model.ckpt'
KERAS_ENDING = '.weights.h5'
STEP = 'global_step'
EMA = 'ema/'
_FOOTER = 48
_ENDING = re.compile(
    r'\.((index|data-\d+-of-\d+)(\.tempstate\d+)?|input-\d+-of-\d+(\.aside\d*)?|int8-[0-9a-f]{8}\.json)$'
)
# What is left over if there is no .index, which is written last; temporary files always are.
_UNFINISHED = re.compile(
    rf'(?P<checkpoint>{re.escape(PREFIX)}-\d+)\.'
    r'(data-00000-of-00001|input-\d+-of-\d+|(?P<temporary>(data|index)\S*\.tempstate\d+))'
)


def latest_checkpoint(directory: str | Path) -> str | None:
    """Path of the last complete checkpoint of a folder, without its endings, or None."""
    named = _read_state(directory, r'model_checkpoint_path: "(.*)"')
    if named and _is_complete(path := Path(directory, named)):
        return str(path)
    found = [path for path in _numbered(directory) if _is_complete(path)]
    return str(max(found, key=_step)) if found else None


def reached_step(directory: str | Path) -> int:
    """Step that the last complete checkpoint of a folder is named after; 0 where there is none."""
    number = (latest_checkpoint(directory) or '').rpartition('-')[2]
    return int(number) if number.isdecimal() else 0


def resolve_checkpoint(path: str) -> str:
    """The checkpoint that a folder stands for at this moment; a training may add newer ones.

    Args:
      path: of a checkpoint, or of a folder of checkpoints.

    Returns:
      The path itself if it is no folder, or one without checkpoints.
    """
    if not path or not Path(path).is_dir():
        return path
    return latest_checkpoint(path) or path


def without_ending(path: str | Path) -> str:
    """The checkpoint that a file belongs to: its path without the ending of one of its files, if it has one."""
    return _ENDING.sub('', str(path))


def find_checkpoint(path: str | Path) -> str:
    """Finds a checkpoint that must exist.

    Args:
      path: 'train_dir/model.ckpt-N', one of its files, or the folder for its last one.

    Returns:
      The path without the endings of its files.

    Raises:
      UserError: there is none.
    """
    path = without_ending(path)
    if Path(path).is_dir():
        latest = latest_checkpoint(path)
        if latest is None:
            raise UserError(f'{path} holds no checkpoint ({PREFIX}-N.index)')
        return latest
    if not Path(f'{path}.index').exists():
        raise UserError(
            f'no checkpoint at {path}: {path}.index is not there; '
            + (_similar(path) or f'expected a path such as train_dir/{PREFIX}-1000, or the folder')
        )
    return path


def _similar(path: str) -> str:
    """Asks whether weights that Keras wrote are meant, if a path names them without their ending; '' if none are there."""
    stem = path.removesuffix('.json').removesuffix('.h5').removesuffix('.weights')
    named = f'{stem}{KERAS_ENDING}'
    return f'did you mean {named}?' if Path(named).is_file() else ''


def read_variables(path: str | Path) -> dict[str, np.ndarray]:
    """Reads all variables of a checkpoint.

    Args:
      path: see `find_checkpoint`.

    Raises:
      UserError: there is no checkpoint, it is damaged, or TensorFlow is not installed.
    """
    found = find_checkpoint(path)
    try:
        import tensorflow as tf
    except ImportError as error:
        raise UserError(
            f'{found} can only be read with TensorFlow, which is not installed here; convert it '
            'elsewhere: ffn convert-weights --checkpoint PATH --output NAME.weights.h5'
        ) from error
    try:
        _check_index(Path(f'{found}.index'))
        reader = tf.train.load_checkpoint(found)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f'{found} is no readable checkpoint: {str(error).splitlines()[0]}'
        ) from error


def _check_index(path: Path) -> None:
    """Checks where an index says that its blocks are, for which TensorFlow makes room before it reads them.

    The last 48 bytes are no part of any checksum: offset and size of two blocks as varints, and a magic number
    (TensorFlow's tables are those of LevelDB, doc/table_format.md).

    Raises:
      ValueError: they are not in the file.
    """
    data = path.read_bytes()
    numbers, at = [], max(len(data) - _FOOTER, 0)
    for _ in range(4):
        number = shift = 0
        while at < len(data) and shift < 64:
            byte, at = data[at], at + 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(number)
    if max(numbers[0] + numbers[1], numbers[2] + numbers[3]) > len(data):
        raise ValueError('its index is damaged')


class CheckpointWriter:
    """Saves checkpoints and removes old ones.

    A checkpoint exists once the small file `checkpoint` names it, which is renamed into place after
    all other files are complete: a run that is killed at any moment leaves its last one usable.
    """

    def __init__(self, directory: str | Path, keep: int = 5, keep_every_hours: float = 0):
        """Makes a writer.

        Args:
          directory: where checkpoints go.
          keep: number of newest checkpoints to keep; 0 keeps all.
          keep_every_hours: in addition, one checkpoint is kept for good each time this many hours
            have passed; 0: none.
        """
        self._directory = Path(directory)
        self._keep = keep
        self._keep_every_s = keep_every_hours * 3600
        preserved = _read_state(directory, r'last_preserved_timestamp: ([\d.e+]+)$')
        self._last_preserved = float(preserved or time.time())

    def remove_abandoned(self) -> None:
        """Removes what killed trainings left of checkpoints that they did not finish; none may be at work."""
        for file in self._directory.glob(f'{PREFIX}-*.*'):
            if (named := _UNFINISHED.fullmatch(file.name)) is None:
                continue
            if named['temporary'] or not file.with_name(f'{named["checkpoint"]}.index').exists():
                file.unlink(missing_ok=True)

    def warn_of_later(self, step: int) -> None:
        """Warns of checkpoints of later steps than the one that a training goes on from.

        They are of another course of the training, which was set back or killed before it named its last one.
        """
        later = sorted(n for n in map(_step, _numbered(self._directory)) if n > step)
        if later:
            logging.warning(
                '%s: the training goes on from step %d, and checkpoints of later steps lie beside: %s. They stay until '
                'it has passed their steps; then they are overwritten or removed as old ones are: rename '
                'what you want to keep',
                self._directory,
                step,
                ', '.join(map(str, later)),
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
        """The first half of `save`: the files are written, but not yet the last checkpoint."""
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
            _remove(path)
            raise UserError(f'{path} cannot be written: {str(error).splitlines()[0]}') from error

    def commit(self, step: int) -> str:
        """The second half of `save`: names the checkpoint as the last and removes old ones."""
        path = self._directory / f'{PREFIX}-{step}'
        outdated = self._choose_outdated(step)
        with atomic_path(self._directory / 'checkpoint') as temporary:
            temporary.write_text(
                f'model_checkpoint_path: "{path.name}"\nall_model_checkpoint_paths: "{path.name}"\n'
                f'last_preserved_timestamp: {self._last_preserved!r}\n'
            )
        logging.info('saved %s', path)
        for checkpoint in outdated:
            _remove(checkpoint)
        return str(path)

    def _choose_outdated(self, last: int) -> list[Path]:
        """Chooses what to remove, and remembers when one was last kept for good.

        Args:
          last: step of the newest checkpoint; what has a higher one does not count and stays.
        """
        if not self._keep:
            return []
        outdated = []
        reached = [path for path in _numbered(self._directory) if _step(path) <= last]
        for path in sorted(reached, key=_step)[: -self._keep]:
            written = path.with_name(f'{path.name}.index').stat().st_mtime
            if self._keep_every_s and written - self._last_preserved >= self._keep_every_s:
                self._last_preserved = written
            elif written > self._last_preserved or not self._keep_every_s:
                outdated.append(path)
        return outdated


def _read_state(directory: str | Path, pattern: str) -> str | None:
    """A value from the file `checkpoint`, whose format is TensorFlow's; None if it is not there."""
    file = Path(directory, 'checkpoint')
    text = file.read_text(errors='replace') if file.exists() else ''
    found = re.search(f'^{pattern}', text, re.MULTILINE)
    return found[1] if found else None


def _numbered(directory: str | Path) -> list[Path]:
    """Checkpoints of a folder that are named after a step."""
    paths = [path.with_suffix('') for path in Path(directory).glob(f'{PREFIX}-*.index')]
    return [path for path in paths if path.name.rpartition('-')[2].isdecimal()]


def _step(path: Path) -> int:
    return int(path.name.rpartition('-')[2])


def _files(path: Path) -> list[Path]:
    return [path.with_name(f'{path.name}{end}') for end in ('.index', '.data-00000-of-00001')]


def _is_complete(path: Path) -> bool:
    return all(file.exists() for file in _files(path))


def _remove(path: Path) -> None:
    """Removes a checkpoint, the states of training's input that were saved with it, and its ranges for int8."""
    name = glob.escape(path.name)
    # SaveV2 leaves temporary files behind when it fails or is killed.
    companions = [
        *path.parent.glob(f'{name}.input-*'),
        *path.parent.glob(f'{name}.int8-*.json'),
        *path.parent.glob(f'{name}.data-*.tempstate*'),
        *path.parent.glob(f'{name}.index.tempstate*'),
    ]
    for file in [*_files(path), *companions]:
        file.unlink(missing_ok=True)
