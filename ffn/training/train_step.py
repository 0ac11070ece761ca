"""One training step: loss, gradients of all replicas, clipping, update, running average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ffn.models.model import FFNModel
from ffn.training.distribution import Replicas
from ffn.training.optimizer import make_optimizer, named_state
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.walks.walk import Batch

VOTES = 3
_SUM = tf.distribute.ReduceOp.SUM
# Loss scaling of float16: as high as gradients allow, tried anew after so many good steps.
_FIRST_SCALE, _GROW_AFTER = 2.0**15, 2000


class StepResult(NamedTuple):
    """What a step gives back.

    Attributes:
      loss: mean over batch and voxels of weighted sigmoid cross-entropy, over all replicas.
      logits: float32 [b, z, y, x, 1] of the batch of this process.
      gradients: by variable name, where they were asked for.
      votes: sums over all replicas of what each process asked for.
    """

    loss: float
    logits: np.ndarray
    gradients: dict[str, np.ndarray]
    votes: np.ndarray


class TrainStep:
    """A compiled training step and all that it changes.

    Attributes:
      model: the network; its weights are float32, whatever it computes in.
      optimizer: built for its weights.
    """

    def __init__(
        self, model: FFNModel, config: OptimizerConfig, replicas: Replicas | None = None,
        loss_scaling: bool = False,
    ):  # fmt: skip
        """Compiles a step.

        Args:
          model: the network, made in the scope of the strategy.
          config: how weights follow gradients.
          replicas: which devices; default: this one.
          loss_scaling: for float16, in which small gradients vanish: the loss is multiplied by a
            scale that adapts itself; gradients of a step in which one is not finite count as 0.
        """
        self.model, self._config = model, config
        self._replicas = replicas or Replicas(tf.distribute.get_strategy())
        self._variables = model.trainable_variables
        with self._replicas.strategy.scope():
            self.optimizer = make_optimizer(config)
            self.optimizer.build(self._variables)
            self._averages: list[keras.Variable] = []
            if config.ema_decay:
                self._averages = [
                    keras.Variable(keras.ops.convert_to_tensor(v), trainable=False, name='average')
                    for v in self._variables
                ]
            self._scale = self._good_steps = None
            if loss_scaling:
                self._scale = keras.Variable(_FIRST_SCALE, trainable=False, name='loss_scale')
                self._good_steps = keras.Variable(
                    0, trainable=False, dtype='int32', name='good_steps'
                )
        spec = tf.TensorSpec((None, *model.info.input_image_size.zyx, 1), tf.float32)
        signature = [spec] * 4 + [tf.TensorSpec((None, VOTES), tf.float32)]
        if self._replicas.total > 1:
            signature = None  # values of several devices
        self._with_gradients = tf.function(self._step, input_signature=signature)
        self._without = tf.function(
            lambda *batch: self._step(*batch)[:3], input_signature=signature
        )

    def __call__(
        self, batch: Batch, want_gradients: bool = False, votes: Sequence[float] = (0,) * VOTES
    ) -> StepResult:
        """Makes a step.

        Args:
          batch: of this process, an equal part for each of its replicas.
          want_gradients: whether to return the gradients, as they were applied.
          votes: numbers, VOTES of them, that are summed over all processes.
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

    def _step(self, *batch: Any) -> tuple:
        strategy = self._replicas.strategy
        if self._replicas.total == 1:
            return self._replica_step(*batch)
        losses, logits, votes, gradients = strategy.run(self._replica_step, args=batch)
        first = [strategy.experimental_local_results(g)[0] for g in gradients]
        # Sums already: every replica holds the same.
        loss, total = (strategy.experimental_local_results(v)[0] for v in (losses, votes))
        return loss, logits, total, first

    def _replica_step(self, images, seeds, labels, weights, votes) -> tuple:
        with tf.GradientTape() as tape:
            logits = self.model((images, seeds), training=True)
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits) * weights
            ) / float(self._replicas.total)
            scaled = loss if self._scale is None else loss * self._scale.value
        gradients = tape.gradient(scaled, self._variables)
        votes = votes[0]
        context = tf.distribute.get_replica_context()
        if self._replicas.total > 1:
            *gradients, loss, votes = context.all_reduce(_SUM, [*gradients, loss, votes])
        if self._scale is not None:
            finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
            gradients = [
                tf.where(finite, gradient / self._scale.value, 0.0) for gradient in gradients
            ]
            self._adapt_scale(context, finite)
        gradients = self._clip(gradients)
        # Keras adds up what it gets from all replicas, where these are sums already.
        self.optimizer.apply([g / self._replicas.total for g in gradients], self._variables)
        self._average(context)
        return loss, logits, votes, gradients

    def _clip(self, gradients: list) -> list:
        limit = self._config.clip_value
        if limit:
            gradients = [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
        if self._config.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._config.clip_norm)
        return gradients

    def _adapt_scale(self, context: Any, finite: tf.Tensor) -> None:
        """Halves the scale after a step that overflowed, doubles it after many that did not."""
        good = tf.where(finite, self._good_steps.value + 1, 0)
        grow = good >= _GROW_AFTER
        scale = self._scale.value * tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5)
        _assign(context, self._scale.value, tf.maximum(scale, 1.0))
        _assign(context, self._good_steps.value, tf.where(grow, 0, good))

    def _average(self, context: Any) -> None:
        done = tf.cast(self.optimizer.iterations.value, tf.float32)
        # The first averages reach back no further than there are steps.
        keep = tf.minimum(self._config.ema_decay, done / (done + 9.0))
        for average, variable in zip(self._averages, self._variables, strict=bool(self._averages)):
            old, new = average.value, variable.value
            _assign(context, old, new + keep * (old - new))

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def averages(self) -> dict[str, keras.Variable]:
        """Running averages of the network's variables, named 'ema/…'; empty where none are kept."""
        names = self.model.named_variables()
        return dict(zip((f'ema/{name}' for name in names), self._averages, strict=False))

    def start_averages(self) -> None:
        """Sets the averages to the present weights."""
        for average, variable in zip(self._averages, self._variables, strict=bool(self._averages)):
            average.assign(variable)

    def weights(self) -> dict[str, keras.Variable]:
        """The network's variables and their averages."""
        return self.model.named_variables() | self.averages()

    def state(self) -> dict[str, keras.Variable]:
        """What else a checkpoint needs in order to go on: optimizer and loss scaling."""
        scaling = {'loss_scale': self._scale, 'loss_scale_good_steps': self._good_steps}
        found = {f'optimizer/{name}': v for name, v in scaling.items() if v is not None}
        return named_state(self.optimizer) | found


def _assign(context: Any, variable: tf.Variable, value: tf.Tensor) -> None:
    """Sets a variable of every replica to what that replica computed."""
    context.merge_call(
        lambda strategy, values: strategy.extended.update(
            variable, lambda own, new: own.assign(new), args=(values,)
        ),
        args=(value,),
    )
