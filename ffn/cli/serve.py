"""`ffn serve`: an exported folder for a Neuroglancer elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ffn.cli.flags import make_parser
from ffn.export.server import LOOPBACK, STATE, VIEWER, make_server, name_of
from ffn.utils.errors import UserError
from ffn.volumes.provenance import read_input_stamp


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a folder until it is interrupted.

    Raises:
      UserError: the folder is no export, or one that was stopped; see also `ffn.export.server.make_server`.
    """
    parser = make_parser(
        'serve',
        'Serves an exported folder to a browser on this machine, and prints the address to open.',
        epilog='ffn serve export',
    )
    parser.add_argument('folder', type=Path, help='--output of `ffn export`')
    parser.add_argument('--port', type=int, default=9000, metavar='N', help='0: any free one')
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
        help='where it listens; with another one than the default, other machines can read the folder, with a --viewer '
        'at http://, as browsers let one at https:// read from localhost only',
    )
    args = parser.parse_args(argv)
    if args.folder.is_dir() and not (args.folder / STATE).is_file():
        raise UserError(
            f'{args.folder} holds no {STATE}, which the address names; expected the --output of ffn export'
        )
    for volume in args.folder.glob('*/info'):
        read_input_stamp(f'precomputed://{volume.parent}')
    with make_server(args.folder, args.port, args.viewer, args.address) as server:
        place = f'http://{name_of(args.address)}:{server.server_port}'
        print(f'open {args.viewer.rstrip("/")}/#!{place}/{STATE}')
        print(f'or, without internet, on this machine: ffn view {args.folder}', flush=True)
        server.serve_forever()
