"""A small labelled volume to train on, of sides that differ, and coordinates in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

from ffn.training.config import DataConfig, TrainConfig, WalkConfig
from ffn.training.optimizer_config import OptimizerConfig

SHAPE_ZYX = (24, 28, 34)
MODEL = 'convstack_3d.ConvStack3DFFNModel'
MODEL_ARGS = {'depth': 2, 'features': 4, 'fov_size': [9, 9, 7], 'deltas': [3, 3, 2]}
# Patches are FOV + 2 · deltas: z,y,x 11,15,15.
CENTERS_XYZ = [(x, y, z) for z in (6, 11, 17) for y in (8, 14, 19) for x in (8, 13, 20, 25)]


def labels() -> np.ndarray:
    """Two slabs that touch, with background around; int64 [z, y, x]."""
    volume = np.zeros(SHAPE_ZYX, np.int64)
    volume[2:-2, 2:15, 2:-2] = 7
    volume[2:-2, 15:-2, 2:-2] = 2**40
    return volume


def image() -> np.ndarray:
    """The slabs, one bright and one dark, with noise; uint8 [z, y, x]."""
    values = np.select([labels() == 7, labels() == 2**40], [200, 80], 140)
    noise = np.random.default_rng(5).integers(-10, 11, SHAPE_ZYX)
    return (values + noise).astype(np.uint8)


def write_coordinates(path: Path, centers_xyz: Sequence[Sequence[int]], name: str = 'v') -> str:
    """Writes a GZIP TFRecord, one Example per centre."""
    with tf.io.TFRecordWriter(str(path), 'GZIP') as writer:
        for center in centers_xyz:
            features = {
                'center': tf.train.Feature(int64_list=tf.train.Int64List(value=center)),
                'label_volume_name': tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[name.encode()])
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return str(path)


def write_sample(folder: Path) -> None:
    """Writes volume.h5 with `raw` and `labels`, and coordinates.tfrecord."""
    with h5py.File(folder / 'volume.h5', 'w') as file:
        file['raw'] = image()
        file['labels'] = labels()
    write_coordinates(folder / 'coordinates.tfrecord', CENTERS_XYZ)


def data_config(folder: Path, **kwargs) -> DataConfig:
    """The sample's DataConfig, with fields replaced by `kwargs`."""
    fields = {
        'train_coords': str(folder / 'coordinates.tfrecord'),
        'data_volumes': {'v': f'{folder}/volume.h5:raw'},
        'label_volumes': {'v': f'{folder}/volume.h5:labels'},
        'image_mean': 140.0,
        'image_stddev': 50.0,
    }
    return DataConfig(**{**fields, **kwargs})


def train_config(folder: Path, data: dict | None = None, **kwargs) -> TrainConfig:
    """A short training run on the sample; `data` replaces fields of its DataConfig."""
    fields = {
        'data': data_config(folder, **(data or {})),
        'walk': WalkConfig(),
        'optimizer': OptimizerConfig('adam', learning_rate=0.01),
        'model_name': MODEL,
        'model_args': MODEL_ARGS,
        'train_dir': str(folder / 'model'),
        'batch_size': 2,
        'max_steps': 6,
        'quiet': True,
    }
    return TrainConfig(**{**fields, **kwargs})
