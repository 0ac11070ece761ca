"""Serves a folder to Neuroglancer in a browser on the same machine.

A browser lets one site (the viewer) read from another (this folder) only if the other one allows it, which
Python's own http.server does not.
"""

from __future__ import annotations

import functools
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ffn.utils.errors import UserError

VIEWER = 'https://neuroglancer-demo.appspot.com'


class _Handler(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header('Access-Control-Allow-Origin', '*')
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: a viewer requests thousands of chunks, some of which do not exist."""


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Makes a server of a folder, for this machine only.

    Args:
      folder: what is served.
      port: 0 for any free one.

    Raises:
      UserError: no such folder, or a port that is in use.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder')
    handler = functools.partial(_Handler, directory=str(folder))
    try:
        return ThreadingHTTPServer(('localhost', port), handler)
    except OSError as error:
        raise UserError(f'port {port} cannot be served: {error}; choose another --port') from error
