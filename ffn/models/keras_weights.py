"""Weights as Keras writes them, NAME.weights.h5, which load under every Keras backend.

    python -m ffn.models.keras_weights --checkpoint train_dir/model.ckpt-1000 \
        --output model.weights.h5

converts a checkpoint of TensorFlow variables, for machines that have JAX or PyTorch only. Settings
of the training go to NAME.json beside it, as `model.json` lies beside checkpoints.
"""

from __future__ import annotations

import argparse
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ffn.models.model import FFNModel, create_model
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, run_tool

ENDING = '.weights.h5'


def is_keras_file(path: str | Path) -> bool:
    """Whether a path names weights that Keras wrote."""
    return str(path).endswith(ENDING)


def settings_path(path: str | Path) -> Path:
    """Where the settings of NAME.weights.h5 lie: NAME.json."""
    return Path(str(path).removesuffix(ENDING) + '.json')


def load(model: FFNModel, path: str | Path, ema: bool = False) -> int:
    """Fills a network with weights.

    Args:
      model: the network.
      path: NAME.weights.h5.
      ema: they are to be averaged ones; the file has one set of weights, and its settings say which.

    Returns:
      The training step, 0 where it is not known.

    Raises:
      UserError: no such file, weights that do not fit the network, or that are not averaged.
    """
    if not Path(path).is_file():
        raise UserError(f'no such file: {path}')
    if ema and not _settings_of(path).get('ema'):
        raise UserError(
            f'{path} holds no averaged weights: convert the checkpoint with --ema, or leave use_ema '
            'out'
        )
    try:
        with warnings.catch_warnings():
            # What it leaves out it also complains of.
            warnings.simplefilter('ignore')
            model.load_weights(path)
    except (ValueError, KeyError, OSError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(
            f'{path} does not fit the model; do model_name and model_args fit? ({reason})'
        ) from error
    return step_of(path)


def step_of(path: str | Path) -> int:
    """The training step of NAME.weights.h5, 0 where it is not known.

    Raises:
      UserError: settings that are damaged.
    """
    try:
        return int(_settings_of(path).get('step', 0))
    except (ValueError, TypeError) as error:
        raise UserError(f'{settings_path(path)} is damaged: {error}') from error


def _settings_of(path: str | Path) -> dict[str, Any]:
    settings = settings_path(path)
    if not settings.exists():
        return {}
    try:
        return dict(json.loads(settings.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f'{settings} is damaged: {error}') from error


def save(model: FFNModel, path: str | Path) -> None:
    """Writes the weights of a network, whole or not at all.

    Args:
      model: the network.
      path: NAME.weights.h5.
    """
    with atomic_path(path) as temporary:
        # Keras insists on the ending.
        named = temporary.with_name(temporary.name + ENDING)
        try:
            model.save_weights(named)
            shutil.copyfile(named, temporary)
        finally:
            named.unlink(missing_ok=True)


def convert(
    checkpoint: str, output: str, model_name: str | None = None, model_args: str | None = None,
    ema: bool = False,
) -> int:  # fmt: skip
    """Writes the weights of a checkpoint as a Keras file.

    Args:
      checkpoint: 'train_dir/model.ckpt-N', or the folder for its last one.
      output: NAME.weights.h5.
      model_name: the network; default: what was saved with the checkpoint.
      model_args: its arguments, JSON; default as for model_name.
      ema: write the running averages of the weights in their place.

    Returns:
      The training step of the checkpoint.

    Raises:
      UserError: the network is not known, does not fit, the output has another ending, or the
        checkpoint holds no averages.
    """
    from ffn.models import checkpoints

    if not is_keras_file(output):
        raise UserError(f'--output is {output!r}; expected a name that ends in {ENDING}')
    settings = dict(checkpoints.read_settings(checkpoint) or {})
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
    try:
        args = json.loads(args) if isinstance(args, str) else args
    except json.JSONDecodeError as error:
        raise UserError(f'model_args is not JSON: {error}; given was {args!r}') from error
    model = create_model(settings['model_name'], args)
    step = checkpoints.load_weights(model, checkpoint, ema)
    save(model, output)
    settings |= {'model_args': args, 'step': step}
    if ema:
        settings['ema'] = True
    with atomic_path(settings_path(output)) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + '\n')
    logging.info('%s: step %d', output, step)
    return step


def main(argv: Sequence[str] | None = None) -> None:
    """Converts a checkpoint as the command line says."""
    parser = argparse.ArgumentParser(
        prog='python -m ffn.models.keras_weights', description='Checkpoint to NAME.weights.h5.'
    )
    parser.add_argument('--checkpoint', required=True, help='train_dir/model.ckpt-N, or train_dir')
    parser.add_argument('--output', required=True, help=f'NAME{ENDING}')
    parser.add_argument('--model_name', help='if it was not saved with the checkpoint')
    parser.add_argument('--model_args', help='JSON, if it was not saved with the checkpoint')
    parser.add_argument(
        '--ema', action='store_true', help='the running averages that train.py --ema_decay saves'
    )
    args = parser.parse_args(argv)
    step = convert(args.checkpoint, args.output, args.model_name, args.model_args, args.ema)
    print(f'{args.output}: the {"averaged " if args.ema else ""}weights of step {step}')


if __name__ == '__main__':
    run_tool(main)
