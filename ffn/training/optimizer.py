"""Optimizers, their learning-rate schedules, and the names of their variables in checkpoints."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops
from keras.optimizers import schedules

from ffn.training.optimizer_config import OptimizerConfig


class WarmUp(schedules.LearningRateSchedule):
    """A schedule whose first steps rise linearly from 0."""

    def __init__(self, after: schedules.LearningRateSchedule | float, steps: int):
        """Makes a schedule.

        Args:
          after: the rate without warm-up, as a function of the same step.
          steps: number of steps to warm up; the first has 1 / steps of the rate.
        """
        super().__init__()
        self._after, self._steps = after, steps

    def __call__(self, step: Any) -> Any:
        """The rate of a step; steps count from 0."""
        rate = self._after(step) if callable(self._after) else self._after
        return rate * ops.minimum((ops.cast(step, 'float32') + 1) / self._steps, 1.0)

    def get_config(self) -> dict[str, Any]:
        """See base class."""
        return {'after': self._after, 'steps': self._steps}


class FromStep(schedules.LearningRateSchedule):
    """A schedule for an optimizer that did not begin with the training: the optimizer counts its own steps."""

    def __init__(self, schedule: schedules.LearningRateSchedule, begun: keras.Variable):
        """Makes a schedule.

        Args:
          schedule: the rate as a function of the training's step.
          begun: step of the training before the optimizer's first one.
        """
        super().__init__()
        self._schedule, self._begun = schedule, begun

    def __call__(self, step: Any) -> Any:
        """The rate of a step of the optimizer; steps count from 0."""
        return self._schedule(ops.cast(step, 'int64') + ops.cast(self._begun, 'int64'))

    def get_config(self) -> dict[str, Any]:
        """See base class."""
        return {'schedule': self._schedule, 'begun': self._begun}


class RMSprop(keras.optimizers.RMSprop):
    """RMSprop whose mean of squared gradients begins at 1, as that of TensorFlow 1 does.

    The first step is lr * g / sqrt(decay * 1 + (1 - decay) * g² + epsilon). From 0, as Keras has it, it
    would be lr / sqrt(1 - decay) in every weight, however small its gradient.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        """See base class."""
        if self.built:
            return
        super().build(variables)
        for mean_square in self._velocities:
            mean_square.assign(ops.ones_like(mean_square))


def learning_rate(config: OptimizerConfig) -> schedules.LearningRateSchedule | float:
    """The learning rate: a number, or a schedule."""
    rate = config.learning_rate
    if config.schedule == 'cosine':
        rate = schedules.CosineDecay(rate, config.decay_steps, alpha=config.decay_factor or 0.0)
    elif config.decay_steps is not None:
        rate = schedules.ExponentialDecay(
            rate, config.decay_steps, config.decay_factor, staircase=True
        )
    return WarmUp(rate, config.warmup_steps) if config.warmup_steps else rate


def make_optimizer(
    config: OptimizerConfig, begun: keras.Variable | None = None
) -> keras.optimizers.Optimizer:
    """Makes an optimizer with its learning-rate schedule; gradients must be clipped before.

    Args:
      config: its settings.
      begun: step of the training before the optimizer's first one, as in `FromStep`; default: always 0.
    """
    rate = learning_rate(config)
    if begun is not None and callable(rate):
        rate = FromStep(rate, begun)
    adam = {
        'beta_1': config.adam_beta1,
        'beta_2': config.adam_beta2,
        'epsilon': config.epsilon,
    }
    if config.optimizer == 'sgd':
        return keras.optimizers.SGD(rate)
    if config.optimizer == 'momentum':
        return keras.optimizers.SGD(rate, momentum=config.momentum)
    if config.optimizer == 'adagrad':
        return keras.optimizers.Adagrad(rate)
    if config.optimizer == 'adam':
        return keras.optimizers.Adam(rate, **adam)
    if config.optimizer == 'adamw':
        return keras.optimizers.AdamW(rate, weight_decay=config.weight_decay, **adam)
    return RMSprop(rate, rho=config.rmsprop_decay, momentum=config.momentum, epsilon=config.epsilon)


def named_state(optimizer: keras.optimizers.Optimizer) -> dict[str, keras.Variable]:
    """The optimizer's variables under names that are equal in all runs of one configuration.

    Keras' own names contain that of the network, which depends on how many networks the process has
    made. These consist of a number and the kind, such as 003_momentum.
    """
    return {
        f'optimizer/{i:03d}_{variable.name.rpartition("_")[2]}': variable
        for i, variable in enumerate(
            variable for variable in optimizer.variables if variable.name != 'learning_rate'
        )
    }
