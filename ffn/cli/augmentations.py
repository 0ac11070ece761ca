"""`ffn augmentations`: pictures of what the augmentation of training does to a patch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffn.cli.flags import make_parser
from ffn.training.augmentation.config import AugmentationConfig, describe, parse_augmentation
from ffn.training.augmentation.margin import required_margin
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.visualization.augmentations import (
    Patch,
    choose_panels,
    draw_panels,
    generate_block,
    read_block,
)

DESCRIPTION = """Draws what augmentation does to a patch, one panel for each kind of change.

Each panel shows the xy plane, and below it the xz plane through the middle, of the image with outlines
of the labels. Of several random draws the one that changes most is shown; for kinds that change single
sections, the section that changes most, marked beside the xz plane. Voxels of weight 0 are red."""
EXAMPLE = """example:
  ffn augmentations --image train.h5:raw --labels train.h5:labels --center 120,130,80 \\
      --size 65,65,33 --augmentation configs/augmentation.json --output look.png"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command.

    Raises:
      UserError: what was given does not fit.
    """
    parser = _make_parser()
    args = parser.parse_args(argv)
    if args.keys:
        print(describe())
        return
    if args.output is None:
        parser.error('--output is needed')
    _check(args)
    size = Xyz.parse(args.size, '--size').zyx
    if min(size) < 1:
        raise UserError(f'--size is {size.xyz}; expected positive numbers')
    config = parse_augmentation(args.augmentation)
    panels = choose_panels(config)
    margins = [required_margin(panel.config, size) for panel in panels]
    margin = Zyx.of(np.max(margins, axis=0))
    block = _make_block(args, size, margin, config)
    picture = draw_panels(panels, block, size, args.seed, args.zoom)
    with atomic_path(args.output) as path:
        picture.quantize(256).save(path, format='PNG', optimize=True)
    print(f'{args.output}: {len(panels)} panels, patches of {size.xyz}, margin {margin.xyz}')


def _make_block(
    args: argparse.Namespace, size: Zyx, margin: Zyx, config: AugmentationConfig
) -> Patch:
    """Reads the patch and its margin, or generates them."""
    normalization = None if args.image_mean is None else (args.image_mean, args.image_stddev)
    if not args.image:
        return generate_block(size, margin, config.voxel_size, normalization)
    center = None if args.center is None else Xyz.parse(args.center, '--center')
    return read_block(args.image, args.labels, center, size, margin, normalization, config)


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser('augmentations', DESCRIPTION, EXAMPLE)
    patch = parser.add_argument_group('patch')
    patch.add_argument(
        '--image', metavar='VOLUME', help='PATH:DATASET (default: a generated sample)'
    )
    patch.add_argument(
        '--labels',
        metavar='VOLUME',
        help='PATH:DATASET, of the image or a part of it that says where it lies; required with --image',
    )
    patch.add_argument(
        '--center',
        metavar='X,Y,Z',
        help='centre of the patch in voxels of the volumes (default: centre of the labels)',
    )
    patch.add_argument('--size', metavar='X,Y,Z', default='65,65,33', help='voxels')
    patch.add_argument(
        '--image_mean',
        type=float,
        metavar='M',
        help='subtracted from the image (default: mean of the block)',
    )
    patch.add_argument(
        '--image_stddev',
        type=float,
        metavar='S',
        help='divides the image (default: standard deviation of the block)',
    )
    changes = parser.add_argument_group('augmentation')
    changes.add_argument(
        '--augmentation',
        default='',
        metavar='JSON',
        help='object, or file that holds it; without any kind of change in it, all kinds are shown, '
        'stronger than is good for training',
    )
    changes.add_argument('--seed', type=int, default=0, metavar='N', help='of the random draws')
    changes.add_argument(
        '--keys', action='store_true', help='list what the JSON object may hold, and exit'
    )
    picture = parser.add_argument_group('picture')
    picture.add_argument('--output', type=Path, metavar='FILE.png', help='file to write')
    picture.add_argument(
        '--zoom', type=int, metavar='K', help='pixels per voxel (default: by the size of the patch)'
    )
    return parser


def _check(args: argparse.Namespace) -> None:
    """Checks what needs no volume."""
    if args.output.suffix.lower() != '.png':
        raise UserError(f'--output is {str(args.output)!r}; expected a name that ends in .png')
    if bool(args.image) != bool(args.labels):
        raise UserError('--image and --labels are needed together')
    if args.center and not args.image:
        raise UserError('--center is of a volume; give --image and --labels too')
    if (args.image_mean is None) != (args.image_stddev is None):
        raise UserError('--image_mean and --image_stddev are needed together')
    mean, stddev = args.image_mean, args.image_stddev
    if mean is not None and not (math.isfinite(mean) and 0 < stddev < math.inf):
        raise UserError(
            f'--image_mean and --image_stddev are {mean:g} and {stddev:g}; expected a finite number and a positive one'
        )
    for name, least in (('seed', 0), ('zoom', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f'--{name} is {value}; expected {least} or more')
