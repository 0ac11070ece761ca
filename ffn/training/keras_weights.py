"""Weights as Keras writes them, NAME.weights.h5, which load under every Keras backend.

    python -m ffn.training.keras_weights --checkpoint train_dir/model.ckpt-1000 \
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

from absl import logging

from ffn.training.model import FFNModel, create_model
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, run_tool

ENDING = '.weights.h5'


def is_keras_file(path: str | Path) -> bool:
    """Whether a path names weights that Keras wrote."""
    return str(path).endswith(ENDING)


def settings_path(path: str | Path) -> Path:
    """Where the settings of NAME.weights.h5 lie: NAME.json."""
    return Path(str(path).removesuffix(ENDING) + '.json')


def load(model: FFNModel, path: str | Path) -> int:
    """Fills a network with weights.

    Args:
      model: the network.
      path: NAME.weights.h5.

    Returns:
      The training step, 0 where it is not known.

    Raises:
      UserError: no such file, or weights that do not fit the network.
    """
    if not Path(path).is_file():
        raise UserError(f'no such file: {path}')
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
    settings = settings_path(path)
    if not settings.exists():
        return 0
    try:
        return int(dict(json.loads(settings.read_text())).get('step', 0))
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
    checkpoint: str, output: str, model_name: str | None = None, model_args: str | None = None
) -> int:
    """Writes the weights of a checkpoint as a Keras file.

    Args:
      checkpoint: 'train_dir/model.ckpt-N', or the folder for its last one.
      output: NAME.weights.h5.
      model_name: the network; default: what was saved with the checkpoint.
      model_args: its arguments, JSON; default as for model_name.

    Returns:
      The training step of the checkpoint.

    Raises:
      UserError: the network is not known, does not fit, or the output has another ending.
    """
    from ffn.training import checkpoints

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
    step = checkpoints.load_weights(model, checkpoint)
    save(model, output)
    settings |= {'model_args': args, 'step': step}
    with atomic_path(settings_path(output)) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + '\n')
    logging.info('%s: step %d', output, step)
    return step


def main(argv: Sequence[str] | None = None) -> None:
    """Converts a checkpoint as the command line says."""
    parser = argparse.ArgumentParser(
        prog='python -m ffn.training.keras_weights', description='Checkpoint to NAME.weights.h5.'
    )
    parser.add_argument('--checkpoint', required=True, help='train_dir/model.ckpt-N, or train_dir')
    parser.add_argument('--output', required=True, help=f'NAME{ENDING}')
    parser.add_argument('--model_name', help='if it was not saved with the checkpoint')
    parser.add_argument('--model_args', help='JSON, if it was not saved with the checkpoint')
    args = parser.parse_args(argv)
    step = convert(args.checkpoint, args.output, args.model_name, args.model_args)
    print(f'{args.output}: the weights of step {step}')


if __name__ == '__main__':
    run_tool(main)
