"""The base of all networks: sizes, calling convention, and the names of variables; and finding one by name.

Keras only, so that a network runs on any Keras backend.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ffn.models.flat_convolutions import flatten_convolutions
from ffn.models.info import ModelInfo, check_sizes
from ffn.utils.errors import UserError
from ffn.utils.plugins import load_class

MODELS = 'ffn.models.networks'
# Where the networks of earlier installations are, those that users have added among them.
USER_MODELS = 'ffn.training.models'


class FFNModel(keras.Model):
    """Base of all networks: an additive update of the logits of one object's mask.

    Subclasses make their layers in `__init__`, end it with `finish()`, and implement `update`.

    Attributes:
      info: sizes.
      arguments: what `create_model` made it of; None where it was made otherwise.
    """

    arguments: Mapping[str, Any] | None = None

    def __init__(self, info: ModelInfo):
        """Makes a network of these sizes; the subclass adds its layers.

        Raises:
          UserError: sizes that are impossible.
        """
        # The layers compute in the precision that `create_model` was asked for; logits do not.
        super().__init__(dtype='float32')
        check_sizes(info)
        self.info = info

    def finish(self) -> None:
        """Creates the variables, by calling the network on symbolic inputs."""
        sizes = self.info.input_image_size, self.info.input_seed_size
        self([keras.KerasTensor((None, *size.zyx, 1), dtype='float32') for size in sizes])

    def update(self, image: Any, seed: Any) -> Any:
        """The network itself.

        Args:
          image: float32 [b, z, y, x, 1], normalized.
          seed: float32 [b, z, y, x, 1], logits.

        Returns:
          float32 [b, z, y, x, 1] of `pred_mask_size`: the update of the seed's centre, in logits.
        """
        raise NotImplementedError

    def call(self, inputs: Sequence[Any], training: bool = False) -> Any:
        """Computes new logits.

        Args:
          inputs: image and seed, float32 [b, z, y, x, 1].
          training: whether weights are being learned; makes no difference to these networks.

        Returns:
          float32 [b, z, y, x, 1]: the seed plus the update, which covers the seed's centre.
        """
        image, seed = inputs
        update = keras.ops.cast(self.update(image, seed), 'float32')
        edges = self.info.edge.zyx
        if any(edges):
            update = keras.ops.pad(update, [(0, 0), *((e, e) for e in edges), (0, 0)])
        return seed + update

    def initialize(self, rng: np.random.Generator) -> None:
        """Draws Glorot uniform weights and sets biases to 0 and scales to 1, the same for equal generators."""
        for name, variable in self.named_variables().items():
            if len(variable.shape) == 1:
                value = 1 if name.endswith('/scale') else 0
                variable.assign(np.full(variable.shape, value, np.float32))
                continue
            *kernel, inputs, outputs = variable.shape
            limit = math.sqrt(6 / (math.prod(kernel) * (inputs + outputs)))
            variable.assign(rng.uniform(-limit, limit, variable.shape).astype(np.float32))

    def named_variables(self) -> dict[str, keras.Variable]:
        """The variables, by their names in checkpoints."""
        names = {}
        for layer in self.layers:
            kind = 'scale' if isinstance(layer, keras.layers.LayerNormalization) else 'weights'
            for variable, name in zip(layer.trainable_variables, (kind, 'biases'), strict=True):
                names[f'seed_update/{layer.name}/{name}'] = variable
        return names


def known_models() -> list[str]:
    """Names of the networks in `ffn.models.networks`, in the form that `model_name` takes."""
    package = importlib.import_module(MODELS)
    return sorted(
        f'{module.name}.{name}'
        for module in pkgutil.iter_modules(package.__path__)
        for name, cls in vars(importlib.import_module(f'{MODELS}.{module.name}')).items()
        if inspect.isclass(cls) and issubclass(cls, FFNModel) and cls is not FFNModel
    )


def model_class(name: str) -> type[FFNModel]:
    """Finds a network.

    Args:
      name: 'module.Class' of ffn.models.networks or else of ffn.training.models, or 'package.module.Class'.

    Raises:
      UserError: there is none; lists those that exist.
    """
    known = known_models()
    package = '' if name.count('.') > 1 else MODELS if name in known else USER_MODELS
    places = [f'{", ".join(known)} in {MODELS}', f'module.Class in {USER_MODELS}']
    return load_class(name, package, FFNModel, 'model_name', lambda: places)


def create_model(name: str, args: Mapping[str, Any], precision: str = 'float32') -> FFNModel:
    """Makes a network with fresh weights.

    Args:
      name: see `model_class`.
      args: arguments of its class.
      precision: dtype policy of its layers: 'float32', 'bfloat16' or 'float16', or ``mixed_`` before one
        of the latter for float32 weights. Logits are always float32.

    Raises:
      UserError: unknown network, or arguments that it does not take.
    """
    cls = model_class(name)
    signature = inspect.signature(cls)
    try:
        signature.bind(**args)
    except TypeError as error:
        raise UserError(
            f'model_args do not fit {name}: {error}; it takes {", ".join(signature.parameters)}'
        ) from error
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = cls(**args)
    finally:
        keras.config.set_dtype_policy(before)
    if keras.config.backend() == 'jax':
        flatten_convolutions(model)
    model.arguments = dict(args)
    return model
