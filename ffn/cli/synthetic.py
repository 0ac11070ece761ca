"""`ffn synthetic`: generates a sample with its ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.atomic import check_writable
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.settings import setting


@dataclass(frozen=True)
class Synthetic:
    """Settings of the command."""

    size: Xyz = setting('voxels along each axis, 16 or more', parse=Xyz.parse, metavar='X,Y,Z')
    output: str = setting(
        'HDF5 file to write the datasets image (uint8) and labels (uint32) to; others are kept',
        metavar='FILE',
    )
    seed: int = setting('the same seed generates the same sample', default=1)
    voxel_size: tuple[float, float, float] | None = setting(
        'size of a voxel in nanometres, x,y,z, stored with both datasets. Neurites are 18 to 32 times as thick as its '
        'shortest side is long, so that 8,8,30 gives thick sections. Without it, no size is stored',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Writes a generated sample to an HDF5 file."""
    parser = make_parser(
        'synthetic',
        'Generates a sample that looks like electron microscopy of neuropil, with its ground truth.',
        'ffn synthetic --size 128,128,128 --seed 1 --output sample.h5',
    )
    add_settings(parser, 'Sample', Synthetic)
    command = read_settings(parser.parse_args(argv), Synthetic)
    from ffn.synthetic import generate, write_sample

    check_writable(command.output, '--output')
    sample = generate(command.size.zyx, command.seed, (command.voxel_size or (1, 1, 1))[::-1])
    write_sample(sample, command.output, command.voxel_size)
    objects = int(sample.labels.max())
    print(f'{command.output}: image and labels, {command.size}, {objects} objects')
