"""The checkpoints of a run: all that it needs to continue, saved together and restored from the last one.

That is the network's weights and their averages, the state of the optimizer, and where the input and the
walks over examples stand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from absl import logging

from ffn.models import checkpoints
from ffn.models.saved_settings import read_settings, write_settings
from ffn.models.weights import assign, load_weights
from ffn.training.config import TrainConfig
from ffn.training.distribution import Replicas
from ffn.training.fov_count import FovCount
from ffn.training.inference_settings import updated_settings
from ffn.training.input.examples import ExampleSource
from ffn.training.input.input_state import (
    changed_settings,
    read_input_states,
    setting_digests,
    write_input_state,
)
from ffn.training.train_step import LOSS_SCALE, TrainStep
from ffn.training.walks.walk import BatchWalker
from ffn.utils.errors import UserError
from ffn.utils.locks import Lock

T = TypeVar('T')
# In the states of the input.
_FOVS = 'fovs'


class RunCheckpoints:
    """Saves and restores a run; in a run of several processes, only the chief writes weights.

    Attributes:
      saved_step: step of the last checkpoint, 0 before the first.
      fovs: the fields of view seen.
    """

    def __init__(
        self,
        config: TrainConfig,
        train_step: TrainStep,
        replicas: Replicas,
        source: ExampleSource,
        walker: BatchWalker,
        lock: Lock | None = None,
    ):
        """Takes over the last checkpoint of the run's folder, if there is one.

        Args:
          config: the run; gives the folder, the initial weights, and when to save.
          train_step: network and optimizer.
          replicas: which process this is.
          source: where examples come from.
          walker: the walks over them.
          lock: of the folder, which is still to be held whenever a checkpoint is saved.

        Raises:
          UserError: a checkpoint that does not fit the network.
        """
        self._config, self._train_step, self._replicas = config, train_step, replicas
        self._source, self._walker, self._lock = source, walker, lock
        self._settings = setting_digests(config.data, config.walk, train_step.model.info)
        self.fovs = FovCount(0, 0, config.batch_size * replicas.total)
        os.makedirs(config.train_dir, exist_ok=True)
        self.saved_step = self._restore()
        self._saved_at = time.monotonic()
        keep = config.checkpoints
        self._writer = checkpoints.CheckpointWriter(
            config.train_dir, keep.keep, keep.keep_every_hours
        )
        if replicas.is_chief:
            self._writer.remove_abandoned()
            self._writer.warn_of_later(self.saved_step)
            before = self._earlier_settings() if self.saved_step else None
            write_settings(config.train_dir, updated_settings(before or {}, config))

    def is_due(self, step: int) -> bool:
        """Whether it is time to save, now that a step is about to be made."""
        every, minutes = self._config.checkpoints.steps, self._config.checkpoints.minutes
        late = minutes > 0 and time.monotonic() - self._saved_at >= minutes * 60
        return late or (every > 0 and step + 1 - self.saved_step >= every)

    def save(self, step: int) -> str:
        """Saves a checkpoint; all processes have to call it.

        Args:
          step: number of steps made.

        Returns:
          Its path.

        Raises:
          UserError: it cannot be written, weights are not finite, or another training has taken the folder;
            the last one stays.
        """
        if self._lock is not None:
            self._lock.check()
        variables = {**self._train_step.weights(), **self._train_step.optimizer_state()}
        if not all(np.isfinite(variable).all() for variable in variables.values()):
            raise UserError(
                f'the weights are not finite after step {step}; the last checkpoint is that of '
                f'step {self.saved_step}. A lower --learning_rate usually helps'
            )
        replicas, directory = self._replicas, self._config.train_dir
        walks = {f'walk/{name}': array for name, array in self._walker.get_state().items()}
        fovs = {_FOVS: np.array(self.fovs.at(step), np.int64)}
        state = self._source.get_state() | walks | self._settings | fovs
        write_input_state(directory, step, replicas.worker, replicas.workers, state)
        if replicas.is_chief:
            self._writer.write(variables, step)
        replicas.wait_for_all()
        if replicas.is_chief:
            self._writer.commit(step)
        self.saved_step, self._saved_at = step, time.monotonic()
        return str(Path(directory, f'{checkpoints.PREFIX}-{step}'))

    def _earlier_settings(self) -> dict[str, Any] | None:
        try:
            return read_settings(self._config.train_dir)
        except UserError as error:
            logging.warning('%s; it is made anew', error)
            return None

    def _restore(self) -> int:
        """Restores the last checkpoint and returns its step; without one, loads init_checkpoint."""
        config = self._config
        latest = checkpoints.latest_checkpoint(config.train_dir)
        if latest is None:
            if config.init_checkpoint:
                step = load_weights(self._train_step.model, config.init_checkpoint)
                self._train_step.start_averages()
                logging.info(
                    'starting with the weights of %s, step %d', config.init_checkpoint, step
                )
            return 0
        stored = checkpoints.read_variables(latest)
        assign(self._train_step.model.named_variables(), stored, f'checkpoint {latest}')
        self._restore_averages(stored, latest)
        self._restore_optimizer(stored, latest)
        step = int(stored[checkpoints.STEP])
        self._train_step.set_step(step)
        states = read_input_states(latest, self._replicas.workers)
        # Checkpoints of versions up to 0.2 do not tell: as if every step had been as those that follow.
        seen = (int(state[_FOVS]) for state in states if state and _FOVS in state)
        per_step = self.fovs.per_step
        self.fovs = FovCount(step, next(seen, step * per_step), per_step)
        self._restore_input(latest, step, states)
        logging.info('continuing from %s, step %d', latest, step)
        return step

    def _restore_averages(self, stored: Mapping[str, np.ndarray], latest: str) -> None:
        averages = self._train_step.averages()
        if _fits(averages, stored, checkpoints.EMA):
            assign(averages, stored, f'checkpoint {latest}')
        elif averages:
            logging.warning('%s holds no averaged weights: averaging starts now', latest)
            self._train_step.start_averages()
        else:
            logging.warning(
                '%s holds averaged weights, which the training gives up: it goes on without --ema_decay, and its next '
                'checkpoints will not have any',
                latest,
            )

    def _restore_optimizer(self, stored: Mapping[str, np.ndarray], latest: str) -> None:
        scale, state = _split(self._train_step.optimizer_state(), LOSS_SCALE)
        stored_scale, stored = _split(stored, LOSS_SCALE)
        # Only float16 has a scale, and it adapts soon: the precision may change without a loss.
        if _fits(scale, stored_scale, LOSS_SCALE):
            assign(scale, stored_scale, f'checkpoint {latest}')
        if _fits(state, stored, 'optimizer/'):
            assign(state, stored, f'checkpoint {latest}')
            return
        logging.warning(
            '%s holds no state of the optimizer %s: it starts afresh',
            latest,
            self._config.optimizer.optimizer,
        )

    def _restore_input(
        self, latest: str, step: int, states: Sequence[Mapping[str, np.ndarray] | None]
    ) -> None:
        replicas = self._replicas
        state = states[replicas.worker] if len(states) == replicas.workers else None
        try:
            if state is None:
                raise ValueError('none was saved by a run of as many processes')
            if changed := changed_settings(state, self._settings):
                raise ValueError(f'--{", --".join(changed)} changed')
            self._source.set_state(state)
            prefix = 'walk/'
            self._walker.set_state(
                {n.removeprefix(prefix): a for n, a in state.items() if n.startswith(prefix)}
            )
        except (LookupError, ValueError, TypeError) as error:
            logging.warning(
                '%s: the interrupted examples cannot be resumed (%s); training continues with new ones',
                latest,
                error,
            )
            self._walker.clear()
            self._source.seek(self._first_new(step, states))

    def _first_new(self, step: int, states: Sequence[Mapping[str, np.ndarray] | None]) -> int:
        """Number of the first coordinate that examples which start afresh are taken from."""
        known = [state for state in states if state and {'seed', 'position'} <= state.keys()]
        if any(int(state['seed']) != self._config.seed for state in known):
            return 0  # in another order
        if known and len(known) == len(states):
            return sum(int(state['position']) for state in known) // self._replicas.workers
        return step * self._config.batch_size  # no walk is shorter than a step


def _split(named: Mapping[str, T], prefix: str) -> tuple[dict[str, T], dict[str, T]]:
    """What has names with a prefix, and the rest."""
    first = {name: value for name, value in named.items() if name.startswith(prefix)}
    return first, {name: value for name, value in named.items() if name not in first}


def _fits(variables: Mapping[str, Any], stored: Mapping[str, np.ndarray], prefix: str) -> bool:
    """Whether a checkpoint holds exactly these variables under a prefix."""
    found = {name: array.shape for name, array in stored.items() if name.startswith(prefix)}
    return found == {name: tuple(variable.shape) for name, variable in variables.items()}
