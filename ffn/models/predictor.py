"""Turns a model into a function of NumPy arrays; the one place where inference meets a framework.

The active Keras backend runs it: TensorFlow, JAX or PyTorch (environment variable KERAS_BACKEND).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import logging

from ffn.models.model import FFNModel, create_model
from ffn.models.precision import backend, gpu_capability
from ffn.models.weights import load_weights

# (images, seeds), both float32 [b, z, y, x, 1] → logits of that shape.
Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load_model(
    name: str,
    args: Mapping[str, Any],
    checkpoint: str,
    *,
    use_ema: bool = False,
    precision: str = 'float32',
) -> FFNModel:
    """Makes a network and loads its weights.

    Args:
      name: '[package.]module.Class'.
      args: arguments of its class.
      checkpoint: its weights, see `load_weights`.
      use_ema: load the running averages of the weights.
      precision: what its layers hold and compute in, see `ffn.models.precision`.

    Raises:
      UserError: unknown network, arguments that it does not take, or weights that do not fit.
    """
    model = create_model(name, args, precision)
    step = load_weights(model, checkpoint, use_ema)
    averaged = ', averaged weights' if use_ema else ''
    logging.info('loaded %s, step %d%s, as %s', checkpoint, step, averaged, precision)
    return model


@contextlib.contextmanager
def using_tf32(allowed: bool) -> Iterator[None]:
    """Sets for a while, and for the whole process, whether GPUs round float32 factors to 10 bits.

    `make_predictor` sets the same for good; this is for inference during a training.
    """
    if backend() == 'tensorflow':
        import tensorflow as tf

        settings = tf.config.experimental
        get = settings.tensor_float_32_execution_enabled
        put = settings.enable_tensor_float_32_execution
    elif backend() == 'torch':
        from torch.backends import cudnn

        get, put = (lambda: cudnn.allow_tf32), (lambda on: setattr(cudnn, 'allow_tf32', on))
    else:  # JAX has it as part of what is compiled
        yield
        return
    before = get()
    put(allowed)
    try:
        yield
    finally:
        put(before)


def make_predictor(model: FFNModel, tf32: bool = False) -> Predict:
    """Compiles a model for inference on the active Keras backend.

    Args:
      model: the network; its weights are used as they are in each call.
      tf32: lets a GPU multiply float32 numbers with 10 bits of mantissa, for the whole process.

    Returns:
      (images, seeds), both float32 [b, z, y, x, 1] → new logits, float32 of the same shape, which
      are not to be written to.

    Raises:
      UserError: a backend that is not supported.
    """
    makers = {'tensorflow': _tensorflow, 'jax': _jax, 'torch': _torch}
    return makers[backend()](model, tf32)


def _tensorflow(model: FFNModel, tf32: bool) -> Predict:
    import tensorflow as tf

    on_gpu = gpu_capability() is not None
    if on_gpu:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    spec = tf.TensorSpec((None, *model.info.input_image_size.zyx, 1), tf.float32)

    # XLA compiles for every size of batch; its 3-d convolutions are slow on a CPU.
    @tf.function(input_signature=(spec, spec), jit_compile=on_gpu, autograph=False)
    def step(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return model((images, seeds), training=False)

    @functools.cache
    def traced() -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        # Called itself, a step would look for the trace that fits its arguments each time.
        return step.get_concrete_function()

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        return traced()(tf.constant(images), tf.constant(seeds)).numpy()

    return _in_sizes_of_two(predict) if on_gpu else predict


def _jax(model: FFNModel, tf32: bool) -> Predict:
    import jax

    variables = model.trainable_variables, model.non_trainable_variables

    @jax.jit
    def step(weights: Any, images: Any, seeds: Any) -> Any:
        with jax.default_matmul_precision('tensorfloat32' if tf32 else 'float32'):
            return model.stateless_call(*weights, (images, seeds), training=False)[0]

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        weights = tuple([variable.value for variable in group] for group in variables)
        return np.asarray(step(weights, images, seeds))

    return _in_sizes_of_two(predict)


def _torch(model: FFNModel, tf32: bool) -> Predict:
    import torch

    on_gpu = gpu_capability() is not None
    device = 'cuda' if on_gpu else 'cpu'
    call: Callable = model
    if on_gpu:
        torch.backends.cudnn.allow_tf32 = tf32
        # What its compiler cannot do runs as it is.
        torch._dynamo.config.suppress_errors = True
        call = torch.compile(model)

    def predict(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = [torch.from_numpy(array).to(device) for array in (images, seeds)]
            return call(batch, training=False).cpu().numpy()

    return _in_sizes_of_two(predict) if on_gpu else predict


def _in_sizes_of_two(predict: Predict) -> Predict:
    """Fills batches up to a power of two, so that few sizes have to be compiled for."""

    def filled(images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        size = len(images)
        missing = (1 << (size - 1).bit_length()) - size
        if not missing:
            return predict(images, seeds)
        images, seeds = (
            np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
            for array in (images, seeds)
        )
        return predict(images, seeds)[:size]

    return filled
