"""Trains in processes of their own, with as many devices as asked for: run by test_distribution.

python -m tests.training.distributed FOLDER MODEL_DIR DEVICES STRATEGY BATCH STEPS [EVAL_STEPS]

With EVAL_STEPS, the chief alone is given an evaluation, which takes a while, as `ffn train` does it.
"""

import hashlib
import json
import logging
import os
import sys
import time
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import tensorflow as tf
from absl import logging as absl_logging

from ffn.training import train_loop
from ffn.training.config import CheckpointConfig
from ffn.training.distribution import make_replicas
from ffn.training.train_step import TrainStep
from ffn.utils.errors import exit_status
from tests.training import sample

EVALUATION_S = float(os.environ.get('EVALUATION_S', '3'))


class KeptStep(TrainStep):
    """Remembers itself, so that its weights can be looked at afterwards."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        KeptStep.last = self


def digests(replicas) -> list[str]:
    """One for the weights of each replica in this process."""
    copies = zip(
        *(
            [
                part.numpy().tobytes()
                for part in replicas.strategy.experimental_local_results(v.value)
            ]
            for v in KeptStep.last.model.trainable_variables
        )
    )
    return [hashlib.sha256(b''.join(parts)).hexdigest() for parts in copies]


def evaluate(checkpoint: str) -> dict[str, float]:
    time.sleep(EVALUATION_S)
    return {'voi': 1.5}


def main() -> None:
    folder, directory, devices, strategy, batch, steps, *every = sys.argv[1:]
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(logging.INFO)
    cpu = tf.config.list_physical_devices('CPU')[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices)
    )
    replicas = make_replicas(strategy)
    config = sample.train_config(
        Path(folder),
        train_dir=directory,
        batch_size=int(batch),
        max_steps=int(steps),
        checkpoints=CheckpointConfig(steps=5),
        eval_steps=int(every[0]) if every else 0,
        summary_seconds=1e-9,
    )
    train_loop.TrainStep = KeptStep
    scoring = evaluate if every and replicas.is_chief else None
    train_loop.train(config, replicas=replicas, evaluate=scoring)
    print(
        json.dumps(
            {'worker': replicas.worker, 'total': replicas.total, 'weights': digests(replicas)}
        )
    )


if __name__ == '__main__':
    sys.exit(exit_status(main))
