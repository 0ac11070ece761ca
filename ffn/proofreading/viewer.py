"""A Neuroglancer viewer in a browser of this machine.

    with Viewer() as viewer:
        viewer.add(layer)
        print(viewer.url)

Helpers that follow the mouse and keys use `viewer.neuroglancer`, which has `txn`, `actions` and `config_state` as the
neuroglancer package documents them. Handlers of actions run in the server's thread: long ones stop everything.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import neuroglancer
from neuroglancer import viewer_base

from ffn.proofreading.browser import open_page
from ffn.proofreading.layers import Layer
from ffn.proofreading.server import ViewerServer, start_server
from ffn.proofreading.sources import ServedVolume, coordinate_space
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Pixels that all of a volume takes in a panel at first, and voxels a pixel at most.
_PANEL, _FARTHEST = 360, 2.0
_SHADER = '#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }'
_PROBABILITIES = (
    '#uicontrol invlerp normalized\nvoid main() { emitRGBA(vec4(1.0, 0.6, 0.0, normalized())); }'
)
_SCREENSHOT_S = 120


class _Viewer(viewer_base.ViewerBase):
    """The neuroglancer package's viewer, on a server of its own."""

    def __init__(self, server: ViewerServer):
        super().__init__(token=server.token, allow_credentials=False)
        self._server = server
        server.viewers[self.token] = self

    def get_viewer_url(self) -> str:
        """The URL to open."""
        return f'{self._server.server_url}/v/{self.token}/'

    def defer_callback(self, callback: Any, *args: Any, **kwargs: Any) -> None:
        """Calls a function in the server's thread."""
        self._server.loop.call_soon_threadsafe(lambda: callback(*args, **kwargs))


class Viewer:
    """A viewer that is served until it is closed; a context manager.

    Attributes:
      neuroglancer: the viewer of the neuroglancer package.
      server: what serves it.
    """

    def __init__(self, port: int = 0):
        """Starts to serve an empty viewer on this machine.

        Args:
          port: 0 for any free one.

        Raises:
          UserError: the port cannot be used.
        """
        self.server = start_server(port)
        self.neuroglancer = _Viewer(self.server)
        self._open = contextlib.ExitStack()
        self._voxel_size: tuple[float, float, float] | None = None
        with self.neuroglancer.txn() as state:
            state.layout = '4panel'
            state.show_slices = False

    @property
    def url(self) -> str:
        """What to open in a browser of this machine; whoever has it can read what is shown."""
        return self.neuroglancer.get_viewer_url()

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Nanometres x, y, z of a voxel of the viewer's coordinates; 1, 1, 1 before the first layer says it."""
        return self._voxel_size or (1.0, 1.0, 1.0)

    def add(self, layer: Layer) -> None:
        """Adds a layer, on top. The first one decides scale and place of the view.

        The viewer reads what the layer holds until it is closed, and then closes it.
        """
        size = layer.voxel_size or self.voxel_size
        source: Any
        if isinstance(layer.data, Path):
            source = f'precomputed://{self.server.serve_folder(layer.data)}'
        else:
            self._open.callback(layer.data.close)
            source = ServedVolume(layer.data, layer.kind == 'labels', size)
        first, self._voxel_size = self._voxel_size is None, self._voxel_size or size
        with self.neuroglancer.txn() as state:
            if first:
                _show_all(state, layer.box, size)
            state.layers.append(name=layer.name, layer=_drawn(layer, source), visible=layer.visible)
        if first:
            middle = (s + n // 2 for s, n in zip(layer.box.start, layer.box.size, strict=True))
            self.look_at(layer.place or Xyz(*middle))

    def look_at(self, place: Xyz) -> None:
        """Moves the view; `place` is a voxel of the first layer."""
        with self.neuroglancer.txn() as state:
            state.position = [n + 0.5 for n in place]  # voxel i extends from i to i + 1

    def screenshot(self, path: str | Path, size: tuple[int, int] = (1200, 800)) -> None:
        """Draws what the viewer shows, without its controls, in a browser without a window, and writes it as PNG.

        Args:
          path: the file to write.
          size: width and height in pixels.

        Raises:
          UserError: no browser, or it did not finish within two minutes.
        """
        with open_page(self.url, size) as page:
            image = self._capture(page, size)
        with atomic_path(path) as temporary:
            temporary.write_bytes(image)

    def _capture(self, page: Page, size: tuple[int, int]) -> bytes:
        """Asks the page for a picture; it waits until all that is visible has arrived."""
        replies: list[bytes] = []
        with self.neuroglancer.config_state.txn() as config:
            config.show_ui_controls = config.show_panel_borders = False
            config.viewer_size = size
        self.neuroglancer.async_screenshot(lambda reply: replies.append(reply.screenshot.image))
        end = time.monotonic() + _SCREENSHOT_S
        while not replies:
            page.wait_for_timeout(20)
            if time.monotonic() > end:
                raise UserError(
                    f'the browser did not draw the view within {_SCREENSHOT_S} s; try fewer --pixels'
                )
        with self.neuroglancer.config_state.txn() as config:
            config.show_ui_controls = config.show_panel_borders = True
            config.viewer_size = None
        return replies[0]

    def close(self) -> None:
        """Stops serving, and closes the volumes of all layers."""
        self.server.stop()
        self._open.close()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(
        self, kind: type | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _show_all(state: Any, box: Box, voxel_size: Sequence[float]) -> None:
    """Sets coordinates and scales so that a panel shows all of a volume, unless that is large."""
    state.dimensions = coordinate_space(voxel_size)
    least = min(voxel_size)  # scales count these
    extent = max(n * size / least for n, size in zip(box.size, voxel_size, strict=True))
    state.cross_section_scale = min(extent / _PANEL, _FARTHEST)
    state.projection_scale = extent * 1.2


def _drawn(layer: Layer, source: Any) -> Any:
    """A layer as the neuroglancer package describes it."""
    if layer.kind == 'labels':
        return neuroglancer.SegmentationLayer(source=source, segments=list(layer.segments))
    shader = _PROBABILITIES if layer.kind == 'probabilities' else _SHADER
    drawn = neuroglancer.ImageLayer(source=source, shader=shader)
    if layer.contrast is not None:
        drawn.shader_controls = {'normalized': {'range': list(layer.contrast)}}
    return drawn
