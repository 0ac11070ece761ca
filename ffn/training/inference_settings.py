"""What a run leaves for inference: the settings in `model.json`, beside its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from absl import logging

import ffn
from ffn.training.config import SOFT_LABELS, TrainConfig


def inference_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings of a run that inference needs to know, for `model.json`."""
    settings = {
        'model_name': config.model_name,
        'model_args': dict(config.model_args),
        'init_activation': SOFT_LABELS[0],
        'seed_pad': config.walk.seed_pad,
        'threshold': config.walk.threshold,
        'precision': config.precision,
        'version': ffn.__version__,
    }
    if config.voxel_size is not None:
        settings['voxel_size'] = list(config.voxel_size)
    if config.data.image_mean is not None:  # else every volume has its own
        settings['image_mean'] = config.data.image_mean
        settings['image_stddev'] = config.data.image_stddev
    if config.data.offset_scale:
        settings['image_offset_scale'] = dict(config.data.offset_scale)
    return settings


def updated_settings(before: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """The settings of a run that goes on; warns of those that change, as they change what inference does.

    Args:
      before: `model.json` as it is, empty at the beginning; a voxel size that the run no longer knows is taken from it.
      config: the run.
    """
    # As JSON has them, with lists for tuples.
    now: dict[str, Any] = json.loads(json.dumps(inference_settings(config)))
    if 'voxel_size' in before:
        now.setdefault('voxel_size', before['voxel_size'])
    for name in before.keys() & now.keys() - {'precision', 'version'}:
        if before[name] != now[name]:
            logging.warning(
                '%s: the training began with %s %s and goes on with %s, which inference will take as well',
                config.train_dir,
                name,
                json.dumps(before[name]),
                json.dumps(now[name]),
            )
    return now
