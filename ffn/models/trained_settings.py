"""What a network was trained with, for requests that use it.

Training leaves its settings as `model.json` beside the checkpoints. A request takes over from there
what it does not set, and where it sets something else, that is worth a warning.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from ffn.utils.errors import UserError
from ffn.utils.plugins import json_args
from ffn.utils.startup import startup_messages_hidden

if TYPE_CHECKING:
    from ffn.inference import inference_pb2

# Field of the request, or of its inference_options → name in the settings.
_FIELDS = {name: name for name in ('model_name', 'image_mean', 'image_stddev')}
_OPTIONS = {'init_activation': 'init_activation', 'pad_value': 'seed_pad',
            'move_threshold': 'threshold'}  # fmt: skip
_SIZE = ('x', 'y', 'z')


def fill_from_training(request: inference_pb2.InferenceRequest, quiet: bool = False) -> list[str]:
    """Sets the fields that a request leaves out and the training of its network knows.

    These are model_name, model_args, image_mean, image_stddev, voxel_size, and of inference_options
    init_activation, pad_value and move_threshold. What the request sets stays.

    Args:
      request: is changed.
      quiet: says nothing of it in the log.

    Returns:
      Names of the fields that were filled; none where there are no settings.

    Raises:
      UserError: settings that are damaged.
    """
    settings = _settings_of(request)
    if not settings:
        return []
    trained = _as_request(settings, request.model_checkpoint_path)
    if request.HasField('voxel_size'):
        trained.ClearField('voxel_size')  # which would be completed axis by axis
    set_before = {name for name, _ in _leaves(request)}
    filled = {name: value for name, value in _leaves(trained) if name not in set_before}
    if filled:
        trained.MergeFrom(request)
        request.CopyFrom(trained)
    if filled and not quiet:
        _log_filled(request.model_checkpoint_path, settings, filled)
    return list(filled)


def _log_filled(path: str, settings: Mapping[str, Any], filled: Mapping[str, Any]) -> None:
    values = ', '.join(f'{name} {_text(value)}' for name, value in filled.items())
    logging.info('taken over from the training of %s: %s', path, values)
    own = _own_normalization(settings, path)
    if own and not {'image_mean', 'image_stddev'}.isdisjoint(filled):
        logging.warning(
            'in training, some volumes had an image_mean and image_stddev of their own (%s); set '
            'these if the image is like one of them',
            ', '.join(f'{name}: {mean:g} and {stddev:g}' for name, (mean, stddev) in own.items()),
        )


def contradictions(request: inference_pb2.InferenceRequest) -> list[str]:
    """Compares a request with the training of its network, as far as that is known.

    Args:
      request: with all fields that inference needs.

    Returns:
      For each that the network was not trained with, a line that says so.

    Raises:
      UserError: settings that are damaged.
    """
    settings = _settings_of(request)
    if not settings:
        return []
    trained = dict(_leaves(_as_request(settings, request.model_checkpoint_path)))
    given = dict(_leaves(request))
    if _normalized_as_one_volume(request, settings):
        trained = {name: v for name, v in trained.items() if not name.startswith('image_')}
    found = [
        (name, given[name], expected)
        for name, expected in trained.items()
        if name in given and name != 'model_args' and not _same(name, given[name], expected)
    ]
    if 'model_args' in trained and 'model_name' not in (name for name, *_ in found):
        args = [json_args(a, 'model_args') for a in (request.model_args, trained['model_args'])]
        found[:0] = _other_args(request.model_name, *args)
    return [
        f'{name} is {_text(value)}, but the model was trained with {_text(expected)}'
        for name, value, expected in found
    ]


def _settings_of(request: inference_pb2.InferenceRequest) -> dict[str, Any]:
    path = request.model_checkpoint_path
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    # Keras, which takes seconds to load, is only needed where there may be settings.
    if not path or not any(folder.glob('*.json')):
        return {}
    with startup_messages_hidden():
        from ffn.models import saved_settings

    try:
        settings = saved_settings.read_settings(path)
    except UnicodeDecodeError as error:
        raise UserError(f'the settings beside {path} are damaged: {error}') from error
    if not isinstance(settings, dict | None):
        raise UserError(f'the settings beside {path} are damaged: they are no JSON object')
    return settings or {}


def _as_request(settings: Mapping[str, Any], path: str) -> inference_pb2.InferenceRequest:
    """A request that sets what the settings know and nothing else."""
    # protobuf is only needed where there are settings.
    from ffn.inference import inference_pb2

    request = inference_pb2.InferenceRequest()
    for into, fields in ((request, _FIELDS), (request.inference_options, _OPTIONS)):
        for field, name in fields.items():
            if (value := settings.get(name)) is not None:
                with _checked(path, name, value):
                    setattr(into, field, value)
    if (args := settings.get('model_args')) is not None:
        with _checked(path, 'model_args', args):
            text = args if isinstance(args, str) else json.dumps(args)
            json_args(text, 'model_args')
            request.model_args = text
    if (size := settings.get('voxel_size')) is not None:
        with _checked(path, 'voxel_size', size):
            for axis, value in zip(_SIZE, size, strict=True):
                setattr(request.voxel_size, axis, value)
    return request


@contextlib.contextmanager
def _checked(path: str, name: str, value: Any) -> Iterator[None]:
    """Turns what a value of the wrong kind raises into one line."""
    try:
        yield
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f'the settings beside {path} are damaged: {name} is {value!r}') from error


def _leaves(request: inference_pb2.InferenceRequest) -> Iterator[tuple[str, Any]]:
    """Names and values of the fields that training knows and the request sets."""
    for name in (*_FIELDS, 'model_args'):
        if request.HasField(name):
            yield name, getattr(request, name)
    if request.HasField('voxel_size'):
        yield 'voxel_size', [getattr(request.voxel_size, axis) for axis in _SIZE]
    for name in _OPTIONS:
        if request.inference_options.HasField(name):
            yield f'inference_options.{name}', getattr(request.inference_options, name)


def _same(name: str, given: Any, trained: Any) -> bool:
    if name != 'model_name':
        return np.allclose(given, trained, rtol=1e-5, atol=0)
    if given == trained:
        return True
    from ffn.models.model import model_class

    try:
        # With and without its package, say.
        return model_class(given) is model_class(trained)
    except UserError:
        return False


def _other_args(
    model_name: str, given: Mapping[str, Any], trained: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Arguments of a network that differ; one that is left out has its default."""
    from ffn.models.model import model_class

    parameters = inspect.signature(model_class(model_name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    pairs = [
        (name, given.get(name, defaults.get(name)), trained.get(name, defaults.get(name)))
        for name in dict.fromkeys([*given, *trained])
    ]
    return [(f'model_args.{name}', a, b) for name, a, b in pairs if _spread(a, b) != _spread(b, a)]


def _spread(value: Any, like: Any) -> Any:
    """A number where there could be a list stands for a list of that number."""
    if isinstance(value, int) and isinstance(like, list):
        return [value] * len(like)
    return value


def _own_normalization(settings: Mapping[str, Any], path: str) -> Mapping[str, Sequence[float]]:
    """Mean and standard deviation of the volumes that had others than the rest."""
    own = settings.get('image_offset_scale') or {}
    with _checked(path, 'image_offset_scale', own):
        return {str(name): (float(mean), float(stddev)) for name, (mean, stddev) in own.items()}


def _normalized_as_one_volume(
    request: inference_pb2.InferenceRequest, settings: Mapping[str, Any]
) -> bool:
    own = _own_normalization(settings, request.model_checkpoint_path)
    given = request.image_mean, request.image_stddev
    return any(np.allclose(given, pair, rtol=1e-5, atol=0) for pair in own.values())


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f'{value:g}'
    if isinstance(value, list) and all(isinstance(n, float) for n in value):
        return 'x,y,z ' + ','.join(f'{n:g}' for n in value)
    return value if isinstance(value, str) else json.dumps(value)
