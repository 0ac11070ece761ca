"""What a run shows: its progress bar, log, event files for TensorBoard, and warnings."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from absl import logging

from ffn.training import guidance
from ffn.training.config import TrainConfig
from ffn.training.distribution import Replicas
from ffn.training.fov_count import FovCount
from ffn.training.input.examples import ExampleSource
from ffn.training.metrics import PatchMetrics
from ffn.training.summaries import Summaries
from ffn.training.train_step import StepResult, TrainStep
from ffn.training.walks.walk import Walk
from ffn.utils import event_log
from ffn.utils.progress import has_terminal, progress


class Report:
    """Reports on a run; a context manager. In a run of several processes, only the chief reports."""

    def __init__(
        self,
        config: TrainConfig,
        train_step: TrainStep,
        replicas: Replicas,
        source: ExampleSource,
        step: int,
        fovs: FovCount,
    ):
        """Opens the event file and the progress bar.

        Args:
          config: the run.
          train_step: network and optimizer.
          replicas: which process this is.
          source: where examples come from.
          step: number of steps made before.
          fovs: the fields of view seen.
        """
        self._config, self._train_step, self._source = config, train_step, source
        self._fovs = fovs
        self._metrics = PatchMetrics(train_step.model.info, config.walk)
        self._monitor = guidance.TrainingMonitor()
        self._summaries: Summaries | None = None
        if replicas.is_chief:
            self._summaries = Summaries(config.train_dir)
            guidance.log_suggestion(source.labelled_voxels(), fovs, config.max_steps)
        self._bar = progress(
            total=config.max_steps,
            initial=step,
            desc='training',
            unit='step',
            # Elsewhere, the summaries are in the log.
            quiet=config.quiet or not replicas.is_chief or not has_terminal(),
        )
        # Of the last summary that had finished patches.
        self._shown = {'precision': 0.0, 'recall': 0.0}
        self._summary_step, self._summary_at = step, time.monotonic()

    def __enter__(self) -> Report:
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()
        if self._summaries is not None:
            self._summaries.close()

    def is_due(self) -> bool:
        """Whether it is time for a summary."""
        return time.monotonic() - self._summary_at >= self._config.summary_seconds

    def add_step(self, ended: list[Walk]) -> None:
        """Counts a step, and the walks that ended with it."""
        for walk in ended:
            self._metrics.add(walk)
            if self._summaries is not None:
                self._summaries.keep(walk)
        self._bar.update()

    def add_held_out(self, step: int, scores: Mapping[str, float], seconds: float) -> None:
        """Reports the scores of a held-out box.

        Args:
          step: number of steps made.
          scores: name → score.
          seconds: how long scoring took, which does not count for the rate of steps.
        """
        if self._summaries is not None:
            self._summaries.write(step, {f'heldout/{name}': v for name, v in scores.items()})
        if scores:
            shown = ', '.join(f'{name} {value:.4g}' for name, value in scores.items())
            logging.info('held-out box at step %d: %s', step, shown)
        self._summary_at += seconds

    def summarize(self, step: int, result: StepResult) -> None:
        """Writes a summary of the steps since the last one."""
        now = time.monotonic()
        rate = (step - self._summary_step) / max(now - self._summary_at, 1e-9)
        scalars = {
            'pixel_loss': result.loss,
            'learning_rate': self._train_step.learning_rate,
            'steps/s': rate,
            'fov/seen': self._fovs.at(step),
            **self._metrics.scalars(),
            **{f'examples/{name}': count for name, count in self._source.counts().items()},
        }
        if self._summaries is not None:
            weights = {n: np.asarray(v) for n, v in self._train_step.weights().items()}
            self._summaries.write(step, scalars, weights, result.gradients)
            for warning in self._monitor.check(step, scalars):
                logging.warning('%s', warning)
        for name in self._shown:
            self._shown[name] = scalars.get(f'eval/all/{name}', self._shown[name])
        self._show(step, result.loss, rate)
        if event_log.is_on():  # otherwise the progress bar shows it
            logging.info('loss %.5f, %.2f steps/s', result.loss, rate)
        self._metrics.clear()
        self._summary_step, self._summary_at = step, now

    def _show(self, step: int, loss: float, rate: float) -> None:
        """Shows a summary in the bar, or in the log where there is no bar."""
        precision, recall = self._shown['precision'], self._shown['recall']
        fovs = self._fovs.at(step)
        self._bar.set_postfix(
            loss=f'{loss:.4f}', precision=f'{precision:.2f}', recall=f'{recall:.2f}', FOVs=fovs
        )
        max_steps = self._config.max_steps
        logging.log(
            logging.INFO if self._bar.disable else logging.DEBUG,
            'step %d of %d, %d FOVs, loss %.4f, precision %.3f, recall %.3f, %.2f steps/s, %.0f s left',
            step,
            max_steps,
            fovs,
            loss,
            precision,
            recall,
            rate,
            (max_steps - step) / max(rate, 1e-9),
        )
