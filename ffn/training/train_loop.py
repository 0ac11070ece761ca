"""The training loop."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging

from ffn.models.model import FFNModel, create_model
from ffn.training.config import TrainConfig
from ffn.training.distribution import Replicas
from ffn.training.input.examples import ExampleSource, Stopped
from ffn.training.reporting import Report
from ffn.training.run_checkpoints import RunCheckpoints
from ffn.training.train_step import TrainStep
from ffn.training.walks.walk import BatchWalker
from ffn.utils import event_log
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.locks import Lock, exclusive_directory
from ffn.utils.signals import stop_on_signal
from ffn.volumes.units import KnownVoxelSize

Evaluate = Callable[[str], Mapping[str, float]]
"""Scores a checkpoint, given by its path: name → score."""


def train(
    config: TrainConfig,
    stop: threading.Event | None = None,
    replicas: Replicas | None = None,
    evaluate: Evaluate | None = None,
    flags: str = '',
    check: Callable[[FFNModel], None] = lambda model: None,
) -> int:
    """Trains until max_steps, or until asked to stop, continuing from the last checkpoint.

    Args:
      config: the run.
      stop: set it to end the run after saving a checkpoint; SIGTERM and SIGINT do so as well.
      replicas: devices to train on; default: one.
      evaluate: called every config.eval_steps with a checkpoint; its scores are logged. Of several processes,
        only the chief has to be given it; the others wait with their next step.
      flags: kept as train.flags beside the checkpoints.
      check: called with the network before its first step, in every process; raises UserError where training would be in vain.

    Returns:
      The step that was reached.

    Raises:
      UserError: volumes, model and checkpoints do not fit, the loss is no longer finite, or another
        training is at work in the same folder.
    """
    replicas = replicas or Replicas(tf.distribute.get_strategy())
    precision = config.precision
    policy = precision if precision == 'float32' else f'mixed_{precision}'
    with replicas.strategy.scope():
        model = create_model(config.model_name, config.model_args, policy)
        config.check_model(model.info)
        model.initialize(np.random.default_rng((config.seed, 0)))
    check(model)
    step = TrainStep(model, config.optimizer, replicas, loss_scaling=precision == 'float16')
    batch_size = config.batch_size * replicas.local
    size = config.walk.patch_size(model.info)
    shard = (replicas.worker, replicas.workers)
    stop = stop or threading.Event()
    with ExampleSource(
        *(config.data, size, config.seed, 2 * batch_size, shard),
        stop,
        config.quiet or not replicas.is_chief,
    ) as source:
        voxel_size = source.find_voxel_size(config.voxel_size)
        config = dataclasses.replace(config, voxel_size=voxel_size)
        if voxel_size is not None:
            known = KnownVoxelSize(voxel_size, 'the training')
            config.data.augmentation.warn_of_contradiction(known)
        walker = BatchWalker(source, model.info, config.walk, batch_size)
        with _one_training(config.train_dir, replicas) as lock:
            saved = RunCheckpoints(config, step, replicas, source, walker, lock)
            with Report(config, step, replicas, source, saved.saved_step, saved.fovs) as report:
                if flags and replicas.is_chief:
                    save_flags(config.train_dir, flags)
                run = _Run(config, step, replicas, walker, saved, report, stop)
                with (
                    event_log.fields(step=lambda: run.step),
                    stop_on_signal(run.stop),
                    _describe_lost_peers(run),
                    _stopped_early(run),
                ):
                    run.loop(evaluate)
        logging.info(
            'examples used: %s; out of bounds: %d; not labelled: %d',
            source.counts(),
            source.skipped,
            source.unlabelled,
        )
    return run.step


@contextlib.contextmanager
def _one_training(train_dir: str, replicas: Replicas) -> Iterator[Lock | None]:
    """Keeps other trainings out of a folder; of several processes, the one that writes checkpoints does so."""
    if replicas.is_chief:
        with exclusive_directory(train_dir) as lock:
            yield lock
    else:
        yield None


class _Run:
    """The steps of a run, and when to save, report and evaluate."""

    def __init__(
        self,
        config: TrainConfig,
        train_step: TrainStep,
        replicas: Replicas,
        walker: BatchWalker,
        saved: RunCheckpoints,
        report: Report,
        stop: threading.Event,
    ):
        self.config, self.train_step, self.replicas = config, train_step, replicas
        self.walker, self.saved, self.report, self.stop = walker, saved, report, stop
        self.step = saved.saved_step

    def loop(self, evaluate: Evaluate | None) -> None:
        """Makes steps until max_steps or until asked to stop; saves the last."""
        max_steps = self.config.max_steps
        # Only the chief evaluates, and only it may know of an evaluation.
        eval_steps = self.config.eval_steps if evaluate and self.replicas.is_chief else 0
        want_gradients = False
        while self.step < max_steps:
            # Gradients are requested one step ahead, in all processes alike.
            evaluating = eval_steps > 0 and (self.step + 1) % eval_steps == 0
            votes = (
                evaluating or self.saved.is_due(self.step),
                self.stop.is_set(),
                self.report.is_due() and not want_gradients,
            )
            result = self.train_step(self.walker.batch(), want_gradients, votes)
            self._check_loss(result.loss)
            self.step += 1
            self.report.add_step(self.walker.advance(result.logits))
            if want_gradients or self.step == max_steps:
                self.report.summarize(self.step, result)
            # All processes do the same, whichever of them asked for it.
            save, stopping, want_gradients = (result.votes > 0).tolist()
            if save or stopping or self.step == max_steps:
                path = self.saved.save(self.step)
                if evaluate and evaluating:
                    begin = time.monotonic()
                    scores = evaluate(path)
                    self.report.add_held_out(self.step, scores, time.monotonic() - begin)
            if stopping:
                break
        if self.saved.saved_step != self.step:
            self.saved.save(self.step)

    def _check_loss(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise UserError(
                f'the loss is {loss} at step {self.step + 1}, training on '
                f'{", ".join(self.walker.volumes())}; the last checkpoint is that of step '
                f'{self.saved.saved_step}. A lower --learning_rate usually helps'
            )


@contextlib.contextmanager
def _stopped_early(run: _Run) -> Iterator[None]:
    """Ends a run that is stopped between two steps, without a checkpoint: walks wait for their next example."""
    try:
        yield
    except Stopped:
        run.step = run.saved.saved_step
        logging.warning(
            'stopped while looking for an example; the last checkpoint is that of step %d', run.step
        )


@contextlib.contextmanager
def _describe_lost_peers(run: _Run) -> Iterator[None]:
    """Turns the error that a lost process causes in the others into one line."""
    try:
        yield
    except tf.errors.OpError as error:
        if run.replicas.workers == 1:
            raise
        raise UserError(
            f'another process of the {run.replicas.workers} is gone after step {run.step}; the last '
            f'checkpoint is that of step {run.saved.saved_step}: start all of them again '
            f'({str(error).splitlines()[0][:150]})'
        ) from error


def save_flags(train_dir: str | Path, text: str) -> None:
    """Writes the flags of a run beside its checkpoints, in a form that --flagfile reads."""
    with atomic_path(Path(train_dir, 'train.flags')) as path:
        path.write_text(text)
