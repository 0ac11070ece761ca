"""Weights as Keras writes them, NAME.weights.h5, which load under every Keras backend."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np

from ffn.models.model import FFNModel
from ffn.models.saved_settings import KERAS_ENDING, read_settings, settings_path
from ffn.utils.atomic import atomic_path
from ffn.utils.checksums import KEY, file_digest
from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import open_hdf5
from ffn.volumes.hdf5_links import refuse_external

# In the settings beside a file: its SHA-256.
DIGEST = 'weights_sha256'


def load(model: FFNModel, path: str | Path, ema: bool = False) -> int:
    """Fills a network with weights.

    Args:
      model: the network.
      path: NAME.weights.h5.
      ema: require averaged weights. The file has one set of weights, and its settings say which.

    Returns:
      The training step, 0 where it is not known.

    Raises:
      UserError: no such file, or weights that do not fit the network or are not averaged.
    """
    if not Path(path).is_file():
        raise UserError(f'no such file: {path}')
    settings = read_settings(path) or {}
    if DIGEST in settings and settings[DIGEST] != file_digest(path):
        raise UserError(
            f'{path} is damaged, as its SHA-256 is not the {DIGEST} in {settings_path(path)}; take a copy, or '
            f'convert the checkpoint again (if you have replaced it, remove "{DIGEST}" and "{KEY}" there)'
        )
    if ema and not settings.get('ema'):
        raise UserError(
            f'{path} holds no averaged weights: convert the checkpoint with --ema, or leave use_ema '
            'out'
        )
    try:
        with open_hdf5(path) as file:
            refuse_external(file)
        with warnings.catch_warnings():
            # Keras warns of the optimizer's state that the file does not have.
            warnings.simplefilter('ignore')
            model.load_weights(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # h5py raises any for a damaged file
        raise UserError(
            f'{path} does not fit the model; do model_name and model_args fit? '
            f'({" ".join(str(error).split())})'
        ) from error
    for name, variable in model.named_variables().items():
        if not np.isfinite(np.asarray(variable)).all():
            raise UserError(
                f'{path} is damaged: {name} holds values that are not finite; take a copy'
            )
    return read_step(path)


def read_step(path: str | Path) -> int:
    """The training step of NAME.weights.h5, 0 where it is not known.

    Raises:
      UserError: the settings beside it are damaged.
    """
    settings = read_settings(path) or {}
    try:
        if (step := int(settings.get('step', 0))) < 0:
            raise ValueError(f'step is {step}')
        return step
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f'{settings_path(path)} is damaged: {error}') from error


def save(model: FFNModel, path: str | Path) -> None:
    """Writes the weights of a network atomically.

    Args:
      model: the network.
      path: NAME.weights.h5.
    """
    with atomic_path(path) as temporary:
        # Keras insists on the ending.
        named = temporary.with_name(temporary.name + KERAS_ENDING)
        try:
            model.save_weights(named)
            shutil.copyfile(named, temporary)
        finally:
            named.unlink(missing_ok=True)
