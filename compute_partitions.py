"""Computes, for each labelled voxel, how much of the box around it its own object fills.

    compute_partitions.py --input_volume=LABELS.h5:stack --output_volume=PARTITIONS.h5:af \
        --thresholds=0.025,0.05,0.075,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9 \
        --lom_radius=24,24,24 --min_size=10000

writes the fraction, as a class of one byte per voxel: what build_coordinates.py samples from. See
doc/manual.md.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging

from ffn.inference import inference_pb2
from ffn.training import partitions
from ffn.utils import protos
from ffn.utils.errors import UserError, run_script
from ffn.utils.geometry import Xyz

FLAGS = flags.FLAGS

flags.DEFINE_string('input_volume', None, 'Labels, path:dataset.', required=True)
flags.DEFINE_string('output_volume', None, 'HDF5 to write, path:dataset.', required=True)
flags.DEFINE_list(
    'thresholds', None, 'Ascending fractions of the box that separate the classes.', required=True
)
flags.DEFINE_list('lom_radius', None, 'Radius of the box, x,y,z.', required=True)
flags.DEFINE_list('id_whitelist', [], 'Labels to compute; all others become background.')
flags.DEFINE_list('exclusion_regions', [], 'Spheres to leave out: x,y,z,r,x,y,z,r,...')
flags.DEFINE_string(
    'mask_configs', '',
    'MaskConfigs in text format, or a file with it: voxels with a masked voxel in their box are left out.',
)  # fmt: skip
flags.DEFINE_integer('min_size', 10000, 'Segments with fewer voxels become background.')
flags.DEFINE_bool('quiet', False, 'No progress bar.')


def main() -> None:
    """Computes partitions as the flags say."""
    config = partitions.PartitionConfig(
        thresholds=_numbers(FLAGS.thresholds, float, '--thresholds'),
        lom_radius=Xyz.parse(FLAGS.lom_radius, '--lom_radius'),
        id_whitelist=_numbers(FLAGS.id_whitelist, int, '--id_whitelist'),
        exclusion_regions=_quadruples(FLAGS.exclusion_regions),
        masks=tuple(_mask_configs(FLAGS.mask_configs).masks),
        min_size=FLAGS.min_size,
    )
    values, counts = partitions.write_partitions(
        FLAGS.input_volume, FLAGS.output_volume, config, quiet=FLAGS.quiet
    )
    for value, count in zip(values, counts, strict=True):
        logging.info('partition %3d: %12d voxels', value, count)


def _numbers(texts: Sequence[str], kind: type, flag: str) -> tuple:
    try:
        return tuple(kind(text) for text in texts)
    except ValueError as error:
        raise UserError(f'{flag} is {",".join(texts)!r}; expected a list of numbers') from error


def _quadruples(texts: Sequence[str]) -> tuple[tuple[float, float, float, float], ...]:
    numbers = _numbers(texts, float, '--exclusion_regions')
    if len(numbers) % 4:
        raise UserError(
            f'--exclusion_regions has {len(numbers)} numbers; expected x,y,z,r for each sphere'
        )
    return tuple(zip(*[iter(numbers)] * 4, strict=True))


def _mask_configs(text_or_path: str) -> inference_pb2.MaskConfigs:
    message = inference_pb2.MaskConfigs()
    if text_or_path and '{' not in text_or_path and Path(text_or_path).exists():
        return protos.read_text(text_or_path, message)
    return protos.parse_text(text_or_path, message, '--mask_configs')


if __name__ == '__main__':
    run_script(main)
