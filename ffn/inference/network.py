"""The network of a configuration, with its weights, as a function, and as what canvases are given."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from absl import logging

from ffn.inference.config import InferenceConfig
from ffn.inference.core import movement
from ffn.inference.device_executor import DeviceExecutor, make_steps
from ffn.inference.executor import Executor
from ffn.utils.errors import UserError
from ffn.volumes.provenance import model_digest

if TYPE_CHECKING:
    from ffn.models.model import FFNModel
    from ffn.models.predictor import Predict


# Set to 1, the environment variable keeps images and seeds on the device.
VARIABLE = 'FFN_DEVICE_CANVAS'


def load_network(config: InferenceConfig, given: FFNModel | None = None) -> FFNModel:
    """Loads the network of a configuration; for int8, in float32, of which `make_predictor` makes integers.

    Args:
      config: resolved.
      given: a network to use instead.

    Raises:
      UserError: unknown network, arguments that it does not take, weights that do not fit, or a machine that does
        not compute in int8.
    """
    if given is not None:
        if config.precision == 'int8':
            raise UserError(
                'precision int8 is for networks that are loaded from a checkpoint, and one is given here; leave it out'
            )
        return given
    from ffn.models.precision import choose_precision
    from ffn.models.predictor import load_model

    precision = choose_precision(config.precision)
    if precision == 'int8':
        from ffn.models.int8 import check_int8

        check_int8()
    return load_model(
        config.model_name,
        config.model_args,
        config.model_checkpoint_path,
        use_ema=config.use_ema,
        precision='float32' if precision == 'int8' else precision,
    )


def weights_digest(config: InferenceConfig, given: FFNModel | None = None) -> str:
    """SHA-256 of the weights of a configuration; '' where a network is given, or there is no file of weights.

    Args:
      config: resolved.
      given: see `load_network`.
    """
    if given is None:
        with contextlib.suppress(UserError):
            return model_digest(config.model_checkpoint_path)
    return ''


def make_predictor(config: InferenceConfig, model: FFNModel) -> Predict:
    """Compiles the network of a configuration; see `ffn.models.predictor.make_predictor`.

    Args:
      config: resolved, with the ranges that int8 needs.
      model: the network.

    Raises:
      UserError: the ranges do not fit the network.
    """
    if config.precision == 'int8':
        from ffn.models import int8

        return int8.make_predictor(model, config.int8_ranges)
    from ffn.models.predictor import make_predictor as compile_model

    return compile_model(model)


def make_executor(config: InferenceConfig, model: FFNModel) -> Executor:
    """Makes what runs the network of a configuration: with FFN_DEVICE_CANVAS=1, on the device, where that is possible.

    Args:
      config: resolved, with the ranges that int8 needs.
      model: the network.

    Raises:
      UserError: see `make_predictor`.
    """
    predict = make_predictor(config, model)
    if os.environ.get(VARIABLE, '') in ('', '0'):
        return Executor(predict, config.batch_size)
    if reason := _why_not(config):
        logging.info('%s has no effect: %s', VARIABLE, reason)
        return Executor(predict, config.batch_size)
    logging.info('images and seeds stay on the device (%s)', VARIABLE)
    steps = make_steps(model, config.options, config.concurrent_requests)
    return DeviceExecutor(predict, steps, config.batch_size)


def _why_not(config: InferenceConfig) -> str:
    """What is in the way of images and seeds on the device; '' where nothing is."""
    from ffn.models.precision import backend

    if (name := backend()) == 'tensorflow':
        return f'it is for KERAS_BACKEND=jax or torch, and that is {name}'
    if not movement.is_face_policy(config.movement_policy_name):
        return f'{config.movement_policy_name} needs all logits of a step'
    return ''
