"""Turns a model into a function of NumPy arrays; the one place where inference meets a framework."""

from __future__ import annotations

import keras
import numpy as np
from absl import logging

from ffn.inference import inference_pb2
from ffn.inference.executor import Predict
from ffn.inference.movement import json_args
from ffn.training import checkpoints
from ffn.training.model import FFNModel, create_model
from ffn.utils.errors import UserError

# Request fields beside the training settings that they should agree with.
_OPTIONS_LIKE_TRAINING = {'pad_value': 'seed_pad', 'move_threshold': 'threshold'}


def load_model(request: inference_pb2.InferenceRequest) -> FFNModel:
    """Makes the model of a request and loads its weights.

    Warns where the request contradicts the settings that the model was trained with, as far as
    these were saved with the checkpoint.

    Raises:
      UserError: unknown model, arguments that it does not take, or weights that do not fit.
    """
    model = create_model(request.model_name, json_args(request.model_args, 'model_args'))
    step = checkpoints.load_weights(model, request.model_checkpoint_path)
    logging.info('loaded %s, step %d', request.model_checkpoint_path, step)
    trained = checkpoints.read_settings(request.model_checkpoint_path) or {}
    given = {name: getattr(request, name) for name in ('image_mean', 'image_stddev')}
    expected = {name: trained.get(name) for name in given}
    for option, setting in _OPTIONS_LIKE_TRAINING.items():
        given[f'inference_options.{option}'] = getattr(request.inference_options, option)
        expected[f'inference_options.{option}'] = trained.get(setting)
    for name, value in given.items():
        if expected[name] is not None and not np.isclose(value, expected[name]):
            logging.warning(
                '%s is %g, but the model was trained with %g', name, value, expected[name]
            )
    return model


def make_predictor(model: FFNModel) -> Predict:
    """Compiles a model for inference on the active Keras backend.

    Args:
      model: the network with its weights.

    Returns:
      (images, seeds), both float32 [b, z, y, x, 1] → new logits, float32 of the same shape.

    Raises:
      UserError: a backend that is not supported.
    """
    if keras.backend.backend() != 'tensorflow':
        raise UserError(
            f'Keras runs on {keras.backend.backend()}; expected tensorflow: unset KERAS_BACKEND'
        )
    import tensorflow as tf

    fov_zyx = model.info.input_image_size.zyx
    spec = tf.TensorSpec((None, *fov_zyx, 1), tf.float32)

    @tf.function(input_signature=(spec, spec))
    def step(images, seeds):
        return model((images, seeds), training=False)

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        return step(tf.constant(images), tf.constant(seeds)).numpy()

    return predict


def describe_device() -> str:
    """Says what the network runs on, for the log."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices('GPU')
    if not gpus:
        return 'CPU (no GPU was found)'
    return ', '.join(
        tf.config.experimental.get_device_details(g).get('device_name', g.name) for g in gpus
    )
