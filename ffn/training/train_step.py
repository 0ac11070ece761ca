"""One training step: loss, gradients of all replicas, clipping, update, running averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ffn.models.checkpoints import EMA
from ffn.models.model import FFNModel
from ffn.training.convolutions import prepare_for_training
from ffn.training.distribution import Replicas
from ffn.training.optimizer import make_optimizer, named_state
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.walks.walk import Batch

VOTES = 3
# What the names of the loss scale's variables in checkpoints begin with.
LOSS_SCALE = 'optimizer/loss_scale'
_SUM = tf.distribute.ReduceOp.SUM
# Loss scaling of float16: the first scale, and the number of good steps after which it is doubled.
_FIRST_SCALE, _GROW_AFTER = 2.0**15, 2000


class StepResult(NamedTuple):
    """The result of a step.

    Attributes:
      loss: mean over passes, batch and predicted voxels of weighted sigmoid cross-entropy, over all replicas.
      logits: float32 [b, z, y, x, 1] of the first pass, for the batch of this process.
      gradients: by variable name, if they were requested.
      votes: float32 [VOTES], sums of the votes of all processes.
    """

    loss: float
    logits: np.ndarray
    gradients: dict[str, np.ndarray]
    votes: np.ndarray


class LossScale:
    """A factor on the loss that keeps small gradients from vanishing in float16.

    The factor is halved after a step whose gradients overflow, and doubled after many that do not.
    """

    def __init__(self) -> None:
        """Makes the variables, in the scope of the strategy."""
        self.scale = keras.Variable(_FIRST_SCALE, trainable=False, name='loss_scale')
        self.good_steps = keras.Variable(0, trainable=False, dtype='int32', name='good_steps')

    def unscale(self, context: Any, gradients: list[Any]) -> list[Any]:
        """Divides gradients by the factor, sets all to 0 if one is not finite, adapts the factor."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        unscaled = [tf.where(finite, gradient / self.scale.value, 0.0) for gradient in gradients]
        good = tf.where(finite, self.good_steps.value + 1, 0)
        grow = good >= _GROW_AFTER
        scale = self.scale.value * tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        _assign(context, self.scale.value, tf.maximum(scale, 1.0))
        _assign(context, self.good_steps.value, tf.where(grow, 0, good))
        return unscaled

    def variables(self) -> dict[str, keras.Variable]:
        """The variables by their names in checkpoints."""
        return {
            LOSS_SCALE: self.scale,
            f'{LOSS_SCALE}_good_steps': self.good_steps,
        }


class TrainStep:
    """A compiled training step and all variables that it changes.

    Attributes:
      model: the network; its weights are float32, whatever it computes in.
      optimizer: built for its weights.
    """

    def __init__(
        self,
        model: FFNModel,
        config: OptimizerConfig,
        replicas: Replicas | None = None,
        loss_scaling: bool = False,
    ):
        """Compiles a step.

        Args:
          model: the network, made in the scope of the strategy.
          config: how weights follow gradients.
          replicas: which devices; default: one.
          loss_scaling: see LossScale; for float16.
        """
        prepare_for_training(model)
        self.model, self._config = model, config
        self._replicas = replicas or Replicas(tf.distribute.get_strategy())
        self._variables = model.trainable_variables
        with self._replicas.strategy.scope():
            # The optimizer counts its own steps, by which Adam corrects the bias of its averages.
            self._begun = keras.Variable(0, trainable=False, dtype='int64', name='begun')
            self.optimizer = make_optimizer(config, self._begun)
            self.optimizer.build(self._variables)
            self._averages: list[keras.Variable] = []
            if config.ema_decay:
                self._averages = [
                    keras.Variable(keras.ops.convert_to_tensor(v), trainable=False, name='average')
                    for v in self._variables
                ]
            self._loss_scale = LossScale() if loss_scaling else None
        signature: list[tf.TensorSpec] | None = None  # of values of several devices
        if self._replicas.total == 1:
            spec = tf.TensorSpec((None, *model.info.input_image_size.zyx, 1), tf.float32)
            signature = [spec] * 4 + [tf.TensorSpec((None, VOTES), tf.float32)]
        self._with_gradients = tf.function(self._step, input_signature=signature, autograph=False)
        self._without = tf.function(
            lambda *batch: self._step(*batch)[:3], input_signature=signature, autograph=False
        )

    def __call__(
        self, batch: Batch, want_gradients: bool = False, votes: Sequence[float] = (0,) * VOTES
    ) -> StepResult:
        """Makes a step.

        Args:
          batch: of this process; each of its replicas gets an equal part.
          want_gradients: whether to return the gradients, as they were applied.
          votes: VOTES numbers that are summed over all processes.
        """
        asked = np.zeros((self._replicas.local, VOTES), np.float32)
        asked[0] = votes
        arrays = self._replicas.split([*batch, asked])
        if want_gradients:
            loss, logits, total, gradients = self._with_gradients(*arrays)
            names = self.model.named_variables()
            named = {name: g.numpy() for name, g in zip(names, gradients, strict=True)}
        else:
            loss, logits, total = self._without(*arrays)
            named = {}
        return StepResult(float(loss), self._replicas.join(logits), named, total.numpy())

    def _step(self, *batch: Any) -> tuple[Any, Any, Any, Any]:
        """All replicas: loss, logits, votes, gradients."""
        strategy = self._replicas.strategy
        if self._replicas.total == 1:
            return self._replica_step(*batch)
        losses, logits, votes, gradients = strategy.run(self._replica_step, args=batch)
        first = [strategy.experimental_local_results(g)[0] for g in gradients]
        # Already summed: every replica holds the same.
        loss, total = (strategy.experimental_local_results(v)[0] for v in (losses, votes))
        return loss, logits, total, first

    def _replica_step(
        self, images: Any, seeds: Any, labels: Any, weights: Any, votes: Any
    ) -> tuple[Any, Any, Any, Any]:
        """One replica: loss, logits, votes, gradients."""
        inner = (slice(None), *self.model.info.predicted)
        passes, losses = [seeds], []
        with tf.GradientTape() as tape:
            for _ in range(self._config.unrolled_steps):
                passes.append(self.model((images, passes[-1]), training=True))
                losses.append(
                    tf.nn.sigmoid_cross_entropy_with_logits(labels[inner], passes[-1][inner])
                )
            loss = tf.reduce_mean(tf.stack(losses) * weights[inner]) / float(self._replicas.total)
            scaled = loss if self._loss_scale is None else loss * self._loss_scale.scale.value
        gradients = tape.gradient(scaled, self._variables)
        votes = votes[0]
        context = tf.distribute.get_replica_context()
        if self._replicas.total > 1:
            *gradients, loss, votes = context.all_reduce(_SUM, [*gradients, loss, votes])
        if self._loss_scale is not None:
            gradients = self._loss_scale.unscale(context, gradients)
        gradients = self._clip(gradients)
        # Keras sums what it gets from all replicas, but these are sums already.
        self.optimizer.apply([g / self._replicas.total for g in gradients], self._variables)
        self._average(context)
        # Inference makes one pass: so does the walk that goes on from here.
        return loss, passes[1], votes, gradients

    def _clip(self, gradients: list[Any]) -> list[Any]:
        limit = self._config.clip_value
        if limit:
            gradients = [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
        if self._config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._config.clip_norm)
        return gradients

    def _average(self, context: Any) -> None:
        iterations = self.optimizer.iterations.value
        done = tf.cast(iterations + tf.cast(self._begun.value, iterations.dtype), tf.float32)
        # The first averages reach back no further than the first step.
        keep = tf.minimum(self._config.ema_decay, done / (done + 9.0))
        for average, variable in zip(self._averages, self._variables, strict=bool(self._averages)):
            old, new = average.value, variable.value
            _assign(context, old, new + keep * (old - new))

    def set_step(self, step: int) -> None:
        """Tells which step of the training comes next, from 0; schedules and averages follow it.

        It is called after the optimizer's state is set, whose own steps may be fewer: they count from where it began.
        """
        done = int(keras.ops.convert_to_numpy(self.optimizer.iterations))
        self._begun.assign(step - done)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def averages(self) -> dict[str, keras.Variable]:
        """Running averages of the network's variables, named 'ema/…'; empty if none are kept."""
        names = self.model.named_variables()
        return dict(zip((f'{EMA}{name}' for name in names), self._averages, strict=False))

    def start_averages(self) -> None:
        """Sets the averages to the current weights."""
        for average, variable in zip(self._averages, self._variables, strict=bool(self._averages)):
            average.assign(variable)

    def weights(self) -> dict[str, keras.Variable]:
        """The network's variables and their averages."""
        return self.model.named_variables() | self.averages()

    def optimizer_state(self) -> dict[str, keras.Variable]:
        """What else a checkpoint needs to continue: the variables of optimizer and loss scaling."""
        scaling = {} if self._loss_scale is None else self._loss_scale.variables()
        return named_state(self.optimizer) | scaling


def _assign(context: Any, variable: tf.Variable, value: tf.Tensor) -> None:
    """Sets a variable of each replica to the value that this replica computed."""
    context.merge_call(
        lambda strategy, values: strategy.extended.update(
            variable, lambda own, new: own.assign(new), args=(values,)
        ),
        args=(value,),
    )
