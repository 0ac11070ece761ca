"""Computes, for each labelled voxel, how much of the box around it its own object fills.

    compute_partitions.py --input_volume=LABELS.h5:stack --output_volume=PARTITIONS.h5:af \
        --thresholds=0.025,0.05,0.075,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9 \
        --lom_radius=24,24,24 --min_size=10000

writes the fraction, as a class of one byte per voxel: what build_coordinates.py samples from. See
doc/reference.md. The same as `ffn partitions`.
"""

from absl import flags

from ffn.cli import absl_flags, partitions
from ffn.utils.errors import run_script

FLAGS = flags.FLAGS

absl_flags.define(partitions.Partitions)


def main() -> None:
    """Computes partitions as the flags say."""
    partitions.run(absl_flags.read(partitions.Partitions))


if __name__ == '__main__':
    run_script(main)
