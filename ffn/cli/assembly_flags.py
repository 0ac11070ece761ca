"""The flags that the commands of this package share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from absl import logging

from ffn.assembly.matching import CONFLICTS, Matching
from ffn.assembly.tiling import Tiling
from ffn.assembly.write import check_chunk, default_chunk
from ffn.distributed.pool import add_where
from ffn.utils.geometry import Box, Xyz, parse_voxel_size
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.specs import absolute_spec


def add_arguments(parser: argparse.ArgumentParser, box_required: bool) -> None:
    """Adds the flags of tiling, output, matching and cluster."""
    _add_volume(parser.add_argument, box_required)
    _add_matching(parser.add_argument)
    _add_run(parser.add_argument, network=not box_required)


def _add_volume(add: Callable[..., object], box_required: bool) -> None:
    add('--bounding_box', required=box_required, default='', metavar='BOX',
        help='BoundingBox, text format or a file' + ('' if box_required else '; the whole image'))  # fmt: skip
    add('--subvolume_size', required=True, metavar='X,Y,Z', help='voxels, overlaps included')
    add('--overlap', required=True, metavar='X,Y,Z', help='voxels that two neighbours share')
    add('--mask', default='', metavar='MASKS',
        help='MaskConfigs, text format or a file; subvolumes masked everywhere are left out')  # fmt: skip
    add('--output', required=True, metavar='VOLUME',
        help='FILE.h5:DATASET, or zarr://, zarr3://, n5:// or precomputed:// before a path or URL')  # fmt: skip
    add('--chunk_size', default='', metavar='X,Y,Z',
        help='of the output; chosen so that cores end with chunks, 64 at most')  # fmt: skip
    add('--voxel_size', default='', metavar='X,Y,Z', help='nanometres, for precomputed volumes')


def _add_matching(add: Callable[..., object]) -> None:
    default = Matching()
    add('--min_overlap_voxels', type=int, default=default.min_voxels, metavar='N',
        help='voxels that two ids share at least to be one object (%(default)s)')  # fmt: skip
    add('--min_fraction_smaller', type=float, default=default.min_fraction_smaller, metavar='F',
        help='least part of the smaller one in the overlap that is shared (%(default)s)')  # fmt: skip
    add('--min_fraction_larger', type=float, default=default.min_fraction_larger, metavar='F',
        help='the same of the larger one (%(default)s)')  # fmt: skip
    add('--conflicts', choices=CONFLICTS, default=default.conflicts,
        help='where an id matches several of a neighbour: keep the largest match, or join all')  # fmt: skip


def _add_run(add: Callable[..., object], network: bool) -> None:
    add('--assembly_dir', default='', metavar='FOLDER',
        help='tables, statistics and records; default: assembly in the folder of the subvolumes')  # fmt: skip
    add_where(add, network)


def tiling_of(args: argparse.Namespace, box: Box) -> Tiling:
    """Makes the tiling that the flags ask for.

    Raises:
      UserError: sizes that do not fit.
    """
    size = Xyz.parse(args.subvolume_size, '--subvolume_size')
    return Tiling(box, size, Xyz.parse(args.overlap, '--overlap'))


def matching_of(args: argparse.Namespace) -> Matching:
    """Makes the thresholds that the flags ask for.

    Raises:
      UserError: out of range.
    """
    return Matching(
        args.min_overlap_voxels, args.min_fraction_smaller, args.min_fraction_larger, args.conflicts
    )


def output_of(
    args: argparse.Namespace, tiling: Tiling, voxel_size: tuple[float, float, float] | None = None
) -> OutputSpec:
    """Makes the description of the output that the flags ask for.

    Args:
      args: parsed.
      tiling: what is written.
      voxel_size: x, y, z where the flags say none.

    Raises:
      UserError: a chunk or voxel size that is none.
    """
    chunk = Xyz.parse(args.chunk_size, '--chunk_size') if args.chunk_size else default_chunk(tiling)
    check_chunk(chunk)
    size = voxel_size or (1.0, 1.0, 1.0)
    if args.voxel_size:
        size = parse_voxel_size(args.voxel_size, '--voxel_size')
    output = OutputSpec(absolute_spec(args.output), tiling.box, chunk, size)
    if output.has_voxel_size and not (voxel_size or args.voxel_size):
        logging.warning(
            '%s gets voxels of 1,1,1 nm; --voxel_size X,Y,Z says another size', args.output
        )
    return output
