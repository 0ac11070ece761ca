"""`ffn serve`: an exported folder for a Neuroglancer elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ffn.cli.flags import make_parser
from ffn.export.server import LOOPBACK, VIEWER, make_server
from ffn.utils.errors import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a folder until it is interrupted.

    Raises:
      UserError: the folder is no export; see also `ffn.export.server.make_server`.
    """
    parser = make_parser(
        'serve',
        'Serves an exported folder to a browser on this machine, and prints the address to open.',
        epilog='ffn serve export',
    )
    parser.add_argument('folder', type=Path, help='--output of `ffn export`')
    parser.add_argument(
        '--port', type=int, default=9000, metavar='N', help='0: any free one; state.json names 9000'
    )
    parser.add_argument(
        '--viewer',
        default=VIEWER,
        metavar='URL',
        help='where Neuroglancer is; the only site whose pages may read the folder',
    )
    parser.add_argument(
        '--address',
        default=LOOPBACK,
        metavar='HOST',
        help='where it listens; with another one than the default, other machines can read the folder',
    )
    args = parser.parse_args(argv)
    if args.folder.is_dir() and not (args.folder / 'state.json').is_file():
        raise UserError(
            f'{args.folder} holds no state.json, which the address names; expected the --output of ffn export'
        )
    with make_server(args.folder, args.port, args.viewer, args.address) as server:
        host = 'localhost' if args.address == LOOPBACK else args.address
        place = f'http://{host}:{server.server_port}'
        print(f'open {args.viewer.rstrip("/")}/#!{place}/state.json')
        print(f'or, without internet, on this machine: ffn view {args.folder}', flush=True)
        server.serve_forever()
