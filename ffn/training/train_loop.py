"""The training loop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from ffn.training import checkpoints
from ffn.training.config import TrainConfig
from ffn.training.examples import Batch, BatchWalker
from ffn.training.inputs import ExampleSource
from ffn.training.metrics import PatchMetrics
from ffn.training.model import FFNModel, create_model
from ffn.training.optimizer import make_optimizer, named_state
from ffn.training.summaries import Summaries
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.progress import progress
from ffn.utils.signals import stop_on_signal

# Each entry of the gradient is limited to this, as in training of the published models.
_CLIP = 0.7


def train(config: TrainConfig, stop: threading.Event | None = None) -> int:
    """Trains until max_steps, or until asked to stop, going on from the last checkpoint.

    Args:
      config: what to do.
      stop: set it to end the run after saving a checkpoint; SIGTERM and SIGINT do so as well.

    Returns:
      The step that was reached.

    Raises:
      UserError: what is given does not fit, or the loss is not finite any more.
    """
    model = create_model(config.model_name, config.model_args)
    config.check_model(model.info)
    model.initialize(np.random.default_rng((config.seed, 0)))
    optimizer = make_optimizer(config.optimizer)
    optimizer.build(model.trainable_variables)
    run = _Run(config, model, optimizer, stop or threading.Event())
    size = config.walk.patch_size(model.info)
    seed = config.seed + run.step
    with ExampleSource(config.data, size, seed, 2 * config.batch_size) as source, run:
        walker = BatchWalker(
            source, model.info, config.walk, config.batch_size, np.random.default_rng((seed, 1))
        )
        with stop_on_signal(run.stop):
            run.loop(walker)
        logging.info('examples used: %s; out of bounds: %d', source.counts(), source.skipped)
    return run.step


class _Run:
    """A run of the loop: what is learned, saved and reported; a context manager."""

    def __init__(self, config: TrainConfig, model: FFNModel, optimizer: Any, stop: threading.Event):
        self.config, self.model, self.optimizer, self.stop = config, model, optimizer, stop
        os.makedirs(config.train_dir, exist_ok=True)
        self.step = self._restore()
        self.writer = checkpoints.CheckpointWriter(
            config.train_dir, config.keep_checkpoints, config.keep_every_hours
        )
        checkpoints.write_settings(
            config.train_dir,
            {
                'model_name': config.model_name,
                'model_args': dict(config.model_args),
                'image_mean': config.data.image_mean,
                'image_stddev': config.data.image_stddev,
                'seed_pad': config.walk.seed_pad,
                'threshold': config.walk.threshold,
            },
        )
        self.metrics = PatchMetrics(model.info, config.walk)
        self._shown = {'precision': 0.0, 'recall': 0.0}
        self.summaries = Summaries(config.train_dir)
        self._train_step = make_train_step(model, optimizer)
        self._saved_step, self._saved_at = self.step, time.monotonic()
        self._summary_step, self._summary_at = self.step, time.monotonic()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.summaries.close()

    def _restore(self) -> int:
        latest = checkpoints.latest_checkpoint(self.config.train_dir)
        if latest is None:
            return 0
        stored = checkpoints.read_variables(latest)
        checkpoints.assign(self.model.named_variables(), stored, f'checkpoint {latest}')
        state = named_state(self.optimizer)
        of_optimizer = {n: array.shape for n, array in stored.items() if n.startswith('optimizer/')}
        if of_optimizer == {name: tuple(variable.shape) for name, variable in state.items()}:
            checkpoints.assign(state, stored, f'checkpoint {latest}')
        else:
            logging.warning(
                '%s holds no state of the optimizer %s: it starts afresh',
                latest, self.config.optimizer.optimizer,
            )  # fmt: skip
        step = int(stored[checkpoints.STEP])
        logging.info('going on from %s, step %d', latest, step)
        return step

    def loop(self, walker: BatchWalker) -> None:
        config = self.config
        with progress(
            total=config.max_steps, initial=self.step, desc='training', unit='step',
            quiet=config.quiet,
        ) as bar:  # fmt: skip
            while self.step < config.max_steps and not self.stop.is_set():
                batch = walker.batch()
                due = time.monotonic() - self._summary_at >= config.summary_seconds
                loss, logits, gradients = self._train_step(batch, due)
                if not np.isfinite(loss):
                    raise UserError(
                        f'the loss is {loss} at step {self.step + 1}, training on '
                        f'{", ".join(walker.volumes())}; the last checkpoint is that of step '
                        f'{self._saved_step}. A lower --learning_rate usually helps'
                    )
                self.step += 1
                for walk in walker.advance(logits):
                    self.metrics.add(walk)
                    self.summaries.keep(walk)
                bar.update()
                if due or self.step == config.max_steps:
                    self._summarize(loss, gradients, bar)
                self._maybe_save()
        if self._saved_step != self.step:
            self._save()

    def _maybe_save(self) -> None:
        every, minutes = self.config.checkpoint_steps, self.config.checkpoint_minutes
        late = minutes > 0 and time.monotonic() - self._saved_at >= minutes * 60
        if late or (every > 0 and self.step - self._saved_step >= every):
            self._save()

    def _save(self) -> None:
        variables = {**self.model.named_variables(), **named_state(self.optimizer)}
        if not all(np.isfinite(variable).all() for variable in variables.values()):
            raise UserError(
                f'the weights are not finite after step {self.step}; the last checkpoint is that of '
                f'step {self._saved_step}. A lower --learning_rate usually helps'
            )
        self.writer.save(variables, self.step)
        self._saved_step, self._saved_at = self.step, time.monotonic()

    def _summarize(self, loss: float, gradients: dict[str, np.ndarray], bar: Any) -> None:
        now = time.monotonic()
        rate = (self.step - self._summary_step) / max(now - self._summary_at, 1e-9)
        scalars = {
            'pixel_loss': loss,
            'learning_rate': float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)),
            'steps/s': rate,
            **self.metrics.scalars(),
        }
        weights = {name: np.asarray(v) for name, v in self.model.named_variables().items()}
        self.summaries.write(self.step, scalars, weights, gradients)
        for name in ('precision', 'recall'):  # of the last summary that had finished patches
            self._shown[name] = scalars.get(f'eval/all/{name}', self._shown[name])
        shown = self._shown
        bar.set_postfix(loss=f'{loss:.4f}', **{name: f'{v:.2f}' for name, v in shown.items()})
        left = (self.config.max_steps - self.step) / max(rate, 1e-9)
        logging.log(
            logging.DEBUG if not bar.disable else logging.INFO,
            'step %d of %d, loss %.4f, precision %.3f, recall %.3f, %.2f steps/s, %.0f s left',
            self.step, self.config.max_steps, loss, shown['precision'], shown['recall'], rate, left,
        )  # fmt: skip
        self.metrics.clear()
        self._summary_step, self._summary_at = self.step, now


def make_train_step(
    model: FFNModel, optimizer: Any
) -> Callable[[Batch, bool], tuple[float, np.ndarray, dict[str, np.ndarray]]]:
    """Compiles a training step.

    Args:
      model: the network.
      optimizer: built for its variables.

    Returns:
      Function of a batch, and of whether gradients are wanted, that returns the loss (the mean over
      batch and voxels of weighted sigmoid cross-entropy), float32 logits [b, z, y, x, 1], and the
      gradients by variable name.
    """
    variables = model.trainable_variables
    names = list(model.named_variables())
    spec = tf.TensorSpec((None, *model.info.input_image_size.zyx, 1), tf.float32)

    def compute(images, seeds, labels, weights):
        with tf.GradientTape() as tape:
            logits = model((images, seeds), training=True)
            loss = tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits) * weights
            )
        gradients = [tf.clip_by_value(g, -_CLIP, _CLIP) for g in tape.gradient(loss, variables)]
        optimizer.apply(gradients, variables)
        return loss, logits, gradients

    with_gradients = tf.function(compute, input_signature=[spec] * 4)
    without = tf.function(lambda *batch: compute(*batch)[:2], input_signature=[spec] * 4)

    def step(batch: Batch, want_gradients: bool):
        tensors = [tf.constant(array) for array in batch]
        if not want_gradients:
            loss, logits = without(*tensors)
            return float(loss), logits.numpy(), {}
        loss, logits, gradients = with_gradients(*tensors)
        named = {name: g.numpy() for name, g in zip(names, gradients, strict=True)}
        return float(loss), logits.numpy(), named

    return step


def save_flags(train_dir: str | Path, text: str) -> None:
    """Keeps what a run was called with beside its checkpoints; usable with --flagfile."""
    with atomic_path(Path(train_dir, 'train.flags')) as path:
        path.write_text(text)
