"""The web server of a viewer: Neuroglancer's page, pieces of volumes, and files of folders that are shown.

It listens on this machine only. Every address begins with a random token, without which it answers nothing: neither
other users of the machine nor pages of other sites know it.
"""

from __future__ import annotations

import concurrent.futures
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tornado.web
from neuroglancer import server as neuroglancer_server

from ffn.export.server import LOOPBACK
from ffn.utils.errors import UserError

# Pieces of volumes that are read at a time; each may take some 130 MB while it is downsampled.
_READERS = 4
_FILES = r'/files/(?P<token>[0-9a-f]+)/(?P<key>\d+)/(?P<path>.*)'


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

    def _attempt_to_start_server(self) -> None:
        super()._attempt_to_start_server()
        arguments = {'folders': self._folders, 'token': self.token}
        self.app.add_handlers('.*', [(_FILES, _FileHandler, arguments)])

    def serve_folder(self, folder: Path) -> str:
        """Serves the files in and below a folder from now on; returns its URL, without a slash at the end."""
        key = str(len(self._folders))
        self._folders[key] = folder
        return f'{self.server_url}/files/{self.token}/{key}'

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
    try:
        return ViewerServer(port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f'port {port} of {LOOPBACK} cannot be served: {error}; choose another --port'
        ) from error
