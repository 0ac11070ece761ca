"""`ffn view`: volumes, results and exports in Neuroglancer, in a browser of this machine."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ffn.cli.flags import make_parser
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, parse_voxel_size
from ffn.utils.signals import stop_on_signal, wait_for_stop

if TYPE_CHECKING:
    from ffn.proofreading.viewing.layers import Layer
    from ffn.proofreading.viewing.viewer import Viewer

# Flag → what it takes, and the help of it. The order is that of the layers.
_FLAGS = {
    'image': ('VOLUME', 'an image'),
    'probabilities': ('VOLUME', 'probabilities, also a folder of results'),
    'truth': ('VOLUME', 'ground truth'),
    'labels': ('VOLUME', 'a segmentation, also a folder of results'),
    'skeletons': ('PLACE', 'an SWC file in nanometres, or a folder of them'),
    'points': ('FILE.csv', 'places, columns x,y,z in voxels; see doc/formats.md'),
    'merges': ('FILE.csv', 'merges.csv or candidates.csv of `ffn agglomerate`'),
    'errors': ('FILE.json', '--json of `ffn evaluate` or `ffn compare`'),
}
_LAYOUTS = ('4panel', 'xy', 'xz', 'yz', '3d', 'xy-3d', 'xz-3d', 'yz-3d')
_SAVE_KEY = 'shift+keys'


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'view',
        'Shows volumes and results in Neuroglancer, in a browser of this machine; prints the address to open.\n'
        'Volumes are read in pieces, when they are looked at.',
        epilog='ffn view results\n'
        'ffn view --image volume.h5:raw --truth volume.h5:labels --labels joined.zarr --errors scores.json\n'
        'ffn view export --screenshot export.png',
    )
    parser.add_argument(
        'things',
        nargs='*',
        metavar='THING',
        help='a volume; a folder that ffn infer, segment, assemble, agglomerate or export wrote; any file that the '
        'flags below take',
    )
    shown = parser.add_argument_group('What is shown; each may be given several times')
    for name, (metavar, text) in _FLAGS.items():
        shown.add_argument(f'--{name}', action='append', default=[], metavar=metavar, help=text)
    how = parser.add_argument_group('How it is shown')
    how.add_argument(
        '--voxel_size', metavar='X,Y,Z', help='nanometres (default: what the volumes say)'
    )
    how.add_argument('--position', metavar='X,Y,Z', help='voxel in the centre')
    how.add_argument(
        '--segments', metavar='ID,ID', help='selected at first in all segmentations but the truth'
    )
    how.add_argument('--layout', choices=_LAYOUTS, help='panels that are shown')
    how.add_argument(
        '--state',
        type=Path,
        metavar='FILE.json',
        help='go on with what it says, if it exists; written at the end, and when Shift+S is pressed in the viewer',
    )
    where = parser.add_argument_group('Where it is shown')
    where.add_argument('--port', type=int, default=0, metavar='N', help='0: any free one')
    where.add_argument(
        '--screenshot',
        type=Path,
        metavar='FILE.png',
        help='draw the view into a file with a browser that has no window, and end',
    )
    where.add_argument(
        '--pixels', default='1200,800', metavar='W,H', help='width and height of the screenshot'
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
        from ffn.proofreading.viewing.viewer import Viewer
    except ImportError as error:
        raise UserError(
            f'ffn view needs Neuroglancer ({error}): pip install "flood-filling-networks[view]"'
        ) from error
    from ffn.proofreading.viewing.states import SavedView, read_view

    saved, shown = SavedView(), {name: getattr(args, name) for name in ('things', *_FLAGS)}
    if args.state is not None and args.state.exists():
        saved = read_view(args.state, list(shown))
    if not any(shown.values()):
        shown = {name: list(saved.shown.get(name, [])) for name in shown}
    size = args.voxel_size or saved.voxel_size
    layers = _open(shown, size)
    with Viewer(args.port) as viewer:
        for layer in layers:
            viewer.add(layer)
        if saved.state:
            viewer.set_state(saved.state)
        _arrange(viewer, args)

        def save() -> None:
            if args.state is not None:
                SavedView(shown, size, viewer.state()).write(args.state)
                viewer.tell(f'written to {args.state}')

        if args.screenshot:
            viewer.screenshot(args.screenshot, pixels)
            print(f'written to {args.screenshot}')
        else:
            viewer.on_key(_SAVE_KEY, 'save-state', lambda _: save())
            stop = threading.Event()
            with stop_on_signal(stop):
                print(f'open {viewer.url}', flush=True)
                wait_for_stop(stop)
            save()


def _open(shown: Mapping[str, Sequence[str]], voxel_size: str) -> list[Layer]:
    from ffn.proofreading.viewing import things
    from ffn.proofreading.viewing.agreement import agree

    if not any(shown.values()):
        raise UserError(
            'nothing is given to show: name a volume, a folder of results, or an export'
        )
    openers: dict[str, Callable[[str, str], Layer]] = {
        'image': lambda spec, name: things.open_layer(spec, 'image', name),
        'probabilities': lambda spec, name: things.open_layer(spec, 'probabilities', name),
        'truth': lambda spec, name: things.open_layer(spec, 'labels', name or 'truth'),
        'labels': lambda spec, name: things.open_layer(spec, 'labels', name),
        'skeletons': lambda place, name: things.open_skeletons(place, name or 'skeletons'),
        'points': lambda path, name: things.open_points(path, name or Path(path).stem),
        'merges': lambda path, name: things.open_points(path, name or Path(path).stem),
        'errors': lambda path, name: things.open_errors(path, name or 'errors'),
    }
    layers = []
    for flag, names in shown.items():
        for name in names:
            if flag == 'things':
                layers += things.open_thing(name)
            else:
                layers.append(openers[flag](name, flag if len(names) == 1 else ''))
    size = parse_voxel_size(voxel_size, '--voxel_size') if voxel_size else None
    return agree(layers, size)


def _arrange(viewer: Viewer, args: argparse.Namespace) -> None:
    """Does what the flags say about the view."""
    if args.position:
        viewer.look_at(Xyz.parse(args.position, '--position'))
    if args.segments:
        viewer.select(_read_ids(args.segments))
    if args.layout:
        with viewer.neuroglancer.txn() as state:
            state.layout = args.layout


def _read_ids(text: str) -> list[int]:
    ids = [int(part) for part in text.split(',') if part.strip().isdecimal()]
    if len(ids) != len(text.split(',')) or not all(0 < i < 2**64 for i in ids):
        raise UserError(f'--segments is {text[:100]!r}; expected ids of segments, such as 17,23')
    return ids


def _read_pixels(text: str) -> tuple[int, int]:
    parts = text.split(',')
    if len(parts) == 2 and all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        return int(parts[0]), int(parts[1])
    raise UserError(f'--pixels is {text!r}; expected width and height, such as 1200,800')
