"""Requests, their image and the training of their network: what is taken over, and what contradicts.

Training saves its settings beside the checkpoints (`ffn.models.trained_settings`). A request takes over
from there what it does not set; where it sets something else, that is worth a warning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging
from scipy.special import expit

from ffn.inference import inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.models.trained_settings import (
    TrainedSettings,
    differing_args,
    is_same_model,
    read_trained_settings,
)
from ffn.utils.errors import UserError
from ffn.utils.plugins import json_args
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.volume import VolumeSource

_OPTIONS = 'inference_options'
_AXES = ('x', 'y', 'z')


def fill_from_training(request: inference_pb2.InferenceRequest, quiet: bool = False) -> list[str]:
    """Sets the fields that a request does not set and the training of its network knows.

    These are model_name, model_args, image_mean, image_stddev, voxel_size, and of inference_options
    init_activation, pad_value and move_threshold. Fields that the request sets are kept.

    Args:
      request: is changed.
      quiet: do not log what was filled.

    Returns:
      Names of the fields that were filled; none where no settings were saved.

    Raises:
      UserError: settings that are damaged.
    """
    path = request.model_checkpoint_path
    trained = read_trained_settings(path)
    if trained is None:
        return []
    filled = fill_unset(request, trained)
    if filled and not quiet:
        _log_filled(path, trained, filled)
    return list(filled)


def fill_unset(request: inference_pb2.InferenceRequest, trained: TrainedSettings) -> dict[str, Any]:
    """Sets the fields that a request does not set and a training knows; see `fill_from_training`.

    Returns:
      Field → value that was set.
    """
    filled = {
        name: value for name, value in _known_fields(trained).items() if not _is_set(request, name)
    }
    for name, value in filled.items():
        _set(request, name, value)
    return filled


def take_voxel_size_of_image(request: inference_pb2.InferenceRequest, quiet: bool = False) -> None:
    """Sets voxel_size to that of the image, if a request does not set it; warns where it differs.

    Args:
      request: is changed.
      quiet: log nothing.
    """
    try:
        with VolumeSource.from_proto(request.image, 'image').open() as image:
            found = image.voxel_size
    except UserError:
        return  # complained about where the image is read
    if found is None:
        return
    if not _is_set(request, 'voxel_size'):
        _set(request, 'voxel_size', found.xyz)
    elif not quiet:
        given = request.voxel_size
        own = KnownVoxelSize((given.x, given.y, given.z), 'voxel_size of the request')
        agreed_voxel_size([own, found.of(request.image.hdf5 or 'the image')])


def _known_fields(trained: TrainedSettings) -> dict[str, Any]:
    """Field of a request → what the training knows of it."""
    known = {
        'model_name': trained.model_name,
        'image_mean': trained.image_mean,
        'image_stddev': trained.image_stddev,
        'model_args': trained.model_args,
        'voxel_size': trained.voxel_size,
        f'{_OPTIONS}.init_activation': trained.init_activation,
        f'{_OPTIONS}.pad_value': trained.seed_pad,
        f'{_OPTIONS}.move_threshold': trained.threshold,
    }
    return {name: value for name, value in known.items() if value is not None}


def _is_set(request: inference_pb2.InferenceRequest, name: str) -> bool:
    outer, _, option = name.rpartition('.')
    return request.inference_options.HasField(option) if outer else request.HasField(name)


def _set(request: inference_pb2.InferenceRequest, name: str, value: Any) -> None:
    outer, _, option = name.rpartition('.')
    if name == 'voxel_size':
        for axis, size in zip(_AXES, value, strict=True):
            setattr(request.voxel_size, axis, size)
    elif outer:
        setattr(request.inference_options, option, value)
    else:
        setattr(request, name, value)


def _log_filled(path: str, trained: TrainedSettings, filled: Mapping[str, Any]) -> None:
    values = ', '.join(f'{name} {_format(value)}' for name, value in filled.items())
    logging.info('taken over from the training of %s: %s', path, values)
    own = trained.volume_normalization
    if own and not {'image_mean', 'image_stddev'}.isdisjoint(filled):
        logging.warning(
            'in training, some volumes had an image_mean and image_stddev of their own (%s); set '
            'these if the image is like one of them',
            ', '.join(f'{name}: {mean:g} and {stddev:g}' for name, (mean, stddev) in own.items()),
        )


def find_contradictions(config: InferenceConfig) -> list[str]:
    """Compares a configuration with the training of its network, as far as that is known.

    Returns:
      One line for each setting that the network was not trained with.

    Raises:
      UserError: settings that are damaged.
    """
    trained = read_trained_settings(config.model_checkpoint_path)
    if trained is None:
        return []
    known = _known_fields(trained)
    given = _given_fields(config)
    if _is_normalized_as_one_volume(config, trained):
        known = {name: v for name, v in known.items() if not name.startswith('image_')}
    found = [
        (name, given[name], expected)
        for name, expected in known.items()
        if name in given and not _agree(name, given[name], expected)
    ]
    if trained.model_args is not None and 'model_name' not in (name for name, *_ in found):
        args = json_args(trained.model_args, 'model_args')
        found[:0] = [
            (f'model_args.{name}', used, expected)
            for name, used, expected in differing_args(config.model_name, config.model_args, args)
        ]
    return [
        f'{name} is {_format(value)}, but the model was trained with {_format(expected)}'
        for name, value, expected in found
    ]


def warn_of_contradictions(config: InferenceConfig) -> None:
    """Logs what `find_contradictions` finds."""
    for line in find_contradictions(config):
        logging.warning('%s', line)


def _given_fields(config: InferenceConfig) -> dict[str, Any]:
    """Field of a request → what a configuration has for it, model_args excepted."""
    options = config.options
    given = {
        'model_name': config.model_name,
        'image_mean': config.image_mean,
        'image_stddev': config.image_stddev,
        f'{_OPTIONS}.init_activation': float(expit(options.init_activation)),
        f'{_OPTIONS}.pad_value': float(expit(options.pad_value)),
        f'{_OPTIONS}.move_threshold': float(expit(options.move_threshold)),
    }
    return given if config.voxel_size is None else given | {'voxel_size': config.voxel_size}


def _agree(name: str, given: Any, trained: Any) -> bool:
    if name == 'model_name':
        return is_same_model(given, trained)
    return np.allclose(given, trained, rtol=1e-5, atol=0)


def _is_normalized_as_one_volume(config: InferenceConfig, trained: TrainedSettings) -> bool:
    given = config.image_mean, config.image_stddev
    own = trained.volume_normalization.values()
    return any(np.allclose(given, pair, rtol=1e-5, atol=0) for pair in own)


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:g}'
    if isinstance(value, tuple):
        return 'x,y,z ' + ','.join(f'{n:g}' for n in value)
    return value if isinstance(value, str) else json.dumps(value)
