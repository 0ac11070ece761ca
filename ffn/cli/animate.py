"""`ffn animate`: an animation of one object as it grows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ffn.cli.flags import make_parser
from ffn.utils.atomic import check_writable
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.visualization.animation import animate


def main(argv: Sequence[str] | None = None) -> None:
    """Grows one object and writes a GIF of it.

    Raises:
      UserError: see `animate`; also a value out of range.
    """
    args = _parser().parse_args(argv)
    if args.output.suffix.lower() != '.gif':
        raise UserError(f'--output is {str(args.output)!r}; expected a name that ends in .gif')
    check_writable(args.output, '--output')
    for name, least in (('every', 1), ('max_frames', 2), ('max_steps', 1), ('scale', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f'--{name} is {value}; expected {least} or more')
    grown, frames = animate(
        args.request,
        args.bounding_box,
        Xyz.parse(args.start, '--start'),
        args.output,
        every=args.every,
        max_frames=args.max_frames,
        max_steps=args.max_steps,
        scale=args.scale,
        follow=args.follow,
        quiet=args.quiet,
    )
    print(f'{args.output}, {frames} frames: {grown}')


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'animate',
        'Makes an animated GIF of one object as the network fills it. Writes no segmentation.',
        "ffn animate --request request.pbtxt --bounding_box 'start { x:0 y:0 z:0 } size { x:100 y:100 "
        "z:100 }' \\\n  --start 50,60,40 --output flood.gif",
    )
    add = parser.add_argument_group('What is grown').add_argument
    add('--request', required=True, help='InferenceRequest, text format or a file')
    add(
        '--bounding_box',
        required=True,
        metavar='BOX',
        help='BoundingBox, start and size in x, y, z, text format or a file',
    )
    add(
        '--start',
        required=True,
        metavar='X,Y,Z',
        help='a voxel of the object, in coordinates of the volume',
    )
    add('--max_steps', type=int, metavar='N', help='stop after N network steps')
    add = parser.add_argument_group('How it is drawn').add_argument
    add('--output', required=True, type=Path, metavar='FILE.gif', help='animation to write')
    add('--every', type=int, default=1, metavar='N', help='draw every N-th step')
    add(
        '--max_frames',
        type=int,
        default=200,
        metavar='N',
        help='at most N frames: longer floods are thinned evenly',
    )
    add(
        '--scale',
        type=int,
        metavar='K',
        help='pixels per voxel (default: by the size of the box)',
    )
    add('--follow', action='store_true', help='cut through the field of view, not the start')
    add('--quiet', action='store_true', help='no progress bar')
    return parser
