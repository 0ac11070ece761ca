"""Tests of convolutions: their gradients are those of TensorFlow, wherever they are computed in another way."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ffn.models.info import ModelInfo
from ffn.models.model import FFNModel, create_model
from ffn.training import convolutions
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.train_step import TrainStep
from ffn.training.walks.walk import Batch
from ffn.utils.geometry import Xyz

STACK = (
    'convstack_3d.ConvStack3DFFNModel',
    {
        'depth': 2,
        'features': [3, 4, 5, 4],
        'fov_size': [9, 7, 5],
        'deltas': [2, 1, 1],
    },
)
RESIDUAL = (
    'residual_stack.ResidualStackFFNModel',
    {
        'depth': 2,
        'features': 3,
        'fov_size': [17, 15, 9],
        'deltas': [1, 1, 0],
        'flat_stages': 1,
        'padding': 'valid',
    },
)


@pytest.mark.parametrize('padding', ['same', 'valid'])
@pytest.mark.parametrize('kernel', [(3, 3, 3), (1, 3, 5), (5, 3, 1), (2, 4, 3), (1, 1, 1)])
def test_gradients_are_those_of_a_3d_convolution(kernel, padding):
    rng = np.random.default_rng(0)
    image = tf.constant(rng.normal(size=(3, 6, 7, 9, 2)).astype(np.float32))
    weights = tf.constant(rng.normal(size=(*kernel, 2, 5)).astype(np.float32))
    found = []
    for way in (
        lambda: convolutions.convolve(image, weights, padding),
        lambda: tf.nn.conv3d(image, weights, [1] * 5, padding.upper()),
    ):
        with tf.GradientTape() as tape:
            tape.watch([image, weights])
            result = way()
            loss = tf.reduce_sum(result**2)
        found.append([result, *tape.gradient(loss, [image, weights])])
    for own, plain in zip(*found, strict=True):
        np.testing.assert_allclose(own, plain, rtol=1e-4, atol=1e-3)


def make_step(monkeypatch, network, avx512, precision='float32'):
    monkeypatch.setattr(convolutions, 'cpu_has_avx512', lambda: avx512)
    model = create_model(*network, precision)
    model.initialize(np.random.default_rng(0))
    return TrainStep(model, OptimizerConfig('sgd', 0.1))


def make_batch(model):
    rng = np.random.default_rng(1)
    shape = (2, *model.info.input_image_size.zyx, 1)
    image, seed = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    return Batch(image, seed, rng.uniform(0.05, 0.95, shape).astype(np.float32), np.ones_like(seed))


@pytest.mark.parametrize('network', [STACK, RESIDUAL], ids=['stack', 'residual'])
def test_a_step_is_the_same_on_every_processor(monkeypatch, network):
    results = []
    for avx512 in (False, True):
        step = make_step(monkeypatch, network, avx512)
        results.append(step(make_batch(step.model), want_gradients=True))
    own, plain = results
    assert own.loss == pytest.approx(plain.loss, rel=1e-6)
    assert own.gradients.keys() == plain.gradients.keys()
    for name, gradient in plain.gradients.items():
        np.testing.assert_allclose(
            own.gradients[name], gradient, rtol=1e-3, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize(
    ('avx512', 'precision', 'sections'),
    [(False, 'float32', True), (True, 'float32', False), (False, 'mixed_bfloat16', False)],
)
def test_sections_are_for_float32_without_avx512(monkeypatch, avx512, precision, sections):
    step = make_step(monkeypatch, STACK, avx512, precision)
    batch = make_batch(step.model)

    @tf.function
    def train(image, seed):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(step.model((image, seed), training=True))
        return tape.gradient(loss, step.model.trainable_variables)

    graph = train.get_concrete_function(batch.images, batch.seeds).graph
    kinds = [op.type for op in graph.get_operations() if 'BackpropFilter' in op.type]
    # the last convolution computes in float32, whatever the others do
    assert ('Conv2DBackpropFilter' in kinds) is (sections or precision != 'float32')
    assert ('Conv3DBackpropFilterV2' in kinds) is not sections


def test_layers_that_differ_are_left_alone(monkeypatch):
    monkeypatch.setattr(convolutions, 'cpu_has_avx512', lambda: False)

    class Strided(FFNModel):
        def __init__(self):
            super().__init__(ModelInfo(Xyz(1, 1, 1), *[Xyz(5, 5, 7)] * 3))
            self.convs = [keras.layers.Conv3D(3, 3, strides=2), keras.layers.Conv3D(2, 3)]

    model = Strided()
    convolutions.prepare_for_training(model)
    assert ['convolution_op' in vars(conv) for conv in model.convs] == [False, True]
