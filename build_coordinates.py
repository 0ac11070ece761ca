"""Samples coordinates to train at from partition volumes.

    build_coordinates.py --partition_volumes=train:PARTITIONS.h5:af \
        --coordinate_output=COORDINATES.tfrecord --margin=24,24,24

writes GZIP TFRecord: every partition equally often, shuffled. See doc/reference.md. The same as
`ffn coordinates`.
"""

from absl import flags

from ffn.cli import absl_flags, coordinates
from ffn.utils.errors import run_script

FLAGS = flags.FLAGS

absl_flags.define(coordinates.Coordinates)


def main() -> None:
    """Builds coordinates as the flags say."""
    coordinates.run(absl_flags.read(coordinates.Coordinates))


if __name__ == '__main__':
    run_script(main)
