"""Samples coordinates to train at from partition volumes.

    build_coordinates.py --partition_volumes=train:PARTITIONS.h5:af \
        --coordinate_output=COORDINATES.tfrecord --margin=24,24,24

writes GZIP TFRecord: every partition equally often, shuffled. See doc/manual.md.
"""

from absl import flags

from ffn.training.coordinates import build_coordinates
from ffn.utils.errors import UserError, run_script
from ffn.utils.geometry import Zyx
from ffn.volumes.volume import split_named

FLAGS = flags.FLAGS

flags.DEFINE_list(
    'partition_volumes', None, 'Partition volumes, name:path:dataset.', required=True
)  # fmt: skip
flags.DEFINE_string('coordinate_output', None, 'TFRecord to write, gzipped.', required=True)
flags.DEFINE_list('margin', None, 'Least distance from the faces, z,y,x (!).', required=True)
flags.DEFINE_integer('seed', None, 'Runs with one seed write identical files; default: drawn.')
flags.DEFINE_integer(
    'shards', 1, 'Number of files; more than one are named OUTPUT-00000-of-0000N and so on.'
)
flags.DEFINE_integer(
    'max_coordinates', None, 'Most records to write, the same number of each partition.'
)
flags.DEFINE_bool('quiet', False, 'No progress bar.')


def main() -> None:
    """Builds coordinates as the flags say."""
    if not FLAGS.coordinate_output:
        raise UserError('--coordinate_output is empty; expected a file to write')
    build_coordinates(
        split_named(FLAGS.partition_volumes, '--partition_volumes'),
        FLAGS.coordinate_output,
        Zyx.parse(FLAGS.margin, '--margin'),
        seed=FLAGS.seed,
        shards=FLAGS.shards,
        max_coordinates=FLAGS.max_coordinates,
        quiet=FLAGS.quiet,
    )


if __name__ == '__main__':
    run_script(main)
