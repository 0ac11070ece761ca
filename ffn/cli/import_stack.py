"""`ffn import-stack`: makes an HDF5 volume from the sections of an image stack, or of another volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.settings import setting
from ffn.volumes.downsample import NO_FACTORS, parse_factors
from ffn.volumes.importing.imported import format_size


@dataclass(frozen=True)
class ImportStack:
    """Settings of the command."""

    images: str = setting(
        'pattern of PNG, TIFF or MRC files, one section each or many (multi-page, ImageJ, OME-TIFF, BigTIFF), '
        'in quotes; sorted by name with numbers counted (z9 before z10), the first becomes z = 0; or any volume '
        '(path:dataset, a folder of Zarr or N5, a URL), such as to make it coarser',
        metavar='GLOB',
    )
    output: str = setting(
        'dataset to write; the other datasets of the file are kept', metavar='FILE.h5:DATASET'
    )
    voxel_size: tuple[float, float, float] | None = setting(
        'size of a voxel of the files in nanometres, x,y,z; without it, as the files say',
        default=None,
        parse=parse_voxel_size,
        metavar='X,Y,Z',
    )
    channel: int | None = setting(
        'of files with several channels, the one to take, from 0', default=None
    )
    downsample: Xyz = setting(
        'how many voxels become one, their mean, x,y,z',
        default=NO_FACTORS,
        parse=parse_factors,
        metavar='X,Y,Z',
    )
    clahe: bool = setting('even out the contrast of each section (CLAHE)', default=False)
    quiet: bool = setting('show no progress bar', default=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Imports a stack as the command line says.

    Raises:
      UserError: see `ffn.volumes.importing.import_stack.import_stack`.
    """
    parser = make_parser(
        'import-stack',
        'Makes an HDF5 volume [z, y, x] from the sections of an image stack, or from another volume.',
        "ffn import-stack --images 'sections/*.png' --voxel_size 4,4,40 --output train.h5:raw",
    )
    add_settings(parser, 'Stack', ImportStack)
    command = read_settings(parser.parse_args(argv), ImportStack)
    from ffn.volumes.importing.import_stack import import_stack

    written = import_stack(
        command.images,
        command.output,
        voxel_size=command.voxel_size,
        channel=command.channel,
        downsample=command.downsample,
        clahe=command.clahe,
        quiet=command.quiet,
    )
    print(
        f'{command.output}: {written.dtype} {written.shape_zyx.xyz}{format_size(written.voxel_size)}'
    )
