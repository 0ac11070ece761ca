"""`ffn import-stack`: makes an HDF5 volume from the sections of an image stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.utils.geometry import Zyx
from ffn.utils.settings import setting


@dataclass(frozen=True)
class ImportStack:
    """Settings of the command."""

    images: str = setting(
        'pattern of PNG or TIFF files, one section each or many in a multi-page TIFF, in quotes; sorted by '
        'name with numbers counted (z9 before z10), the first becomes z = 0',
        metavar='GLOB',
    )
    output: str = setting(
        'dataset to write; the other datasets of the file are kept', metavar='FILE.h5:DATASET'
    )
    clahe: bool = setting('even out the contrast of each section (CLAHE)', default=False)
    quiet: bool = setting('show no progress bar', default=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Imports a stack as the command line says.

    Raises:
      UserError: see `ffn.volumes.import_stack.import_stack`.
    """
    parser = make_parser(
        'import-stack',
        'Makes an HDF5 volume [z, y, x] from the sections of an image stack.',
        "ffn import-stack --images 'sections/*.png' --output train.h5:raw",
    )
    add_settings(parser, 'Stack', ImportStack)
    command = read_settings(parser.parse_args(argv), ImportStack)
    from ffn.volumes.import_stack import import_stack

    stack = import_stack(command.images, command.output, clahe=command.clahe, quiet=command.quiet)
    print(f'{command.output}: {stack.dtype} {Zyx.of(stack.shape_zyx).xyz}')
