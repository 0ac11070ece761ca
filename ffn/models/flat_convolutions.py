"""3-d convolutions as 2-d ones of the sections, for JAX, which has fast kernels for these alone.

A section and its neighbours along z become the channels of one image. The sums are those of the 3-d convolution, in another
order. doc/performance.md has what it brings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras


def flatten_convolutions(model: keras.Model) -> None:
    """Lets the plain 3-d convolutions of a network compute as 2-d ones; weights and their names stay as they are."""
    replace_convolutions(model, convolve, lambda layer: all(n % 2 for n in layer.kernel_size))


def replace_convolutions(
    model: keras.Model,
    convolve: Callable[..., Any],
    suits: Callable[[keras.layers.Conv3D], bool],
) -> None:
    """Lets the plain 3-d convolutions of a network compute in another way.

    Args:
      model: the network.
      convolve: (inputs, kernel, padding=…) → what a convolution without strides, dilation and groups gives; inputs are
        [b, z, y, x, channels].
      suits: which of them are replaced.
    """
    for layer in model.layers:
        if type(layer) is keras.layers.Conv3D and _is_plain(layer) and suits(layer):
            layer.convolution_op = functools.partial(convolve, padding=layer.padding)


def _is_plain(layer: keras.layers.Conv3D) -> bool:
    return (
        layer.data_format == 'channels_last'
        and layer.groups == 1
        and {*layer.strides, *layer.dilation_rate} == {1}
    )


def convolve(inputs: Any, kernel: Any, padding: str) -> Any:
    """Computes a 3-d convolution.

    Args:
      inputs: [b, z, y, x, channels].
      kernel: [z, y, x, channels, filters], odd sizes.
      padding: 'same' or 'valid'.

    Returns:
      [b, z, y, x, filters].
    """
    ops = keras.ops
    thickness, *section, channels, filters = kernel.shape
    if (thickness, *section) == (1, 1, 1):
        return ops.matmul(inputs, kernel[0, 0, 0])
    if padding == 'same' and thickness > 1:
        inputs = ops.pad(inputs, [(0, 0), (thickness // 2, thickness // 2), *[(0, 0)] * 3])
    sections = inputs.shape[1] - thickness + 1
    stacked = ops.concatenate([inputs[:, i : i + sections] for i in range(thickness)], axis=-1)
    images = ops.reshape(stacked, (-1, *stacked.shape[2:]))
    flat = ops.reshape(ops.moveaxis(kernel, 0, 2), (*section, thickness * channels, filters))
    found = ops.conv(images, flat, padding=padding)
    return ops.reshape(found, (-1, sections, *found.shape[1:]))
