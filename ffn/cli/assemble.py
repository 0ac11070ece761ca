"""`ffn assemble`: segmented subvolumes → one volume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from ffn.assembly.assembly import assemble, describe
from ffn.assembly.config import AssemblyConfig
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.inference.request import read_box
from ffn.inference.request_identity import stored_voxel_size
from ffn.utils.settings import section, setting


@dataclass(frozen=True)
class Assemble:
    """Settings of the command."""

    segmentation: str = setting('segmentation_output_dir of the subvolumes', metavar='FOLDER')
    bounding_box: str = setting(
        'what they cover: BoundingBox (x, y, z), text format or a file', metavar='BOX'
    )
    assembly: AssemblyConfig = section('Records')
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    quiet: bool = setting('no progress bars', default=False)


def run(command: Assemble) -> None:
    """Assembles and prints a summary."""
    config = command.assembly
    tiling = config.tiling.tile(read_box(command.bounding_box))
    directory = Path(os.path.abspath(command.segmentation))
    assembly = config.plan(directory, tiling, config.tiling.masks, stored_voxel_size(directory))
    logging.info('%s', tiling)
    with command.pool.open() as pool:
        statistics = assemble(assembly, pool, command.quiet)
    print(describe(statistics, assembly))


def main(argv: Sequence[str] | None = None) -> None:
    """Makes one volume of segmented subvolumes.

    Raises:
      UserError: see `ffn.assembly.assembly.assemble`.
    """
    parser = make_parser(
        'assemble',
        'Makes one volume of segmented subvolumes: matches ids where neighbours overlap, gives each object\n'
        'one id, and writes the chunks. For subvolumes that run_inference.py, `ffn consensus` or anything\n'
        'else left as X/Y/seg-X_Y_Z.npz; `ffn segment` does this, and segments them first. A run that was\n'
        'stopped resumes with what is missing.',
        epilog='ffn assemble --segmentation results --output zarr://whole.zarr \\\n'
        "  --bounding_box 'start { x:0 y:0 z:0 } size { x:2000 y:2000 z:1000 }' \\\n"
        '  --subvolume_size 544,544,544 --overlap 32,32,32',
    )
    add_settings(parser, 'Input', Assemble, skip=('resource',))
    run(read_settings(parser.parse_args(argv), Assemble))
