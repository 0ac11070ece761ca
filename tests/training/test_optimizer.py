"""The five optimizers, against the update rules written out in NumPy."""

import keras
import numpy as np
import pytest

from ffn.training.optimizer import make_optimizer, named_state
from ffn.training.optimizer_config import OptimizerConfig

GRADIENTS = np.array([[0.5, -0.2], [0.1, 0.7], [-0.3, 0.4]], np.float32)
START = np.array([1.0, -2.0], np.float32)


def run(config, count=3):
    variable = keras.Variable(START)
    optimizer = make_optimizer(config)
    optimizer.build([variable])
    values = []
    for gradient in GRADIENTS[:count]:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        values.append(keras.ops.convert_to_numpy(variable).copy())
    return np.stack(values), optimizer


def by_hand(rule):
    """Applies value, state = rule(value, gradient, state, step) to every gradient."""
    value, state, values = START.astype(np.float64), 0.0, []
    for step, gradient in enumerate(GRADIENTS.astype(np.float64), start=1):
        value, state = rule(value, gradient, state, step)
        values.append(value)
    return np.stack(values)


def sgd(value, gradient, state, step):
    return value - 0.1 * gradient, state


def momentum(value, gradient, state, step):
    state = 0.8 * state - 0.1 * gradient
    return value + state, state


def adagrad(value, gradient, state, step):
    state = (state if step > 1 else 0.1) + gradient**2
    return value - 0.1 * gradient / np.sqrt(state + 1e-7), state


def rmsprop(value, gradient, state, step):
    mean, move = state if step > 1 else (1.0, 0.0)
    mean = 0.7 * mean + 0.3 * gradient**2
    move = 0.8 * move + 0.1 * gradient / np.sqrt(mean + 1e-4)
    return value - move, (mean, move)


def adam(value, gradient, state, step):
    first, second = state if step > 1 else (0.0, 0.0)
    first, second = 0.6 * first + 0.4 * gradient, 0.7 * second + 0.3 * gradient**2
    rate = 0.1 * np.sqrt(1 - 0.7**step) / (1 - 0.6**step)
    return value - rate * first / (np.sqrt(second) + 1e-4), (first, second)


@pytest.mark.parametrize('rule', [sgd, momentum, adagrad, rmsprop, adam])
def test_update_rule(rule):
    config = OptimizerConfig(
        rule.__name__,
        learning_rate=0.1,
        momentum=0.8,
        rmsprop_decay=0.7,
        adam_beta1=0.6,
        adam_beta2=0.7,
        epsilon=1e-4,
    )
    np.testing.assert_allclose(run(config)[0], by_hand(rule), rtol=1e-4)


@pytest.mark.parametrize('gradient', [1e-3, 0.7])
def test_rmsprop_makes_its_first_step_from_a_mean_square_of_1(gradient):
    config = OptimizerConfig('rmsprop', learning_rate=1e-3, momentum=0.0)
    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer = make_optimizer(config)
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(np.full(1, gradient, np.float32))], [variable])
    expected = -1e-3 * gradient / np.sqrt(0.9 * 1 + 0.1 * gradient**2 + 1e-8)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-5)


def test_learning_rate_falls_in_stairs():
    config = OptimizerConfig('sgd', learning_rate=0.1, decay_factor=0.5, decay_steps=2)
    values, _ = run(config)
    moves = np.diff(np.vstack([START, values]), axis=0)
    np.testing.assert_allclose(moves / -GRADIENTS, [[0.1] * 2, [0.1] * 2, [0.05] * 2], rtol=1e-4)


@pytest.mark.parametrize('name', ['sgd', 'momentum', 'adagrad', 'rmsprop', 'adam'])
def test_state_moves_on_to_another_optimizer(name):
    """One step, state carried over, two more steps: the same as three steps."""
    config = OptimizerConfig(name, learning_rate=0.1, decay_factor=0.5, decay_steps=2)
    expected, _ = run(config)
    before, first = run(config, count=1)
    variable = keras.Variable(before[-1])
    second = make_optimizer(config)
    second.build([variable])
    states = named_state(first), named_state(second)
    assert list(states[0]) == list(states[1])
    for key, value in states[0].items():
        states[1][key].assign(value)
    for gradient, wanted in zip(GRADIENTS[1:], expected[1:], strict=True):
        second.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable).copy(), wanted, rtol=1e-6)
