"""The flags that `ffn evaluate` and `ffn compare` share, and what they open and write."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from ffn import __version__
from ffn.utils.atomic import check_writable, write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, parse_voxel_size
from ffn.volumes.missing import MISSING_HELP, ON_MISSING
from ffn.volumes.provenance import open_complete
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.volume import Volume

VOLUME_HELP = 'a folder of results, one .npz, or a volume, path:dataset'


def add_comparison_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how two volumes lie, and what is written."""
    add = parser.add_argument_group('Position and size').add_argument
    add(
        '--bounding_box',
        metavar='BOX',
        help='region to compare, BoundingBox with start and size in x, y, z, text format or a file '
        '(default: everything)',
    )
    add(
        '--offset',
        metavar='X,Y,Z',
        help='position of the first voxel of the second volume within the first, in voxels '
        '(default: as the volumes say)',
    )
    add(
        '--split_cc',
        action='store_true',
        help='give every 6-connected component an id of its own; otherwise ids count as stored',
    )
    add(
        '--voxel_size',
        metavar='X,Y,Z',
        help='nanometres; scales pictures, skeletons and links to the viewer (default: as the volumes '
        'say, else 1,1,1)',
    )
    add('--missing', choices=ON_MISSING, default='tell', help=MISSING_HELP)
    add = parser.add_argument_group('Output').add_argument
    add('--worst', type=int, default=10, metavar='N', help='how many cases of each kind are listed')
    add('--json', type=Path, metavar='FILE', help='write all numbers to this file')
    add('--html', type=Path, metavar='FILE', help='write a page with pictures to this file')
    add('--image', metavar='VOLUME', help='image below the objects in these pictures')
    add(
        '--viewer_url',
        metavar='URL',
        help='a Neuroglancer that the page links to; volumes that are not on a server get positions '
        'to copy instead',
    )
    add('--quiet', action='store_true', help='no progress bar')


def check_comparison_flags(args: argparse.Namespace) -> None:
    """Checks the flags that `add_comparison_flags` adds.

    Raises:
      UserError: one of them does not fit, or names a file that cannot be written.
    """
    if args.worst < 0:
        raise UserError(f'--worst is {args.worst}; expected 0 or more')
    for name in ('image', 'viewer_url'):
        if getattr(args, name) and not args.html:
            raise UserError(f'--{name} is for the page; give --html FILE as well')
    for name in ('json', 'html'):
        if path := getattr(args, name):
            check_writable(path, f'--{name}')


def read_box_and_offset(args: argparse.Namespace) -> tuple[Box | None, Xyz | None]:
    """Reads --bounding_box and --offset.

    Raises:
      UserError: they cannot be read.
    """
    from ffn.inference.request import read_box

    box = read_box(args.bounding_box) if args.bounding_box else None
    return box, Xyz.parse(args.offset, '--offset') if args.offset else None


def find_voxel_size(args: argparse.Namespace, *volumes: Volume | None) -> KnownVoxelSize | None:
    """Finds the voxel size: that of the flag, or of the first volume that has one; warns of contradictions.

    Raises:
      UserError: --voxel_size is not three positive numbers.
    """
    known = []
    if args.voxel_size is not None:
        size = parse_voxel_size(args.voxel_size, '--voxel_size')
        known.append(KnownVoxelSize(size, '--voxel_size'))
    for volume in volumes:
        if volume is not None and volume.voxel_size is not None:
            known.append(volume.voxel_size.of(volume.name))
    return agreed_voxel_size(known)


def open_image(args: argparse.Namespace, stack: contextlib.ExitStack, box: Box) -> Volume | None:
    """Opens --image, to be closed by `stack`; warns if it does not cover all of a box, which is shown on it.

    Raises:
      UserError: it cannot be opened, is not complete, or has several channels.
    """
    if not args.image:
        return None
    image = stack.enter_context(open_complete(args.image, args.missing)).single_channel()
    tell_uncovered(image, box)
    return image


def tell_uncovered(image: Volume, box: Box) -> None:
    """Warns if --image does not cover all of a box, which is shown on it."""
    if not image.box.contains(box):
        logging.warning(
            '--image %s covers %s, and %s is shown on it: is it the image of these labels?',
            *(image.name, image.box, box),
        )


def write_scores(args: argparse.Namespace, compared: Sequence[str], scores: dict[str, Any]) -> None:
    """Writes --json, where it is given: the version, what was compared, and the scores.

    Args:
      args: all arguments.
      compared: names of the arguments that hold the two volumes.
      scores: plain numbers, lists and dictionaries.
    """
    if args.json:
        given = {name: getattr(args, name) for name in (*compared, 'split_cc')}
        write_json(args.json, {'version': __version__, **given, **scores})


def make_view_command(args: argparse.Namespace, volumes: Sequence[tuple[str, str]]) -> str:
    """Returns the command that shows volumes in the viewer, without a position.

    Args:
      args: the command line.
      volumes: flag of `ffn view` and what it names; of the second, --offset says where it lies, and there it
        is not shown.
    """
    words = ['ffn', 'view']
    shown = volumes if args.offset is None else volumes[:1]
    for flag, spec in [('--image', args.image), *shown, ('--voxel_size', args.voxel_size)]:
        if spec:
            words += [flag, str(spec)]
    return shlex.join(words)


def make_viewer_link(
    args: argparse.Namespace,
    specs: tuple[str, str],
    names: tuple[str, str],
    voxel_size: KnownVoxelSize | None,
) -> Callable[[Xyz, Sequence[int], Sequence[int]], str | None]:
    """Returns a function that links from the page to --viewer_url, if that is given.

    Args:
      args: the command line.
      specs: the two volumes, as given.
      names: what they are called.
      voxel_size: None: unknown.
    """
    from ffn.visualization.neuroglancer_link import Layer, link

    size = None if voxel_size is None else voxel_size.xyz

    def make(at: Xyz, objects: Sequence[int], segments: Sequence[int]) -> str | None:
        layers = [Layer('image', args.image)] if args.image else []
        layers.append(Layer(names[0], specs[0], objects))
        if args.offset is None:  # with an offset it would lie elsewhere in the viewer
            layers.append(Layer(names[1], specs[1], segments))
        return link(args.viewer_url, layers, at, size) if args.viewer_url else None

    return make
