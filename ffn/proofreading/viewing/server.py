"""The web server of a viewer: Neuroglancer's page, pieces of volumes, and files of folders that are shown.

It listens on this machine only. Every address begins with a random token, without which it answers nothing: neither
other users of the machine nor pages of other sites know it.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tornado.web
from neuroglancer import server as neuroglancer_server

from ffn.export.server import LOOPBACK, cannot_be_served
from ffn.utils.errors import UserError

# Pieces of volumes that are read at a time; each may take some 50 MB while it is downsampled.
_READERS = 4
_PLACE = r'/(?P<token>[0-9a-f]+)/(?P<key>\d+)/(?P<path>.*)'


class _FileHandler(tornado.web.StaticFileHandler):
    """Serves the files of folders, and parts of files; lists no folder, follows no link out of one."""

    def initialize(
        self,
        path: str = '',
        default_filename: str | None = None,
        allowed_symlink_directory: str | list[str] | None = None,
        folders: Mapping[str, Path] | None = None,
        token: str = '',
    ) -> None:
        super().initialize(path)
        self._folders, self._token = folders or {}, token

    async def get(self, path: str, include_body: bool = True, **names: str) -> None:
        folder = self._folders.get(names['key'])
        if names['token'] != self._token or folder is None:
            raise tornado.web.HTTPError(404)
        self.root = str(folder)
        await super().get(path, include_body)

    async def head(self, path: str, **names: str) -> None:
        await self.get(path, include_body=False, **names)

    def validate_absolute_path(self, root: str, absolute_path: str) -> str | None:
        try:
            file = Path(absolute_path).resolve(strict=True)
            served = file.is_file() and file.is_relative_to(Path(root).resolve())
        except (OSError, ValueError, RuntimeError):  # no such file, no path, a circle of links
            served = False
        if not served:
            raise tornado.web.HTTPError(404)
        return super().validate_absolute_path(root, absolute_path)

    def compute_etag(self) -> str | None:
        return None  # it would be a hash of the whole file

    def set_extra_headers(self, path: str) -> None:
        self.set_header('Cache-Control', 'no-cache')

    def log_exception(self, *_: Any) -> None:
        """Logs nothing: many chunks do not exist."""


class _MadeHandler(tornado.web.RequestHandler):
    """Serves what is made when it is asked for."""

    def initialize(self, makers: Mapping[str, Callable[[str], bytes | None]], token: str) -> None:
        self._makers, self._token = makers, token

    def get(self, token: str, key: str, path: str) -> None:
        made = self._makers[key](path) if token == self._token and key in self._makers else None
        if made is None:
            raise tornado.web.HTTPError(404)
        self.set_header('Content-Type', 'application/octet-stream')
        self.set_header('Cache-Control', 'no-cache')
        self.finish(made)

    def log_exception(self, *_: Any) -> None:
        """Logs nothing: few segments have annotations."""


class ViewerServer(neuroglancer_server.Server):
    """A web server in a thread of its own; `stop` ends it."""

    def __init__(self, port: int = 0):
        """Starts listening.

        Args:
          port: 0 for any free one.
        """
        super().__init__(bind_address=LOOPBACK, bind_port=port)
        readers = min(_READERS, os.cpu_count() or 1)
        self.executor = concurrent.futures.ThreadPoolExecutor(readers, 'volume')
        self._folders: dict[str, Path] = {}
        self._makers: dict[str, Callable[[str], bytes | None]] = {}

    def _attempt_to_start_server(self) -> None:
        super()._attempt_to_start_server()
        files = {'folders': self._folders, 'token': self.token}
        made = {'makers': self._makers, 'token': self.token}
        handlers = [
            (f'/files{_PLACE}', _FileHandler, files),
            (f'/made{_PLACE}', _MadeHandler, made),
        ]
        self.app.add_handlers('.*', handlers)

    def serve_folder(self, folder: Path) -> str:
        """Serves the files in and below a folder from now on; returns its URL, without a slash at the end."""
        key = str(len(self._folders))
        self._folders[key] = folder
        return f'{self.server_url}/files/{self.token}/{key}'

    def serve_made(self, make: Callable[[str], bytes | None]) -> str:
        """Serves what a function makes of the part of the path below; returns the URL without a slash at the end.

        Args:
          make: path → content, None if there is none of that name; called in the server's thread.
        """
        key = str(len(self._makers))
        self._makers[key] = make
        return f'{self.server_url}/made/{self.token}/{key}'

    def is_own(self, url: str) -> bool:
        """Whether a URL is one of this server."""
        return bool(re.match(rf'{re.escape(self.server_url)}(/|$)', url))

    def stop(self) -> None:
        """Ends it; what is being read is not waited for."""
        super().stop()
        self.executor.shutdown(wait=False, cancel_futures=True)


def start_server(port: int) -> ViewerServer:
    """Starts the server of a viewer.

    Args:
      port: 0 for any free one.

    Raises:
      UserError: the port is in use, or not allowed.
    """
    if not 0 <= port < 2**16:
        raise UserError(f'--port is {port}; expected 0, for any free one, to 65535')
    try:
        return ViewerServer(port)
    except OSError as error:
        raise cannot_be_served(LOOPBACK, port, error) from error
