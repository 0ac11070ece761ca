"""What a network was trained with: the part of its saved settings that inference takes over or checks."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffn.models.precision import backend
from ffn.models.saved_settings import read_settings
from ffn.utils.errors import UserError
from ffn.utils.plugins import json_args
from ffn.utils.startup import startup_messages_hidden


@dataclass(frozen=True)
class TrainedSettings:
    """Settings of a training; None where they were not saved.

    Attributes:
      model_name: '[package.]module.Class'.
      model_args: arguments of the network, JSON.
      image_mean: subtracted from the image.
      image_stddev: by which the image was divided then.
      voxel_size: physical size of a voxel, x, y, z, in any unit.
      init_activation: probability of the starting voxel.
      seed_pad: probability of voxels that the network has not seen yet.
      threshold: probability from which on the field of view moves to a voxel.
      volume_normalization: name → mean and standard deviation, of volumes with their own.
    """

    model_name: str | None
    model_args: str | None
    image_mean: float | None
    image_stddev: float | None
    voxel_size: tuple[float, float, float] | None
    init_activation: float | None
    seed_pad: float | None
    threshold: float | None
    volume_normalization: Mapping[str, tuple[float, float]]


def read_trained_settings(path: str) -> TrainedSettings | None:
    """Reads the settings that were saved with a checkpoint.

    Args:
      path: model_checkpoint_path of a request.

    Returns:
      The settings, None where there are none.

    Raises:
      UserError: settings that are damaged.
    """
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    # There may be no checkpoint at all, which is complained about where it is loaded.
    if not path or not any(folder.glob('*.json')):
        return None
    try:
        settings = read_settings(path)
    except UnicodeDecodeError as error:
        raise UserError(f'the settings beside {path} are damaged: {error}') from error
    return parse_trained_settings(settings, path) if settings else None


def parse_trained_settings(settings: Mapping[str, Any], path: str) -> TrainedSettings:
    """Turns settings as they are saved into `TrainedSettings`.

    Args:
      settings: see `ffn.training.inference_settings`.
      path: what they belong to, for errors.

    Raises:
      UserError: settings that are damaged.
    """
    return _Reader(path, settings).read()


class _Reader:
    """Turns settings as they were saved into `TrainedSettings`."""

    def __init__(self, path: str, settings: Mapping[str, Any]):
        self._path, self._settings = path, settings

    def read(self) -> TrainedSettings:
        return TrainedSettings(
            model_name=self._text('model_name'),
            model_args=self._json('model_args'),
            image_mean=self._number('image_mean'),
            image_stddev=self._number('image_stddev', lambda n: 0 < n < math.inf),
            voxel_size=self._triple('voxel_size'),
            init_activation=self._number('init_activation', _is_probability),
            seed_pad=self._number('seed_pad', _is_probability),
            threshold=self._number('threshold', _is_probability),
            volume_normalization=self._pairs('image_offset_scale'),
        )

    @contextlib.contextmanager
    def _checked(self, name: str) -> Iterator[Any]:
        """Yields a setting; turns what a value of the wrong kind raises into one line."""
        value = self._settings.get(name)
        try:
            yield value
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(
                f'the settings beside {self._path} are damaged: {name} is {value!r}; correct it, or take a copy'
            ) from error

    def _text(self, name: str) -> str | None:
        with self._checked(name) as value:
            if value is not None and not isinstance(value, str):
                raise TypeError('not text')
            return value

    def _number(
        self, name: str, is_possible: Callable[[float], bool] = math.isfinite
    ) -> float | None:
        with self._checked(name) as value:
            if value is None:
                return None
            if not is_possible(number := _as_number(value)):
                raise ValueError('no possible value')
            return number

    def _triple(self, name: str) -> tuple[float, float, float] | None:
        with self._checked(name) as value:
            if value is None:
                return None
            x, y, z = (_as_number(part) for part in value)
            if not all(0 < n < math.inf for n in (x, y, z)):
                raise ValueError('no positive lengths')
            return x, y, z

    def _json(self, name: str) -> str | None:
        with self._checked(name) as value:
            if value is None:
                return None
            text = value if isinstance(value, str) else json.dumps(value)
            json_args(text, name)
            return text

    def _pairs(self, name: str) -> dict[str, tuple[float, float]]:
        with self._checked(name) as value:
            pairs = (value or {}).items()
            return {str(key): (float(mean), float(stddev)) for key, (mean, stddev) in pairs}


def _is_probability(value: float) -> bool:
    return 0 < value < 1


def _as_number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError('not a number')
    return float(value)


def is_same_model(first: str, second: str) -> bool:
    """Whether two names, with and without a package, say, are those of the same network."""
    if first == second:
        return True
    try:
        return _model_class(first) is _model_class(second)
    except UserError:
        return False


def differing_args(
    model_name: str, given: Mapping[str, Any], trained: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Compares arguments of a network; one that is not given has its default.

    Args:
      model_name: the network.
      given: arguments, as parsed from JSON.
      trained: the same.

    Returns:
      (name, given value, trained value) of each argument that differs.
    """
    parameters = inspect.signature(_model_class(model_name)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    pairs = [
        (name, given.get(name, defaults.get(name)), trained.get(name, defaults.get(name)))
        for name in dict.fromkeys([*given, *trained])
    ]
    return [(name, a, b) for name, a, b in pairs if _spread(a, b) != _spread(b, a)]


def _model_class(name: str) -> type:
    """The class of a network. Loads Keras, and is where most commands do so first."""
    with startup_messages_hidden():
        try:
            from ffn.models.model import model_class
        except (ImportError, ValueError):
            backend()  # tells which one Keras lacks
            raise

    return model_class(name)


def _spread(value: Any, like: Any) -> Any:
    """A number where there could be a list stands for a list of that number."""
    if isinstance(value, int) and isinstance(like, list):
        return [value] * len(like)
    return value
