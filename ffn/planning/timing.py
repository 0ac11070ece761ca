"""How long training steps of a network take on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

_STEPS = 5


def time_step(model_args: Mapping[str, Any], batch_size: int) -> float:
    """Measures a training step on random data; loads TensorFlow.

    Args:
      model_args: of convstack_3d.ConvStack3DFFNModel.
      batch_size: examples of a step.

    Returns:
      Seconds, the median of a few steps after compilation.
    """
    import tensorflow as tf

    from ffn.models.model import create_model
    from ffn.training.distribution import Replicas
    from ffn.training.optimizer_config import OptimizerConfig
    from ffn.training.train_step import VOTES, TrainStep
    from ffn.training.walks.walk import Batch

    model = create_model('convstack_3d.ConvStack3DFFNModel', dict(model_args))
    model.initialize(np.random.default_rng(0))
    step = TrainStep(
        model, OptimizerConfig(optimizer='adam'), Replicas(tf.distribute.get_strategy())
    )
    shape = (batch_size, *model.info.input_image_size.zyx, 1)
    rng = np.random.default_rng(1)
    arrays = [rng.random(shape, np.float32) for _ in range(4)]
    seconds = []
    for _ in range(_STEPS + 1):
        begin = time.monotonic()
        step(Batch(*arrays), False, (False,) * VOTES)
        seconds.append(time.monotonic() - begin)
    return float(np.median(seconds[1:]))
