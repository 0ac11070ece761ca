"""Serves a folder to Neuroglancer in a browser on the same machine.

A browser lets one site (the viewer) read from another (this folder) only if the other one allows it, which
Python's own http.server does not. Other sites that the browser visits, and other machines, get nothing.
"""

from __future__ import annotations

import errno
import functools
import io
import re
import socket
import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ffn.utils.errors import UserError

VIEWER = 'https://neuroglancer-demo.appspot.com'
LOOPBACK, ANY = '127.0.0.1', '0.0.0.0'
# What the state of an exported folder names; as it is served, it names this server.
STATE, SERVED_AT = 'state.json', 'http://localhost:9000'
_RANGE = re.compile(r'bytes=(\d{0,18})-(\d{0,18})')


def cannot_be_served(address: str, port: int, error: OSError) -> UserError:
    """Why a server cannot begin, as the line that tells it."""
    too_many = error.errno in (errno.EMFILE, errno.ENFILE)
    advice = 'close the viewers that are no longer needed' if too_many else 'choose another --port'
    return UserError(f'port {port} of {address} cannot be served: {error}; {advice}')


class _Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder, and no lists of them."""

    def __init__(self, *args: Any, viewer: str, hosts: frozenset[str], **kwargs: Any):
        self._viewer, self._hosts = viewer, hosts
        super().__init__(*args, **kwargs)

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Sends the header of a file, or why there is none."""
        if not self._knows_host():
            self.send_error(HTTPStatus.FORBIDDEN, 'unknown host')
            return None
        if self.headers.get('Origin', self._viewer) != self._viewer:
            self.send_error(HTTPStatus.FORBIDDEN, 'another site than the viewer')
            return None
        if not self._serves(self.translate_path(self.path)):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        path = Path(self.translate_path(self.path))
        if path == Path(self.directory, STATE):
            return self._send_state(path)
        wanted = _RANGE.fullmatch(self.headers.get('Range', ''))
        if wanted is None or wanted[1] == wanted[2] == '':
            return super().send_head()
        return self._send_part(path, wanted[1], wanted[2])

    def _knows_host(self) -> bool:
        """Whether the server was asked for by a name or address of its own.

        A site of another name can stand for this machine's address: its pages would be of our origin.
        """
        host = re.sub(r':\d*$', '', self.headers.get('Host', '')).lower()
        return host in self._hosts or host == self.connection.getsockname()[0]

    def _send_state(self, path: Path) -> io.BytesIO:
        """Sends a state whose layers are where the browser found it, whichever port that is."""
        here = f'http://{self.headers["Host"]}/'
        state = path.read_bytes().replace(f'{SERVED_AT}/'.encode(), here.encode())
        self.send_response(HTTPStatus.OK)
        self.send_header('Content-Type', self.guess_type(path))
        self.send_header('Content-Length', str(len(state)))
        self.end_headers()
        return io.BytesIO(state)

    def _send_part(self, path: Path, first: str, last: str) -> io.BytesIO | None:
        """Sends some bytes of a file, as viewers ask for parts of shards, which Python's handler does not."""
        with path.open('rb') as file:
            size = file.seek(0, io.SEEK_END)
            begin = int(first) if first else max(size - int(last), 0)
            end = min(int(last) + 1 if first and last else size, size)
            if begin >= end:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header('Content-Range', f'bytes */{size}')
                self.send_header('Content-Length', '0')
                self.end_headers()
                return None
            file.seek(begin)
            part = file.read(end - begin)
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header('Content-Type', self.guess_type(path))
        self.send_header('Content-Range', f'bytes {begin}-{end - 1}/{size}')
        self.send_header('Content-Length', str(len(part)))
        self.end_headers()
        return io.BytesIO(part)

    def do_OPTIONS(self) -> None:
        """Answers a browser that asks whether the viewer may ask for parts of files."""
        if not self._knows_host() or self.headers.get('Origin') != self._viewer:
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header('Access-Control-Allow-Methods', 'GET, HEAD')
        self.send_header('Access-Control-Allow-Headers', 'Range')
        self.end_headers()

    def _serves(self, path: str) -> bool:
        try:
            file = Path(path).resolve(strict=True)
            return file.is_relative_to(Path(self.directory).resolve()) and file.is_file()
        except (OSError, ValueError, RuntimeError):  # no such file, no path, a circle of links
            return False

    def end_headers(self) -> None:
        self.send_header('Access-Control-Allow-Origin', self._viewer)
        self.send_header('Access-Control-Expose-Headers', 'Content-Range')
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Vary', 'Origin')
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: a viewer requests thousands of chunks, some of which do not exist."""


class _Server(ThreadingHTTPServer):
    """Answers each request in a thread of its own."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Tells what failed, except that a viewer went away: it cancels what it no longer shows."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def name_of(address: str) -> str:
    """How a browser names a server that listens at an address."""
    names = {LOOPBACK: 'localhost', ANY: socket.gethostname()}
    return names.get(address, address)


def make_server(
    folder: Path, port: int, viewer: str = VIEWER, address: str = LOOPBACK
) -> ThreadingHTTPServer:
    """Makes a server of the files in a folder; links that lead out of it are not followed.

    Args:
      folder: what is served.
      port: 0 for any free one.
      viewer: address of the only site whose pages may read the files.
      address: where it listens; by default, only this machine reaches it. ANY: at all addresses of this machine.

    Raises:
      UserError: no such folder, a viewer without an address, or a port that is in use or no port.
    """
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder')
    if not 0 <= port < 2**16:
        raise UserError(f'--port is {port}; expected 0, for any free one, to 65535')
    parts = urlsplit(viewer)
    if parts.scheme not in ('http', 'https') or not parts.netloc:
        raise UserError(f'--viewer is {viewer!r}; expected an address such as {VIEWER}')
    hosts = {'localhost', LOOPBACK, address.lower()}
    if address not in ('localhost', LOOPBACK):
        hosts |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    handler = functools.partial(
        _Handler,
        directory=str(folder),
        viewer=f'{parts.scheme}://{parts.netloc}'.lower(),
        hosts=frozenset(hosts),
    )
    try:
        return _Server((address, port), handler)
    except OSError as error:
        raise cannot_be_served(address, port, error) from error
