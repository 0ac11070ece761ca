"""Weights as Keras writes them, NAME.weights.h5, which load under every Keras backend."""

from __future__ import annotations

import inspect
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ffn.models.checkpoints import KERAS_ENDING
from ffn.models.model import FFNModel
from ffn.models.saved_settings import read_settings, settings_path
from ffn.utils.atomic import atomic_path
from ffn.utils.checksums import KEY, file_digest
from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import open_hdf5
from ffn.volumes.hdf5_links import refuse_external

# In the settings beside a file: its SHA-256.
DIGEST = 'weights_sha256'
# Arguments of networks whose arrays may be the same although they compute something else.
_TOPOLOGY = ('depth', 'convs', 'layer_norm', 'padding')


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
            _check_arrays(model, file)
        _check_topology(model, settings, path)
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
    _check_finite(model, path)
    return read_step(path)


def _check_finite(model: FFNModel, path: str | Path) -> None:
    for name, variable in model.named_variables().items():
        if not np.isfinite(np.asarray(variable)).all():
            raise UserError(
                f'{path} is damaged: {name} holds values that are not finite; take a copy'
            )


def _check_arrays(model: FFNModel, file: h5py.File) -> None:
    """Checks that a file holds the arrays of a network and no others.

    Keras takes what it finds layer by layer in the order of their kinds, and leaves the rest.

    Raises:
      ValueError: it does not; says which layers differ.
    """
    stored: Counter[tuple[str, tuple[int, ...]]] = Counter()

    def count(_: str, item: Any) -> None:
        if (
            isinstance(item, h5py.Dataset) and item.dtype.kind not in 'iub'
        ):  # no states of random numbers
            # Early releases of Keras 3 did not write which layer it is.
            stored[str(item.parent.attrs.get('name', '')), item.shape] += 1

    file.visititems(count)
    named = all(layer for layer, _ in stored)
    needed = Counter(
        (weight.path.split('/')[-2] if named else '', tuple(weight.shape))
        for weight in model.weights
    )
    if _without_counts(stored) != _without_counts(needed):
        raise ValueError(
            f'it has {stored.total()} arrays and this model needs {needed.total()}; '
            f'lacking: {_describe(needed - stored)}; beyond: {_describe(stored - needed)}'
        )


def _without_counts(
    arrays: Counter[tuple[str, tuple[int, ...]]],
) -> Counter[tuple[str, tuple[int, ...]]]:
    """The same without the numbers that Keras appends to names of its own, which differ from process to process."""
    found: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for (layer, shape), count in arrays.items():
        found[re.sub(r'_\d+$', '', layer), shape] += count
    return found


def _describe(arrays: Counter[tuple[str, tuple[int, ...]]]) -> str:
    texts = [f'{layer} {shape}'.strip() for layer, shape in sorted(arrays)]
    return ', '.join(texts[:3]) + (', …' if len(texts) > 3 else '') or 'none'


def _check_topology(model: FFNModel, settings: Mapping[str, Any], path: str | Path) -> None:
    """Checks a network against the settings beside its weights, where both are known.

    Raises:
      UserError: they differ in what arrays do not show.
    """
    given, args = model.arguments, settings.get('model_args')
    name = str(settings.get('model_name')).rpartition('.')[2]
    if given is None or not isinstance(args, dict) or name != type(model).__name__:
        return
    parameters = inspect.signature(type(model)).parameters
    for one in (one for one in _TOPOLOGY if one in parameters):
        default = parameters[one].default
        trained, now = args.get(one, default), given.get(one, default)
        if trained != now:
            raise UserError(
                f'{path} is of a network with {one} {trained}, as {settings_path(path)} says, and model_args make it {now}'
            )


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
