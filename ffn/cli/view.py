"""`ffn view`: volumes, results and exports in Neuroglancer, in a browser of this machine."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ffn.cli.flags import make_parser
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.signals import stop_on_signal

if TYPE_CHECKING:
    from ffn.proofreading.layers import Kind, Layer

# Flag → how its volume is shown; and the name of its layer.
_FLAGS: dict[str, tuple[Kind, str]] = {
    'image': ('image', 'image'),
    'truth': ('labels', 'truth'),
    'labels': ('labels', ''),
    'probabilities': ('probabilities', 'probabilities'),
}


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'view',
        'Shows volumes and results in Neuroglancer, in a browser of this machine; prints the address to open.\n'
        'Volumes are read in pieces, when they are looked at.',
        epilog='ffn view volume.h5:raw results/labels.zarr\n'
        'ffn view --image volume.h5:raw --truth volume.h5:labels --labels results\n'
        'ffn view export --screenshot export.png',
    )
    parser.add_argument(
        'things',
        nargs='*',
        metavar='THING',
        help='a volume, a folder of results, or a folder that `ffn export` wrote',
    )
    shown = parser.add_argument_group('What is shown, and how')
    for name, (kind, _) in _FLAGS.items():
        shown.add_argument(
            f'--{name}',
            action='append',
            default=[],
            metavar='VOLUME',
            help=f'shown as {kind}; may be given several times',
        )
    shown.add_argument(
        '--voxel_size', metavar='X,Y,Z', help='nanometres (default: what the volumes say)'
    )
    shown.add_argument('--position', metavar='X,Y,Z', help='voxel in the centre')
    where = parser.add_argument_group('Where it is shown')
    where.add_argument('--port', type=int, default=0, metavar='N', help='0: any free one')
    where.add_argument(
        '--screenshot',
        type=Path,
        metavar='FILE.png',
        help='draw the view into a file with a browser that has no window, and end',
    )
    where.add_argument(
        '--pixels', default='1200,800', metavar='W,H', help='of the screenshot, in pixels'
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a viewer until it is interrupted, or takes a screenshot.

    Raises:
      UserError: the extra [view] is missing, or something that cannot be shown.
    """
    args = _parser().parse_args(argv)
    pixels = _read_pixels(args.pixels)
    try:
        from ffn.proofreading.viewer import Viewer
    except ImportError as error:
        raise UserError(
            'ffn view needs Neuroglancer: pip install "flood-filling-networks[view]"'
        ) from error
    layers = _open(args)
    with Viewer(args.port) as viewer:
        for layer in layers:
            viewer.add(layer)
        if args.position:
            viewer.look_at(Xyz.parse(args.position, '--position'))
        if args.screenshot:
            viewer.screenshot(args.screenshot, pixels)
            print(f'written to {args.screenshot}')
            return
        print(f'open {viewer.url}', flush=True)
        stop = threading.Event()
        with stop_on_signal(stop):
            stop.wait()


def _open(args: argparse.Namespace) -> list[Layer]:
    from ffn.proofreading.things import agree, open_layer, open_thing

    given = {name: getattr(args, name) for name in _FLAGS}
    if not args.things and not any(given.values()):
        raise UserError(
            'nothing is given to show: name a volume, a folder of results, or an export'
        )
    layers = []
    for name, specs in given.items():
        kind, title = _FLAGS[name]
        layers += [open_layer(spec, kind, title if len(specs) == 1 else '') for spec in specs]
    layers += [layer for thing in args.things for layer in open_thing(thing)]
    size = parse_voxel_size(args.voxel_size, '--voxel_size') if args.voxel_size else None
    return agree(layers, size)


def _read_pixels(text: str) -> tuple[int, int]:
    parts = text.split(',')
    if len(parts) == 2 and all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[1])
    raise UserError(f'--pixels is {text!r}; expected width and height in pixels, such as 1200,800')
