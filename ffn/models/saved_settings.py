"""What a network was trained with, as saved beside its weights.

Training writes `model.json` beside its checkpoints; beside weights that Keras wrote, NAME.weights.h5, the
same lies in NAME.json, together with the training step. No framework is needed to read either.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffn.models.checkpoints import KERAS_ENDING, find_checkpoint
from ffn.utils.atomic import write_json
from ffn.utils.checksums import sealed, unsealed

_FILE = 'model.json'


def is_keras_file(path: str | Path) -> bool:
    """Whether a path names weights that Keras wrote."""
    return str(path).endswith(KERAS_ENDING)


def settings_path(path: str | Path) -> Path:
    """Where the settings of some weights lie.

    Args:
      path: NAME.weights.h5, or a checkpoint; see `ffn.models.checkpoints.find_checkpoint`.

    Raises:
      UserError: there is no such checkpoint.
    """
    if is_keras_file(path):
        return Path(str(path).removesuffix(KERAS_ENDING) + '.json')
    return Path(find_checkpoint(path)).parent / _FILE


def read_settings(path: str | Path) -> dict[str, Any] | None:
    """Reads the training settings saved beside weights.

    Args:
      path: see `settings_path`.

    Returns:
      model_name, model_args, image_mean, image_stddev, seed_pad, threshold, …; None where none were
      saved.

    Raises:
      UserError: there is no such checkpoint, or the file is damaged.
    """
    file = settings_path(path)
    if not file.exists():
        return None
    return unsealed(file.read_bytes(), file, 'take a copy, or save the weights again')


def write_settings(directory: str | Path, settings: Mapping[str, Any]) -> None:
    """Writes the settings that inference needs beside the checkpoints of a folder."""
    write_settings_file(Path(directory, _FILE), settings)


def write_settings_file(path: Path, settings: Mapping[str, Any]) -> None:
    """Writes settings as JSON, atomically."""
    write_json(path, sealed(settings))
