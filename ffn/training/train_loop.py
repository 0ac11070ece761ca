"""The training loop."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

import ffn
from ffn.models import checkpoints, saved_settings, weights
from ffn.models.model import create_model
from ffn.training import guidance
from ffn.training.config import SOFT_LABELS, TrainConfig
from ffn.training.distribution import Replicas
from ffn.training.input.examples import ExampleSource
from ffn.training.input.input_state import read_input_state, write_input_state
from ffn.training.metrics import PatchMetrics
from ffn.training.summaries import Summaries
from ffn.training.train_step import StepResult, TrainStep
from ffn.training.walks.walk import BatchWalker
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.progress import progress
from ffn.utils.signals import stop_on_signal

Evaluate = Callable[[str], Mapping[str, float]]
"""Judges a checkpoint, given by its path: name → score."""


def train(
    config: TrainConfig, stop: threading.Event | None = None, replicas: Replicas | None = None,
    evaluate: Evaluate | None = None, flags: str = '',
) -> int:  # fmt: skip
    """Trains until max_steps, or until asked to stop, going on from the last checkpoint.

    Args:
      config: what to do.
      stop: set it to end the run after saving a checkpoint; SIGTERM and SIGINT do so as well.
      replicas: devices to train on; default: one.
      evaluate: called every config.eval_steps with a checkpoint; its scores are logged.
      flags: kept as train.flags beside the checkpoints.

    Returns:
      The step that was reached.

    Raises:
      UserError: what is given does not fit, or the loss is not finite any more.
    """
    replicas = replicas or Replicas(tf.distribute.get_strategy())
    precision = config.precision
    policy = precision if precision == 'float32' else f'mixed_{precision}'
    with replicas.strategy.scope():
        model = create_model(config.model_name, config.model_args, policy)
        config.check_model(model.info)
        model.initialize(np.random.default_rng((config.seed, 0)))
    step = TrainStep(model, config.optimizer, replicas, loss_scaling=precision == 'float16')
    batch_size = config.batch_size * replicas.local
    size = config.walk.patch_size(model.info)
    shard = (replicas.worker, replicas.workers)
    with ExampleSource(config.data, size, config.seed, 2 * batch_size, shard) as source:
        walker = BatchWalker(source, model.info, config.walk, batch_size)
        with _Run(config, step, replicas, source, walker, stop or threading.Event()) as run:
            if flags and replicas.is_chief:
                save_flags(config.train_dir, flags)
            with stop_on_signal(run.stop), _one_line_for_lost_peers(run):
                run.loop(evaluate)
        logging.info('examples used: %s; out of bounds: %d', source.counts(), source.skipped)
    return run.step


class _Run:
    """A run of the loop: what is learned, saved and reported; a context manager."""

    def __init__(
        self, config: TrainConfig, train_step: TrainStep, replicas: Replicas,
        source: ExampleSource, walker: BatchWalker, stop: threading.Event,
    ):  # fmt: skip
        self.config, self.train_step, self.replicas = config, train_step, replicas
        self.source, self.walker, self.stop = source, walker, stop
        self.info = train_step.model.info
        os.makedirs(config.train_dir, exist_ok=True)
        self.step = self._restore()
        self.fovs_per_step = config.batch_size * replicas.total
        keep = config.checkpoints
        self.writer = checkpoints.CheckpointWriter(
            config.train_dir, keep.keep, keep.keep_every_hours
        )
        self.summaries = None
        if replicas.is_chief:
            saved_settings.write_settings(config.train_dir, self._settings())
            self.summaries = Summaries(config.train_dir)
            guidance.log_suggestion(source.labelled_voxels(), self.fovs_per_step, config.max_steps)
        self.metrics = PatchMetrics(self.info, config.walk)
        self._monitor = guidance.TrainingMonitor()
        self._shown = {'precision': 0.0, 'recall': 0.0}
        self.saved_step, self._saved_at = self.step, time.monotonic()
        self._summary_step, self._summary_at = self.step, time.monotonic()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.summaries is not None:
            self.summaries.close()

    def _settings(self) -> dict[str, Any]:
        """What inference has to know."""
        config = self.config
        settings = {
            'model_name': config.model_name,
            'model_args': dict(config.model_args),
            'image_mean': config.data.image_mean,
            'image_stddev': config.data.image_stddev,
            'init_activation': SOFT_LABELS[0],
            'seed_pad': config.walk.seed_pad,
            'threshold': config.walk.threshold,
            'precision': config.precision,
            'version': ffn.__version__,
        }
        if config.voxel_size is not None:
            settings['voxel_size'] = list(config.voxel_size)
        if config.data.offset_scale:
            settings['image_offset_scale'] = dict(config.data.offset_scale)
        return settings

    def _restore(self) -> int:
        latest = checkpoints.latest_checkpoint(self.config.train_dir)
        if latest is None:
            if self.config.init_checkpoint:
                step = weights.load_weights(self.train_step.model, self.config.init_checkpoint)
                self.train_step.start_averages()
                logging.info('beginning with %s, step %d', self.config.init_checkpoint, step)
            return 0
        stored = checkpoints.read_variables(latest)
        what = f'checkpoint {latest}'
        weights.assign(self.train_step.model.named_variables(), stored, what)
        self._restore_group('ema/', self.train_step.averages(), stored, latest)
        self._restore_group('optimizer/', self.train_step.state(), stored, latest)
        step = int(stored[checkpoints.STEP])
        self._restore_input(latest, step)
        logging.info('going on from %s, step %d', latest, step)
        return step

    def _restore_group(
        self, prefix: str, variables: Mapping[str, Any], stored: Mapping[str, np.ndarray],
        latest: str,
    ) -> None:  # fmt: skip
        there = {name: array.shape for name, array in stored.items() if name.startswith(prefix)}
        if there == {name: tuple(variable.shape) for name, variable in variables.items()}:
            weights.assign(variables, stored, f'checkpoint {latest}')
        elif prefix == 'optimizer/':
            logging.warning(
                '%s holds no state of the optimizer %s: it starts afresh',
                latest, self.config.optimizer.optimizer,
            )  # fmt: skip
            # Schedules go on where they were.
            self.train_step.optimizer.iterations.assign(int(stored[checkpoints.STEP]))
        elif variables:
            logging.warning('%s holds no averaged weights: the average begins now', latest)
            self.train_step.start_averages()

    def _restore_input(self, latest: str, step: int) -> None:
        state = read_input_state(latest, self.replicas.worker, self.replicas.workers)
        try:
            if state is None:
                raise ValueError('none was saved by a run of as many processes')
            walks = {n.removeprefix('walk/'): a for n, a in state.items() if n.startswith('walk/')}
            self.walker.set_state(walks)
            self.source.set_state(state)
        except (KeyError, ValueError) as error:
            logging.warning(
                '%s: the examples that were under way are not taken up again (%s); new ones begin',
                latest, error,
            )  # fmt: skip
            self.source.seek(step * self.config.batch_size)

    def loop(self, evaluate: Evaluate | None) -> None:
        config, eval_steps = self.config, self.config.eval_steps if evaluate else 0
        want_gradients = False
        with progress(
            total=config.max_steps, initial=self.step, desc='training', unit='step',
            quiet=config.quiet or not self.replicas.is_chief,
        ) as bar:  # fmt: skip
            while self.step < config.max_steps:
                late = time.monotonic() - self._summary_at >= config.summary_seconds
                # Gradients are asked for one step ahead, by all processes alike.
                votes = (self._save_is_due(), self.stop.is_set(), late and not want_gradients)
                result = self.train_step(self.walker.batch(), want_gradients, votes)
                self._check_loss(result.loss)
                self.step += 1
                for walk in self.walker.advance(result.logits):
                    self.metrics.add(walk)
                    if self.summaries is not None:
                        self.summaries.keep(walk)
                bar.update()
                if want_gradients or self.step == config.max_steps:
                    self._summarize(result, bar)
                # All processes do the same, whoever asked for it.
                save, stopping, want_gradients = (result.votes > 0).tolist()
                evaluating = bool(eval_steps) and self.step % eval_steps == 0
                if save or stopping or evaluating or self.step == config.max_steps:
                    path = self._save()
                    if evaluating and self.replicas.is_chief:
                        self._evaluate(evaluate, path)
                if stopping:
                    break
        if self.saved_step != self.step:
            self._save()

    def _check_loss(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise UserError(
                f'the loss is {loss} at step {self.step + 1}, training on '
                f'{", ".join(self.walker.volumes())}; the last checkpoint is that of step '
                f'{self.saved_step}. A lower --learning_rate usually helps'
            )

    def _save_is_due(self) -> bool:
        every, minutes = self.config.checkpoints.steps, self.config.checkpoints.minutes
        late = minutes > 0 and time.monotonic() - self._saved_at >= minutes * 60
        return late or (every > 0 and self.step + 1 - self.saved_step >= every)

    def _save(self) -> str:
        variables = {**self.train_step.weights(), **self.train_step.state()}
        if not all(np.isfinite(variable).all() for variable in variables.values()):
            raise UserError(
                f'the weights are not finite after step {self.step}; the last checkpoint is that of '
                f'step {self.saved_step}. A lower --learning_rate usually helps'
            )
        replicas, directory = self.replicas, self.config.train_dir
        walks = {f'walk/{name}': array for name, array in self.walker.get_state().items()}
        write_input_state(
            directory, self.step, replicas.worker, replicas.workers, self.source.get_state() | walks
        )
        if replicas.is_chief:
            self.writer.write(variables, self.step)
        replicas.wait_for_all()
        if replicas.is_chief:
            self.writer.commit(self.step)
        self.saved_step, self._saved_at = self.step, time.monotonic()
        return str(Path(directory, f'{checkpoints.PREFIX}-{self.step}'))

    def _evaluate(self, evaluate: Evaluate, path: str) -> None:
        begin = time.monotonic()
        scores = evaluate(path)
        self.summaries.write(self.step, {f'heldout/{n}': v for n, v in scores.items()})
        shown = ', '.join(f'{name} {value:.4g}' for name, value in scores.items())
        logging.info('held-out box at step %d: %s', self.step, shown)
        self._summary_at += time.monotonic() - begin

    def _summarize(self, result: StepResult, bar: Any) -> None:
        now = time.monotonic()
        rate = (self.step - self._summary_step) / max(now - self._summary_at, 1e-9)
        scalars = {
            'pixel_loss': result.loss,
            'learning_rate': self.train_step.learning_rate,
            'steps/s': rate,
            'fov/seen': self.step * self.fovs_per_step,
            **self.metrics.scalars(),
        }
        counts = self.source.counts()
        scalars |= {f'examples/{name}': count for name, count in counts.items()}
        if self.summaries is not None:
            arrays = {n: np.asarray(v) for n, v in self.train_step.weights().items()}
            self.summaries.write(self.step, scalars, arrays, result.gradients)
            for warning in self._monitor.check(self.step, scalars):
                logging.warning('%s', warning)
        for name in ('precision', 'recall'):  # of the last summary that had finished patches
            self._shown[name] = scalars.get(f'eval/all/{name}', self._shown[name])
        shown, fovs = self._shown, self.step * self.fovs_per_step
        bar.set_postfix(
            loss=f'{result.loss:.4f}', **{name: f'{v:.2f}' for name, v in shown.items()}, FOVs=fovs
        )
        left = (self.config.max_steps - self.step) / max(rate, 1e-9)
        logging.log(
            logging.DEBUG if not bar.disable else logging.INFO,
            'step %d of %d, %d FOVs, loss %.4f, precision %.3f, recall %.3f, %.2f steps/s, '
            '%.0f s left', self.step, self.config.max_steps, fovs, result.loss,
            shown['precision'], shown['recall'], rate, left,
        )  # fmt: skip
        self.metrics.clear()
        self._summary_step, self._summary_at = self.step, now


@contextlib.contextmanager
def _one_line_for_lost_peers(run: _Run):
    """A process of several that is gone ends the others."""
    try:
        yield
    except tf.errors.OpError as error:
        if run.replicas.workers == 1:
            raise
        raise UserError(
            f'another process of the {run.replicas.workers} is gone after step {run.step}; the last '
            f'checkpoint is that of step {run.saved_step}: start all of them again '
            f'({str(error).splitlines()[0][:150]})'
        ) from error


def save_flags(train_dir: str | Path, text: str) -> None:
    """Keeps what a run was called with beside its checkpoints; usable with --flagfile."""
    with atomic_path(Path(train_dir, 'train.flags')) as path:
        path.write_text(text)
