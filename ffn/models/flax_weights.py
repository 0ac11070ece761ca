"""Weights of the residual stack in checkpoints of Flax or Orbax, for `ffn.models.networks.residual_stack`.

Read are the parameters of the class `ResConvStack` of the package connectomics: layers pre_a, pre_b, …; res0a, res0b,
…; output; and LayerNorm_0, …, with or without a number before the name ('0:pre_a').
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import ffn
from ffn.models.checkpoints import KERAS_ENDING
from ffn.models.flax_checkpoints import FlaxCheckpoint, open_checkpoint
from ffn.models.saved_settings import (
    is_keras_file,
    settings_path,
    write_settings_file,
)
from ffn.utils.checksums import file_digest
from ffn.utils.errors import UserError, damage_told
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.settings import setting
from ffn.utils.startup import startup_messages_hidden

MODEL = 'residual_stack.ResidualStackFFNModel'
# Settings that the parameters do not tell, and that requests may set as well.
_TRAINED = (
    'image_mean',
    'image_stddev',
    'init_activation',
    'seed_pad',
    'threshold',
    'voxel_size',
)
_LAYER = re.compile(r'(?:\d+:)?(?P<layer>pre_[a-z]|res\d{1,4}[a-z]|output|LayerNorm_\d{1,4})')
_KINDS = {'kernel': 'weights', 'bias': 'biases', 'scale': 'scale'}
_FIRST = re.compile(r'(?P<prefix>.*/|)(?:\d+:)?pre_a/kernel')
_SHOWN = 6


@dataclass(frozen=True)
class ImportWeights:
    """Where weights come from, and what their parameters do not tell."""

    checkpoint: str = setting(
        'file of Flax (MessagePack) or folder of Orbax; of a folder with numbered ones, the last is taken',
        metavar='PATH',
    )
    output: str = setting(
        'file to write; its settings go to NAME.json', metavar=f'NAME{KERAS_ENDING}'
    )
    fov_size: Xyz = setting('field of view, x,y,z voxels, odd', parse=Xyz.parse, metavar='X,Y,Z')
    deltas: Xyz = setting(
        'how far it moves in one step, x,y,z voxels', parse=Xyz.parse, metavar='X,Y,Z'
    )
    padding: str = setting(
        'same: the network predicts all of its field of view; valid: what is left of it without padding',
        default='same',
        choices=('same', 'valid'),
    )
    params: str = setting(
        'which parameters, where the checkpoint holds several sets, such as ema_params; if unset, those called params',
        default='',
        metavar='NAME',
    )
    image_mean: float | None = setting(
        'what was subtracted from the image in training; this and the following are stored with the weights, and '
        'used by requests that do not set them',
        default=None,
    )
    image_stddev: float | None = setting('what the image was divided by then', default=None)
    init_activation: float | None = setting('probability of the starting voxel', default=None)
    seed_pad: float | None = setting('initial probability of all other voxels', default=None)
    threshold: float | None = setting(
        'the field of view moved to where the probability reached this', default=None
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'size of a voxel, x,y,z', default=None, parse=parse_voxel_size, metavar='X,Y,Z'
    )

    def __post_init__(self) -> None:
        if not is_keras_file(self.output):
            raise UserError(
                f'--output is {self.output!r}; expected a name that ends in {KERAS_ENDING}'
            )
        if self.image_mean is not None and not np.isfinite(self.image_mean):
            raise UserError(f'--image_mean is {self.image_mean:g}; expected a number')
        if self.image_stddev is not None and not 0 < self.image_stddev < np.inf:
            raise UserError(f'--image_stddev is {self.image_stddev:g}; expected a positive number')
        for flag in ('init_activation', 'seed_pad', 'threshold'):
            value = getattr(self, flag)
            if value is not None and not 0 < value < 1:
                raise UserError(f'--{flag} is {value:g}; expected a probability between 0 and 1')

    @property
    def unset(self) -> list[str]:
        """Settings of the training that were not given."""
        return [name for name in _TRAINED if getattr(self, name) is None]


def import_weights(config: ImportWeights) -> dict[str, Any]:
    """Writes the weights of a checkpoint as a Keras file, and the settings that are known beside it.

    Args:
      config: what to read and write.

    Returns:
      The settings that were written; see `ffn.models.saved_settings.read_settings`.

    Raises:
      UserError: there is no checkpoint, it is damaged, or its parameters are those of another network.
    """
    with startup_messages_hidden():
        from ffn.models import keras_weights  # loads Keras

    checkpoint = open_checkpoint(config.checkpoint)
    args, weights = read_network(checkpoint, config.params)
    args = {
        'fov_size': list(config.fov_size),
        'deltas': list(config.deltas),
        **args,
        'padding': config.padding,
    }
    model = make_network(checkpoint, args, weights)
    keras_weights.save(model, config.output)
    given = {name: getattr(config, name) for name in _TRAINED if name not in config.unset}
    settings = {'model_name': MODEL, 'model_args': args, **given, 'version': ffn.__version__}
    if (step := read_step(checkpoint)) is not None:
        settings['step'] = step
    settings[keras_weights.DIGEST] = file_digest(config.output)
    write_settings_file(settings_path(config.output), settings)
    return settings


def read_network(
    checkpoint: FlaxCheckpoint, params: str = ''
) -> tuple[dict[str, Any], dict[str, tuple[str, np.ndarray]]]:
    """Reads the parameters of a residual stack, and its sizes from them.

    Args:
      checkpoint: opened.
      params: which of several sets; '': the one called params.

    Returns:
      Arguments of the network: depth, features, convs, kernel (x, y, z) and layer_norm; and name of a variable of ours
      → its name in the checkpoint, and the value, float32.

    Raises:
      UserError: a parameter is missing, is none of a residual stack, or cannot be read.
    """
    prefix = _choose(checkpoint, params)
    weights = {}
    for theirs in sorted(name for name in checkpoint.readers if name.startswith(prefix)):
        value = checkpoint.read(theirs)
        ours = _translate(checkpoint, theirs, prefix)
        with (
            damage_told(checkpoint.path, f'{theirs} is of type {value.dtype}'),
            np.errstate(over='ignore', invalid='ignore'),
        ):
            weights[ours] = theirs, value.astype(np.float32)
    return _sizes(checkpoint, prefix, {name: v.shape for name, (_, v) in weights.items()}), weights


def _choose(checkpoint: FlaxCheckpoint, params: str) -> str:
    """What the names of one set of parameters begin with."""
    names = checkpoint.readers
    found = sorted(m['prefix'].rstrip('/') for m in map(_FIRST.fullmatch, names) if m)
    if not found:
        raise UserError(
            f'{checkpoint.path} has no parameter pre_a/kernel, which a residual stack has; it has '
            f'{_some(names)}'
        )
    wanted = [one for one in found if one == params] if params else found
    if len(wanted) > 1:
        wanted = [one for one in found if one.split('/')[-1] == 'params']
    if len(wanted) != 1:
        raise UserError(
            f'{checkpoint.path} has the sets of parameters {_some(found)}; give one of them as --params'
        )
    return f'{wanted[0]}/' if wanted[0] else ''


def _translate(checkpoint: FlaxCheckpoint, theirs: str, prefix: str) -> str:
    """The name that a parameter has here."""
    layer, _, kind = theirs.removeprefix(prefix).rpartition('/')
    found = _LAYER.fullmatch(layer)
    if not found or kind not in _KINDS:
        raise UserError(
            f'{checkpoint.path} has a parameter {theirs}, which a residual stack does not have: it is of another '
            'network'
        )
    return f'seed_update/{found["layer"].replace("LayerNorm_", "norm")}/{_KINDS[kind]}'


def _sizes(
    checkpoint: FlaxCheckpoint, prefix: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Arguments of the network, x, y, z; whether all shapes fit them is left to `make_network`."""
    layers = [name.split('/')[1] for name in shapes if name.endswith('/weights')]
    modules = {layer[3:-1] for layer in layers if layer.startswith('res')}
    letters = sorted(layer[-1] for layer in layers if layer.startswith('pre_'))
    first = shapes['seed_update/pre_a/weights']
    if len(first) != 5:
        raise UserError(
            f'{checkpoint.path}: {prefix}pre_a/kernel has shape {first}; expected five sizes: z, y, x, channels in '
            'and out'
        )
    features = []
    for stage in ['pre_', *(f'res{i}' for i in range(len(modules)))]:
        for letter in letters:
            name = f'seed_update/{stage}{letter}/weights'
            if not shapes.get(name):
                raise UserError(
                    f'{checkpoint.path} has no parameter {prefix}{stage}{letter}/kernel, although it has '
                    f'{len(modules)} modules of {len(letters)} convolutions'
                )
            features.append(shapes[name][-1])
    return {
        'depth': len(modules),
        'features': features[0] if len(set(features)) == 1 else features,
        'convs': len(letters),
        'kernel': list(first[2::-1]),
        'layer_norm': any(name.endswith('/scale') for name in shapes),
    }


def make_network(
    checkpoint: FlaxCheckpoint,
    args: Mapping[str, Any],
    weights: Mapping[str, tuple[str, np.ndarray]],
) -> Any:
    """Makes the network and gives it the weights.

    Args:
      checkpoint: where they come from.
      args: arguments of the network.
      weights: of `read_network`.

    Returns:
      The network, an `FFNModel`.

    Raises:
      UserError: its sizes are impossible, or a parameter does not fit.
    """
    from ffn.models.model import create_model
    from ffn.models.weights import check_numbers

    try:
        model = create_model(MODEL, args)
    except UserError as error:
        raise UserError(f'{checkpoint.path}: {error}') from error
    variables = model.named_variables()
    for name, variable in variables.items():
        if name not in weights:
            raise UserError(
                f'{checkpoint.path} has no parameter for {name.removeprefix("seed_update/")}, which a residual stack '
                f'with {_in_words(args)} has'
            )
        theirs, value = weights[name]
        if value.shape != tuple(variable.shape):
            raise UserError(
                f'{checkpoint.path}: {theirs} has shape {value.shape}; a residual stack with {_in_words(args)} has '
                f'{tuple(variable.shape)}'
            )
        check_numbers(value, theirs, str(checkpoint.path))
    for name in weights.keys() - variables.keys():
        raise UserError(
            f'{checkpoint.path} has a parameter {weights[name][0]}, which a residual stack with {_in_words(args)} does '
            'not have'
        )
    for name, variable in variables.items():
        variable.assign(weights[name][1])
    return model


def _in_words(args: Mapping[str, Any]) -> str:
    shown = ('depth', 'convs', 'features', 'kernel')
    norm = 'with' if args['layer_norm'] else 'without'
    return f'{", ".join(f"{name} {args[name]}" for name in shown)}, {norm} layer norm'


def read_step(checkpoint: FlaxCheckpoint) -> int | None:
    """The training step, where the checkpoint or its name tells it.

    Raises:
      UserError: it is no number.
    """
    if 'step' not in checkpoint.readers:
        return checkpoint.step
    step = checkpoint.read('step')
    with damage_told(checkpoint.path, 'its step is no number'):
        return max(int(step.item()), 0)


def _some(names: Collection[str]) -> str:
    """Names for a message; not all of many."""
    shown = [name or 'those at the top' for name in sorted(names)]
    return ', '.join(shown[:_SHOWN]) + (', …' if len(shown) > _SHOWN else '') or 'none'
