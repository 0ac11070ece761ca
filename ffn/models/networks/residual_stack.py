"""A residual stack with layer normalisation before each activation, as flood-filling networks since 2024 use.

Pre-activation residual modules: He et al., arXiv:1603.05027. Layer normalisation: Ba et al., arXiv:1607.06450. The
same stack without normalisation computes what `convstack_3d.ConvStack3DFFNModel` does, with a depth one lower.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import keras

from ffn.models.info import ModelInfo
from ffn.models.model import FFNModel
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

# What Flax adds to variances.
_EPSILON = 1e-6
_MOST_CONVS = len(string.ascii_lowercase)
PADDINGS = ('same', 'valid')


class ResidualStackFFNModel(FFNModel):
    """An input stage, `depth` residual modules, and a 1x1x1 convolution.

    A stage is `convs` convolutions. The first of the input stage is normalized; in a residual module, the input is.
    Every further convolution of a stage sees its predecessor rectified. With padding 'valid', the prediction is
    smaller than the field of view, and none of its voxels depends on zeros beyond that.
    """

    def __init__(
        self,
        fov_size: Sequence[int],
        deltas: Sequence[int],
        depth: int = 12,
        features: int | Sequence[int] = 32,
        convs: int = 2,
        kernel: Sequence[int] = (3, 3, 3),
        flat_stages: int = 0,
        padding: str = 'same',
        layer_norm: bool = True,
    ):
        """Makes a network.

        Args:
          fov_size: field of view, x, y, z voxels, odd.
          deltas: how far it moves in one step, x, y, z voxels; at most half of what is predicted.
          depth: number of residual modules.
          features: channels of all convolutions, or of each of the (depth + 1) * convs.
          convs: convolutions of the input stage and of each module.
          kernel: size of the convolutions, x, y, z voxels, odd.
          flat_stages: in so many stages, the input stage first, kernels are one section thick.
          padding: 'same' keeps the field of view from layer to layer, with zeros around it; 'valid' predicts its
            centre alone.
          layer_norm: whether activations are normalized.

        Raises:
          UserError: sizes that are impossible.
        """
        fov, step = Xyz.parse(fov_size, 'fov_size'), Xyz.parse(deltas, 'deltas')
        size = Xyz.parse(kernel, 'kernel')
        _check_counts(depth, convs, flat_stages, size)
        if padding not in PADDINGS:
            raise UserError(f'padding is {padding!r}; expected {" or ".join(PADDINGS)}')
        if not isinstance(layer_norm, bool):
            raise UserError(f'layer_norm is {layer_norm!r}; expected true or false')
        channels = _channels(features, depth, convs)
        kernels = [
            Xyz(size.x, size.y, 1 if stage < flat_stages else size.z) for stage in range(depth + 1)
        ]
        predicted = _predicted_size(fov, kernels, convs) if padding == 'valid' else fov
        super().__init__(ModelInfo(step, predicted, fov, fov))
        self._edges = [[convs * (n // 2) for n in k.zyx] for k in kernels]
        self._crops = padding == 'valid'
        self._stages: list[list[Any]] = []
        self._norms: list[Any] = []
        for stage, (width, own) in enumerate(zip(channels, kernels, strict=True)):
            prefix = 'pre_' if stage == 0 else f'res{stage - 1}'
            self._stages.append(
                [
                    _conv(f'{prefix}{letter}', n, own, padding)
                    for letter, n in zip(string.ascii_lowercase, width, strict=False)
                ]
            )
        for name in (f'norm{i}' for i in range(depth + 2) if layer_norm):
            self._norms.append(keras.layers.LayerNormalization(epsilon=_EPSILON, name=name))
        # Logits are always float32.
        self._last = _conv('output', 1, Xyz(1, 1, 1), padding, 'float32')
        self.finish()

    def update(self, image: Any, seed: Any) -> Any:
        """See base class."""
        first, *others = self._stages[0]
        net = self._norm(0, first(keras.ops.concatenate([image, seed], axis=-1)))
        net = _chain(others, net)
        for i, stage in enumerate(self._stages[1:], 1):
            # Equal to net + ..., to the last bit; see `ConvStack3DFFNModel`.
            net = self._inner(i, net) - -_chain(stage, self._norm(i, net))
        return self._last(keras.ops.relu(self._norm(len(self._stages), net)))

    def _norm(self, i: int, net: Any) -> Any:
        return self._norms[i](net) if self._norms else net

    def _inner(self, stage: int, net: Any) -> Any:
        """The part of a module's input that its convolutions without padding leave."""
        if not self._crops:
            return net
        z, y, x = (slice(e, n - e) for e, n in zip(self._edges[stage], net.shape[1:4], strict=True))
        return net[:, z, y, x]


def _chain(layers: Sequence[Any], net: Any) -> Any:
    for layer in layers:
        net = layer(keras.ops.relu(net))
    return net


def _conv(
    name: str, channels: int, kernel: Xyz, padding: str, dtype: str | None = None
) -> keras.layers.Layer:
    return keras.layers.Conv3D(
        channels,
        tuple(kernel.zyx),
        padding=padding,
        kernel_initializer='glorot_uniform',
        bias_initializer='zeros',
        data_format='channels_last',
        dtype=dtype,
        name=name,
    )


def _check_counts(depth: Any, convs: Any, flat_stages: Any, kernel: Xyz) -> None:
    for name, value, least, most in (
        ('depth', depth, 1, None),
        ('convs', convs, 1, _MOST_CONVS),
        ('flat_stages', flat_stages, 0, None),
    ):
        if type(value) is not int or value < least or (most is not None and value > most):
            upper = 'or more' if most is None else f'to {most}'
            raise UserError(f'{name} is {value!r}; expected a whole number, {least} {upper}')
    if flat_stages > depth + 1:
        raise UserError(
            f'flat_stages is {flat_stages}; a network of depth {depth} has {depth + 1} stages'
        )
    if any(n < 1 or n % 2 == 0 for n in kernel):
        raise UserError(f'kernel is {kernel}; expected odd sizes')


def _channels(features: Any, depth: int, convs: int) -> list[list[int]]:
    """Channels of every convolution, by stage.

    Raises:
      UserError: not as many as there are, or those that are added up differ.
    """
    count = (depth + 1) * convs
    given: list[Any] = list(features) if isinstance(features, list | tuple) else [features] * count
    if len(given) != count or not all(type(n) is int and n > 0 for n in given):
        raise UserError(
            f'features is {features!r}; expected a positive whole number, or one for each of the {count} '
            f'convolutions of depth {depth} with {convs} in each stage'
        )
    stages = [given[first : first + convs] for first in range(0, count, convs)]
    for stage in stages:
        if stage[-1] != stages[0][-1]:
            raise UserError(
                f'features is {features}; the last of every stage is added to that of the one before and must '
                f'be equal: {stage[-1]} is not {stages[0][-1]}'
            )
    return stages


def _predicted_size(fov: Xyz, kernels: Sequence[Xyz], convs: int) -> Xyz:
    """What is left of the field of view without padding.

    Raises:
      UserError: nothing.
    """
    lost = Xyz(*(convs * sum(k[axis] - 1 for k in kernels) for axis in range(3)))
    left = [n - m for n, m in zip(fov, lost, strict=True)]
    if min(left) < 1:
        raise UserError(
            f'fov_size is {fov}, and convolutions without padding take {lost} of it; expected more than that: '
            "a larger field of view, a lower depth, or padding 'same'"
        )
    return Xyz(*left)
