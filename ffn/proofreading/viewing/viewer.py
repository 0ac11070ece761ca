"""A Neuroglancer viewer in a browser of this machine.

::

    with Viewer() as viewer:
        viewer.add(layer)
        print(viewer.url)

Helpers that follow the mouse and keys use `viewer.neuroglancer`, which has `txn`, `actions` and `config_state` as the
neuroglancer package documents them. Handlers of actions run in the server's thread: long ones stop everything.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import neuroglancer
from absl import logging
from neuroglancer import viewer_base

from ffn.proofreading.viewing.annotation_source import AnnotationSource, shader
from ffn.proofreading.viewing.annotations import Annotations
from ffn.proofreading.viewing.browser import open_page
from ffn.proofreading.viewing.layers import TRUTH, Layer
from ffn.proofreading.viewing.server import ViewerServer, start_server
from ffn.proofreading.viewing.skeleton_files import SkeletonFiles
from ffn.proofreading.viewing.sources import ServedSkeletons, ServedVolume, coordinate_space
from ffn.proofreading.viewing.states import with_sources, without_sources
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, reason
from ffn.utils.geometry import Box, Xyz

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Pixels that all of a volume takes in a panel at first, and voxels a pixel at most.
_PANEL, _FARTHEST = 360, 1.0
_SHADER = '#uicontrol invlerp normalized\nvoid main() { emitGrayscale(normalized()); }'
_PROBABILITIES = (
    '#uicontrol invlerp normalized\nvoid main() { emitRGBA(vec4(1.0, 0.6, 0.0, normalized())); }'
)
_SCREENSHOT_S = 120
# How opaque segments are in sections while others are chosen.
_NOT_CHOSEN = 0.25


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

    def __init__(self, port: int = 0, voxel_size: tuple[float, float, float] | None = None):
        """Starts to serve an empty viewer on this machine.

        Args:
          port: 0 for any free one.
          voxel_size: nanometres x, y, z of a voxel of the viewer's coordinates; None: that of the first layer.

        Raises:
          UserError: the port cannot be used.
        """
        self.server = start_server(port)
        self.neuroglancer = _Viewer(self.server)
        self._open = contextlib.ExitStack()
        self._told: set[str] = set()
        self._names: list[str] = []
        self._labels: list[str] = []
        self._voxel_size = voxel_size
        with self.neuroglancer.txn() as state:
            state.layout = '4panel'
            state.show_slices = False
            if voxel_size is not None:
                state.dimensions = coordinate_space(voxel_size)

    @property
    def url(self) -> str:
        """What to open in a browser of this machine; whoever has it can read what is shown."""
        return self.neuroglancer.get_viewer_url()

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Nanometres x, y, z of a voxel of the viewer's coordinates; 1, 1, 1 before the first layer says it."""
        return self._voxel_size or (1.0, 1.0, 1.0)

    def add(self, layer: Layer) -> None:
        """Adds a layer, on top. The first one with a box decides scale and place of the view, unless `voxel_size` was given.

        The viewer reads what the layer holds until it is closed, and then closes it.
        """
        size = layer.voxel_size or self.voxel_size
        drawn = self._draw(layer, size)
        self._names.append(layer.name)
        if layer.kind == 'labels':
            self._labels.append(layer.name)
        if self._voxel_size is None:
            self.show_all(layer)
        with self.neuroglancer.txn() as state:
            state.layers.append(name=layer.name, layer=drawn, visible=layer.visible)

    def _draw(self, layer: Layer, size: tuple[float, float, float]) -> Any:
        """Serves what a layer holds; returns the layer as the neuroglancer package describes it."""
        data = layer.data
        if isinstance(data, Annotations):
            return self._draw_annotations(data, size)
        if isinstance(data, SkeletonFiles):
            skeletons = ServedSkeletons(data, size, self.tell)
            return neuroglancer.SegmentationLayer(source=skeletons, segments=data.shown)
        if isinstance(data, Path):
            source: Any = f'precomputed://{self.server.serve_folder(data)}'
        else:
            for volume in (data, *layer.coarser):
                self._open.callback(volume.close)
            labels = layer.kind == 'labels'
            source = ServedVolume(data, labels, size, layer.coarser, self.tell)
        if layer.kind == 'labels':
            return neuroglancer.SegmentationLayer(
                source=source, segments=list(layer.segments), not_selected_alpha=_NOT_CHOSEN
            )
        shader = _PROBABILITIES if layer.kind == 'probabilities' else _SHADER
        controls = {} if layer.contrast is None else {'normalized': {'range': list(layer.contrast)}}
        return neuroglancer.ImageLayer(source=source, shader=shader, shader_controls=controls)

    def _draw_annotations(self, data: Annotations, size: tuple[float, float, float]) -> Any:
        links = {relation: name for relation in data.relations if (name := self._linked(relation))}
        look = {'annotation_color': data.color, 'linked_segmentation_layer': links}
        if not data.descriptions:
            made = AnnotationSource(data, size)
            source = f'precomputed://{self.server.serve_made(made.read)}'
            return neuroglancer.AnnotationLayer(source=source, shader=shader(data), **look)
        ids = zip(*data.relations.values(), strict=True)
        return neuroglancer.LocalAnnotationLayer(
            coordinate_space(size),
            annotations=[
                neuroglancer.PointAnnotation(
                    id=str(number),
                    point=point,
                    description=text,
                    segments=[list(i) for i in related],
                )
                for number, (point, text, related) in enumerate(
                    zip(data.points, data.descriptions, ids, strict=True)
                )
            ],
            annotation_relationships=list(data.relations),
            shader=shader(Annotations(data.points, {})),
            **look,
        )

    def _linked(self, relation: str) -> str | None:
        """The label layer that the ids of annotations are of: that of this name, for 'segments' the last other one."""
        layers = self.neuroglancer.state.layers
        names = [
            one.name for one in layers if isinstance(one.layer, neuroglancer.SegmentationLayer)
        ]
        if relation in names:
            return relation
        others = [name for name in names if name != TRUTH]
        return others[-1] if relation == 'segments' and others else None

    def select(self, ids: Sequence[int]) -> None:
        """Selects segments, in every segmentation but the truth."""
        with self.neuroglancer.txn() as state:
            for layer in state.layers:
                if isinstance(layer.layer, neuroglancer.SegmentationLayer) and layer.name != TRUTH:
                    layer.layer.segments = list(ids)

    def on_key(self, key: str, name: str, act: Callable[[Any], None]) -> None:
        """Does something when a key is pressed over the view.

        Args:
          key: as Neuroglancer calls it, such as 'shift+keys' or 'keyg'.
          name: of the action.
          act: gets the neuroglancer package's ActionState: `mouse_position` (voxels of the viewer's coordinates) and
            `selected_values` by layer. It runs in the server's thread, so it has to return soon.
        """
        self.neuroglancer.actions.add(name, act)
        with self.neuroglancer.config_state.txn() as config:
            config.input_event_bindings.data_view[key] = name

    def tell(self, text: str, seconds: float = 10) -> None:
        """Shows a message below the view for a while, and logs it once. For any thread."""
        if text not in self._told:
            self._told.add(text)
            logging.warning('%s', text)
        key = 'told'

        def show(config: Any) -> None:
            config.status_messages[key] = text

        def hide(config: Any) -> None:
            if config.status_messages.get(key) == text:
                del config.status_messages[key]

        self.neuroglancer.config_state.retry_txn(show, lock=True)
        later = self.server.loop.call_later
        self.server.loop.call_soon_threadsafe(
            later, seconds, lambda: self.neuroglancer.config_state.retry_txn(hide, lock=True)
        )

    def state(self) -> dict[str, Any]:
        """Neuroglancer's state as JSON, without addresses of this server; see `ffn.proofreading.viewing.states`."""
        return without_sources(self.neuroglancer.state.to_json(), self._names)

    def set_state(self, saved: Mapping[str, Any]) -> None:
        """Shows the layers that have been added as a saved state shows those of the same names.

        Raises:
          UserError: the state is damaged.
        """
        current = self.neuroglancer.state.to_json()
        try:
            state = neuroglancer.ViewerState(with_sources(saved, current))
            self.neuroglancer.set_state(state.to_json())
        except UserError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise UserError(f'the state file is damaged: {reason(error)}') from error

    def look_at(self, place: Xyz) -> None:
        """Moves the view; `place` is a voxel of the viewer's coordinates."""
        with self.neuroglancer.txn() as state:
            state.position = [n + 0.5 for n in place]  # voxel i extends from i to i + 1

    def show_all(self, layer: Layer) -> None:
        """Lets a layer, added or not, decide scale and place of the view, whose coordinates are its voxels then."""
        if layer.box is not None:
            self._voxel_size = layer.voxel_size or self.voxel_size
            with self.neuroglancer.txn() as state:
                _show_all(state, layer, self._voxel_size)

    def show(self, box: Box) -> None:
        """Moves the view so that a panel shows all of a box, in voxels of the viewer's coordinates."""
        least = min(self.voxel_size)
        extent = max(n * size / least for n, size in zip(box.size, self.voxel_size, strict=True))
        with self.neuroglancer.txn() as state:
            state.cross_section_scale, state.projection_scale = extent / _PANEL, extent * 1.2
        self.look_at(Xyz(*(s + n // 2 for s, n in zip(box.start, box.size, strict=True))))

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


def _show_all(state: Any, layer: Layer, voxel_size: Sequence[float]) -> None:
    """Sets the coordinates of the view, its place, and scales at which a panel shows all of a volume.

    Of a large volume of one scale, it shows as much as is read quickly.
    """
    if layer.box is None:
        return
    state.dimensions = coordinate_space(voxel_size)
    middle = [s + n // 2 for s, n in zip(layer.box.start, layer.box.size, strict=True)]
    state.position = [n + 0.5 for n in layer.place or middle]  # voxel i extends from i to i + 1
    least = min(voxel_size)  # scales count these
    extent = max(n * size / least for n, size in zip(layer.box.size, voxel_size, strict=True))
    several = isinstance(layer.data, Path) or layer.coarser
    state.cross_section_scale = min(extent / _PANEL, math.inf if several else _FARTHEST)
    state.projection_scale = extent * 1.2
