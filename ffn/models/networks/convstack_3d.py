"""The network of the papers: a stack of 3x3x3 convolutions in residual modules.

Januszewski et al., arXiv:1611.00421, and Nature Methods 2018, Supplementary Fig. 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from ffn.models.info import ModelInfo
from ffn.models.model import FFNModel
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz


class ConvStack3DFFNModel(FFNModel):
    """Two convolutions, depth - 1 residual modules of two each, and a 1x1x1 convolution.

    The field of view keeps its size from layer to layer.
    """

    def __init__(
        self,
        fov_size: Sequence[int],
        deltas: Sequence[int],
        depth: int = 9,
        features: int | Sequence[int] = 32,
    ):
        """Makes a network.

        Args:
          fov_size: field of view, x, y, z voxels, odd.
          deltas: how far it moves in one step, x, y, z voxels.
          depth: number of pairs of convolutions.
          features: channels of all 3x3x3 convolutions, or of each of the 2 * depth.

        Raises:
          UserError: sizes that are impossible.
        """
        fov, step = Xyz.parse(fov_size, 'fov_size'), Xyz.parse(deltas, 'deltas')
        if not isinstance(depth, int) or depth < 1:
            raise UserError(f'depth is {depth!r}; expected a whole number, 1 or more')
        given = features if isinstance(features, list | tuple) else [features] * (2 * depth)
        channels: list[Any] = list(given)  # of JSON: of any type, until it is checked
        if len(channels) != 2 * depth or not all(isinstance(n, int) and n > 0 for n in channels):
            raise UserError(
                f'features is {features!r}; expected a positive whole number, or one for each of the '
                f'{2 * depth} convolutions of depth {depth}'
            )
        for i in range(1, depth):
            if channels[2 * i + 1] != channels[1]:
                raise UserError(
                    f'features is {features}; the last of every pair is added to the one before and '
                    f'must be equal: {channels[2 * i + 1]} is not {channels[1]}'
                )
        super().__init__(ModelInfo(step, fov, fov, fov))
        self._pairs = [
            (_conv(f'conv{i}_a', channels[2 * i], 'relu'), _conv(f'conv{i}_b', channels[2 * i + 1]))
            for i in range(depth)
        ]
        # Logits are always float32.
        self._last = _conv('conv_lom', 1, size=1, dtype='float32')
        self.finish()

    def update(self, image: Any, seed: Any) -> Any:
        """See base class."""
        first, second = self._pairs[0]
        net = second(first(keras.ops.concatenate([image, seed], axis=-1)))
        for first, second in self._pairs[1:]:
            # Equal to net + second(...), to the last bit. TensorFlow's graph optimizer fuses
            # convolutions with bias and relu, but gives up on the whole network when it meets a chain
            # of additions.
            net = net - -second(first(keras.ops.relu(net)))
        return self._last(keras.ops.relu(net))


def _conv(
    name: str, channels: int, activation: str | None = None, size: int = 3, dtype: str | None = None
) -> keras.layers.Layer:
    return keras.layers.Conv3D(
        channels,
        size,
        padding='same',
        activation=activation,
        kernel_initializer='glorot_uniform',
        bias_initializer='zeros',
        data_format='channels_last',
        dtype=dtype,
        name=name,
    )
