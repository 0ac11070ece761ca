"""Weights of a network, from whichever kind of file a path names, and from one kind to the other.

A path that ends in .weights.h5 is a file that Keras wrote (`ffn.models.keras_weights`); any other is a
checkpoint of TensorFlow variables (`ffn.models.checkpoints`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.models import checkpoints, keras_weights
from ffn.models.checkpoints import KERAS_ENDING
from ffn.models.model import FFNModel, create_model
from ffn.models.saved_settings import (
    is_keras_file,
    read_settings,
    settings_path,
    write_settings_file,
)
from ffn.utils.checksums import file_digest
from ffn.utils.errors import UserError
from ffn.utils.plugins import json_args


def load_weights(model: FFNModel, path: str | Path, ema: bool = False) -> int:
    """Fills a network with saved weights.

    Args:
      model: the network.
      path: NAME.weights.h5; or a checkpoint, see `checkpoints.find_checkpoint`.
      ema: take the running averages of the weights, which training with --ema_decay saves as well.

    Returns:
      The training step of the weights.

    Raises:
      UserError: there is no such file, it is damaged, or variables are missing or of another shape.
    """
    if is_keras_file(path):
        return keras_weights.load(model, path, ema)
    stored = checkpoints.read_variables(path)
    weights, source = stored, f'checkpoint {path}'
    if ema:
        weights, source = _averages(stored, source), f'the averaged weights of {source}'
    assign(model.named_variables(), weights, source)
    return int(stored.get(checkpoints.STEP, 0))


def _averages(stored: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """The averaged weights of a checkpoint under the names of the weights themselves."""
    prefix = checkpoints.EMA
    found = {name.removeprefix(prefix): v for name, v in stored.items() if name.startswith(prefix)}
    if not found:
        raise UserError(
            f'{source} holds no averaged weights ({prefix}…), which train.py --ema_decay saves; leave '
            'use_ema (--ema) out'
        )
    return found


def assign(variables: Mapping[str, Any], stored: Mapping[str, np.ndarray], source: str) -> None:
    """Sets variables to stored values; all of them or none.

    Args:
      variables: name → Keras variable.
      stored: name → value; may hold more than the variables.
      source: where the values come from, for messages.

    Raises:
      UserError: a variable is missing, has another shape or holds no finite numbers; names it.
    """
    for name, variable in variables.items():
        if name not in stored:
            raise UserError(
                f'{source} has no variable {name}; do model_name and model_args fit? It has '
                f'{_count_layers(stored)} and this model needs {_count_layers(variables)}'
            )
        if tuple(stored[name].shape) != tuple(variable.shape):
            raise UserError(
                f'{source}: {name} has shape {tuple(stored[name].shape)}, but model_args make it '
                f'{tuple(variable.shape)}'
            )
    extra = _layer_names(stored) - _layer_names(variables)
    if extra and any(name.startswith('seed_update/') for name in variables):
        raise UserError(
            f'{source} has layers that this model lacks ({", ".join(sorted(extra))}); it has '
            f'{_count_layers(stored)} and this model needs {_count_layers(variables)}'
        )
    for name in variables:
        check_numbers(stored[name], name, source)
    for name, variable in variables.items():
        variable.assign(stored[name])


def check_numbers(values: np.ndarray, name: str, source: str) -> None:
    """Checks that weights are finite numbers.

    Raises:
      UserError: they are not; names the variable.
    """
    if values.dtype.kind in 'OSUcMmb':
        raise UserError(
            f'{source} is damaged: {name} holds {values.dtype}, no numbers; take a copy'
        )
    if not np.isfinite(values.astype(np.float32, copy=False)).all():
        raise UserError(
            f'{source} is damaged: {name} holds values that are not finite; take a copy'
        )


def _layer_names(names: Mapping[str, Any]) -> set[str]:
    return {name.split('/')[1] for name in names if name.startswith('seed_update/')}


def _count_layers(names: Mapping[str, Any]) -> str:
    return f'{len(_layer_names(names))} layers'


def convert(
    checkpoint: str,
    output: str,
    model_name: str | None = None,
    model_args: str | None = None,
    ema: bool = False,
) -> int:
    """Writes the weights of a checkpoint as a Keras file, and the training's settings beside it.

    Args:
      checkpoint: see `checkpoints.find_checkpoint`.
      output: NAME.weights.h5.
      model_name: the network; default: as saved with the checkpoint.
      model_args: its arguments, JSON; default: as saved with the checkpoint.
      ema: write the running averages of the weights in their place.

    Returns:
      The training step of the checkpoint.

    Raises:
      UserError: the network is not known or does not fit, the output has another ending, or the
        checkpoint holds no averages.
    """
    if not is_keras_file(output):
        raise UserError(f'--output is {output!r}; expected a name that ends in {KERAS_ENDING}')
    settings = dict(read_settings(checkpoint) or {})
    if model_name:
        settings['model_name'] = model_name
    if model_args:
        settings['model_args'] = model_args
    missing = [name for name in ('model_name', 'model_args') if name not in settings]
    if missing:
        raise UserError(
            f'{checkpoint} does not say which network it belongs to; give --{" and --".join(missing)}'
        )
    args = settings['model_args']
    args = json_args(args, 'model_args')
    model = create_model(settings['model_name'], args)
    step = load_weights(model, checkpoint, ema)
    keras_weights.save(model, output)
    settings |= {'model_args': args, 'step': step, keras_weights.DIGEST: file_digest(output)}
    if ema:
        settings['ema'] = True
    write_settings_file(settings_path(output), settings)
    logging.info('%s: step %d', output, step)
    return step
