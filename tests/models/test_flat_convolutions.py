"""3-d convolutions that are computed as 2-d ones."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.models import flat_convolutions
from ffn.models.model import create_model

ODD = st.sampled_from([1, 3, 5])


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.tuples(ODD, ODD, ODD),
    size=st.tuples(*[st.integers(5, 8)] * 3),
    channels=st.integers(1, 3),
    padding=st.sampled_from(['same', 'valid']),
)
def test_flat_convolution_is_the_3d_one(
    kernel: tuple[int, ...], size: tuple[int, ...], channels: int, padding: str
) -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, *size, channels)).astype(np.float32)
    weights = rng.normal(size=(*kernel, channels, 2)).astype(np.float32)
    found = flat_convolutions.convolve(inputs, weights, padding)
    expected = keras.ops.conv(inputs, weights, padding=padding)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'args'),
    [
        ('convstack_3d.ConvStack3DFFNModel', {'depth': 2, 'features': 3}),
        (
            'residual_stack.ResidualStackFFNModel',
            {'depth': 2, 'features': 3, 'padding': 'valid', 'flat_stages': 1},
        ),
    ],
)
def test_flat_network_predicts_the_same(name: str, args: dict) -> None:
    model = create_model(name, args | {'fov_size': [17, 15, 19], 'deltas': [1, 1, 1]})
    model.initialize(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    batch = [rng.normal(size=(2, 19, 15, 17, 1)).astype(np.float32) for _ in range(2)]
    before = np.asarray(model(batch))
    flat_convolutions.flatten_convolutions(model)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv3D)]
    assert convolutions
    assert all('convolution_op' in vars(layer) for layer in convolutions)
    np.testing.assert_allclose(np.asarray(model(batch)), before, rtol=1e-4, atol=1e-5)


def test_other_convolutions_stay_as_they_are() -> None:
    layers = [
        keras.layers.Conv3D(2, 3, strides=2),
        keras.layers.Conv3D(2, 2),
        keras.layers.Conv3D(2, 3),
    ]
    flat_convolutions.flatten_convolutions(keras.Sequential(layers))
    assert ['convolution_op' in vars(layer) for layer in layers] == [False, False, True]
