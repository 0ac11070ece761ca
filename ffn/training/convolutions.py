"""How the weights of 3-d convolutions learn on processors without AVX-512: as those of 2-d ones.

There, oneDNN has no fast kernel for the gradient of the weights of a 3-d convolution. That of 2-d convolutions of the
sections takes a half to three quarters of its time where there are few channels; see doc/performance.md.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ffn.models.flat_convolutions import replace_convolutions
from ffn.models.model import FFNModel
from ffn.models.precision import cpu_has_avx512, gpu_capability


def prepare_for_training(model: FFNModel) -> None:
    """Lets convolutions of a network compute their gradients in the way that is fast on this machine.

    What they compute stays the same, and their gradients but for the order of summation.
    """
    if gpu_capability() is not None or cpu_has_avx512():
        return
    # Other precisions have no fast kernels for 2-d ones either.
    replace_convolutions(model, convolve, lambda layer: layer.compute_dtype == 'float32')


def convolve(inputs: Any, kernel: Any, padding: str) -> Any:
    """Computes a convolution, for whose gradient by the kernel sections are taken for images.

    Args:
      inputs: float32 [b, z, y, x, channels].
      kernel: float32 [z, y, x, channels, filters].
      padding: 'same' or 'valid'.

    Returns:
      float32 [b, z, y, x, filters].
    """
    options = {'strides': [1] * 5, 'padding': padding.upper()}

    @tf.custom_gradient
    def convolved(inputs: Any, kernel: Any) -> Any:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_inputs = tf.raw_ops.Conv3DBackpropInputV2(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=upstream, **options
            )
            return of_inputs, _gradient_of_kernel(inputs, kernel.shape, upstream, padding)

        return tf.nn.conv3d(inputs, kernel, **options), gradients

    return convolved(inputs, tf.convert_to_tensor(kernel))


def _gradient_of_kernel(inputs: Any, shape: Any, upstream: Any, padding: str) -> Any:
    """For each section of the kernel, the gradient of a 2-d convolution of the sections that it meets."""
    thickness, *section = shape
    if padding == 'same':
        before = (thickness - 1) // 2
        inputs = tf.pad(inputs, [(0, 0), (before, thickness - 1 - before), (0, 0), (0, 0), (0, 0)])

    def as_images(volume: Any) -> Any:
        return tf.reshape(volume, (-1, *volume.shape[2:]))

    return tf.stack(
        [
            tf.raw_ops.Conv2DBackpropFilter(
                input=as_images(inputs[:, z : z + upstream.shape[1]]),
                filter_sizes=section,
                out_backprop=as_images(upstream),
                strides=[1] * 4,
                padding=padding.upper(),
            )
            for z in range(thickness)
        ]
    )
