"""Where training runs: one device, all GPUs of a machine, or several processes on several machines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from ffn.utils.errors import UserError

STRATEGIES = ('auto', 'one_device', 'mirrored', 'multi_worker', 'slurm')


@dataclass(frozen=True)
class Replicas:
    """The replicas of the network that are trained together, and which of them are in this process.

    Attributes:
      strategy: TensorFlow's distribution strategy.
      worker: number of this process, from 0; process 0 writes checkpoints and event files.
      workers: number of processes.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def total(self) -> int:
        """Number of replicas in all processes."""
        return int(self.strategy.num_replicas_in_sync)

    @property
    def local(self) -> int:
        """Number of replicas in this process."""
        return self.total // self.workers

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files that all processes share."""
        return self.worker == 0

    def split(self, arrays: Sequence[np.ndarray]) -> list[Any]:
        """Splits arrays along their first axis, one part for each local replica."""
        if self.total == 1:
            return [tf.constant(array) for array in arrays]
        return [self._distribute(np.split(array, self.local)) for array in arrays]

    def _distribute(self, parts: Sequence[np.ndarray]) -> Any:
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group % self.local])
        )

    def join(self, values: Any) -> np.ndarray:
        """Concatenates the results of the local replicas along their first axis."""
        parts = [part.numpy() for part in self.strategy.experimental_local_results(values)]
        joined: np.ndarray = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return joined

    def wait_for_all(self) -> None:
        """Returns once all processes have called it."""
        if self.workers > 1:
            ones = self.strategy.run(lambda: tf.constant(1.0))
            self.strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None)


def make_replicas(kind: str = 'auto') -> Replicas:
    """Sets up the devices; must be called before anything else that TensorFlow does.

    Args:
      kind: 'one_device'; 'mirrored': all GPUs of this machine; 'multi_worker': the processes that
        TF_CONFIG names; 'slurm': those of the SLURM step that this process belongs to; 'auto':
        multi_worker, mirrored or one_device, whichever is possible.

    Raises:
      UserError: it is unknown or cannot be set up here.
    """
    if kind not in STRATEGIES:
        raise UserError(f'--strategy is {kind!r}; expected one of {", ".join(STRATEGIES)}')
    workers = _count_workers()
    if kind == 'slurm' or kind == 'multi_worker' or (kind == 'auto' and workers > 1):
        return _make_multi_worker(kind)
    devices = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
    if kind == 'mirrored' or (kind == 'auto' and len(devices) > 1):
        names = [device.name for device in devices]
        logging.info('training on %d devices at once: %s', len(names), ', '.join(names))
        return Replicas(tf.distribute.MirroredStrategy(names))
    return Replicas(tf.distribute.get_strategy())


def _count_workers() -> int:
    """Number of processes that TF_CONFIG names, 1 without it."""
    text = os.environ.get('TF_CONFIG', '')
    if not text:
        return 1
    try:
        return len(json.loads(text)['cluster']['worker'])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'TF_CONFIG is {text!r}; expected JSON such as {{"cluster": {{"worker": ["host:port", '
            '...]}, "task": {"type": "worker", "index": 0}}'
        ) from error


def _make_multi_worker(kind: str) -> Replicas:
    try:
        if kind == 'slurm':
            resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
        else:
            resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if not resolver.cluster_spec().as_dict():
            raise UserError('--strategy multi_worker needs TF_CONFIG, which is not set')
        if not tf.config.list_physical_devices('GPU'):
            options = tf.distribute.experimental.CommunicationOptions(
                implementation=tf.distribute.experimental.CommunicationImplementation.RING
            )
        else:
            options = tf.distribute.experimental.CommunicationOptions()
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    except (RuntimeError, ValueError, KeyError, OSError, tf.errors.OpError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise UserError(f'--strategy {kind}: the processes cannot be set up: {reason}') from error
    workers = len(resolver.cluster_spec().as_dict()['worker'])
    worker = int(resolver.task_id or 0)
    logging.info(
        'process %d of %d, %d devices in all', worker, workers, strategy.num_replicas_in_sync
    )
    return Replicas(strategy, worker, workers)
