"""Optimizers by name, and their state under names for checkpoints."""

from __future__ import annotations

import keras

from ffn.training.config import OptimizerConfig


def make_optimizer(config: OptimizerConfig) -> keras.optimizers.Optimizer:
    """Makes an optimizer with its learning-rate schedule."""
    rate = config.learning_rate
    if config.decay_steps is not None:
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, config.decay_steps, config.decay_factor, staircase=True
        )
    if config.optimizer == 'sgd':
        return keras.optimizers.SGD(rate)
    if config.optimizer == 'momentum':
        return keras.optimizers.SGD(rate, momentum=config.momentum)
    if config.optimizer == 'adagrad':
        return keras.optimizers.Adagrad(rate)
    if config.optimizer == 'adam':
        return keras.optimizers.Adam(
            rate, beta_1=config.adam_beta1, beta_2=config.adam_beta2, epsilon=config.epsilon
        )
    return keras.optimizers.RMSprop(
        rate, rho=config.rmsprop_decay, momentum=config.momentum, epsilon=config.epsilon
    )


def named_state(optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """The optimizer's variables under names that are the same in every run of one configuration.

    Keras puts the name of the network into theirs, which differs with the number of networks that a
    process has made; what remains is the number and the kind, such as 003_momentum.
    """
    return {
        f'optimizer/{i:03d}_{variable.name.rpartition("_")[2]}': variable
        for i, variable in enumerate(
            variable for variable in optimizer.variables if variable.name != 'learning_rate'
        )
    }
