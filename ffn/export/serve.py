"""Serves a folder to Neuroglancer in a browser on the same machine.

    python -m ffn.export.serve view

prints the address to open. A browser lets one site (the viewer) read from another (this folder) only if
the other one allows it, which Python's own http.server does not.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ffn.utils.errors import UserError, run_tool

VIEWER = 'https://neuroglancer-demo.appspot.com'


class _Handler(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header('Access-Control-Allow-Origin', '*')
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """A viewer asks for thousands of chunks, and for some that do not exist; says nothing."""


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Makes a server of a folder, for this machine only.

    Args:
      folder: what is served.
      port: 0 for any that is free.

    Raises:
      UserError: no such folder, or a port that is taken.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder')
    handler = functools.partial(_Handler, directory=str(folder))
    try:
        return ThreadingHTTPServer(('localhost', port), handler)
    except OSError as error:
        raise UserError(f'port {port} cannot be served: {error}; choose another --port') from error


def main(argv: Sequence[str] | None = None) -> None:
    """Serves until it is interrupted.

    Raises:
      UserError: see `make_server`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.export.serve', description=__doc__.splitlines()[0]
    )
    parser.add_argument('folder', type=Path, help='such as --output of ffn.export.export')
    parser.add_argument('--port', type=int, default=9000, help='(9000, which state.json names)')
    args = parser.parse_args(argv)
    with make_server(args.folder, args.port) as server:
        place = f'http://localhost:{server.server_port}'
        print(f'open {VIEWER}/#!{place}/state.json', flush=True)
        server.serve_forever()


if __name__ == '__main__':
    run_tool(main)
