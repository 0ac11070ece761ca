"""Trains a flood-filling network.

    train.py --train_coords=COORDINATES --data_volumes=NAME:IMAGE.h5:raw \
        --label_volumes=NAME:LABELS.h5:stack --model_name=convstack_3d.ConvStack3DFFNModel \
        --model_args='{"depth": 12, "fov_size": [33, 33, 33], "deltas": [8, 8, 8]}' \
        --image_mean=128 --image_stddev=33 --train_dir=DIR

Run again with the same train_dir, it continues from the latest checkpoint. See doc/reference.md. The same
as `ffn train`.
"""

from absl import flags

from ffn.cli import absl_flags, train
from ffn.training.config import TrainConfig
from ffn.utils.errors import run_script

FLAGS = flags.FLAGS

absl_flags.define(train.Train, train_dir=None)


def make_config() -> TrainConfig:
    """Turns the flags into a TrainConfig."""
    return absl_flags.read(TrainConfig)


def main() -> None:
    """Trains as the flags say."""
    if FLAGS.train_dir is None:
        FLAGS.train_dir = train.make_train_dir()
    # The flags are taken before TensorFlow adds its own, which --flagfile would not know.
    train.run(absl_flags.read(train.Train), absl_flags.format_flags(train.Train))


if __name__ == '__main__':
    run_script(main)
