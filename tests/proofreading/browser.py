"""A headless browser for tests of viewers: what a user would see, click and press.

Ask for the fixture `browser` (in conftest.py; the test is skipped where there is no Chromium or Playwright):

    def test_a_click(browser):
        with Viewer() as viewer:
            viewer.add(layer)
            with browser.open(viewer) as view:
                picture = view.picture()                   # waits until all is drawn; uint8 [height, width, 3]
                view.press('g', (40, 30, 20))              # a key, the mouse over that voxel in the xy panel
                view.click((40, 30, 20), panel='xz', modifiers=['Control'])
                view.wait_until(lambda: 7 in found)        # lets the page and the server go on meanwhile
                view.save('after.png')                     # an artefact, in $FFN_TEST_PICTURES or tmp_path

Wait with `wait_until` or `pause`, never with `time.sleep` or an event: Playwright hears of nothing meanwhile. At the
end, a view fails the test if its page requested anything of another machine, or met an error.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from ffn.proofreading.viewing.viewer import Viewer

# Panels of the layout '4panel', in the order of the page; axes to the right and down, with their direction.
_PANELS = {'xy': ((0, 1), (1, 1)), 'xz': ((0, 1), (2, 1)), '3d': None, 'yz': ((2, -1), (1, 1))}
_LOOPBACK = ('127.0.0.1', 'localhost')


class View:
    """A page that shows a viewer."""

    def __init__(self, page, viewer: Viewer | str, folder: Path):
        self.page, self.viewer, self.folder = page, viewer, folder
        self.outside: list[str] = []
        self.errors: list[str] = []
        page.on('request', self._check)
        page.on('pageerror', lambda error: self.errors.append(str(error)))

    def _check(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ('data', 'blob') and parts.hostname not in _LOOPBACK:
            self.outside.append(request.url)

    def pause(self, seconds: float) -> None:
        """Lets the page go on."""
        self.page.wait_for_timeout(seconds * 1000)

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 60) -> None:
        """Lets the page go on until a condition holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f'not within {timeout_s} s; errors: {self.errors}'
            self.pause(0.02)

    def _draw(self) -> bytes:
        replies = []
        self.viewer.neuroglancer.async_screenshot(lambda reply: replies.append(reply.screenshot))
        self.wait_until(lambda: replies)
        return replies[0].image

    def picture(self) -> np.ndarray:
        """What is shown once all of it has arrived, uint8 [height, width, 3]; without the controls."""
        return np.asarray(Image.open(io.BytesIO(self._draw())).convert('RGB'))

    def shown_now(self) -> np.ndarray:
        """The page as it is, also while something is fetched, uint8 [height, width, 3]; with the controls."""
        return np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert('RGB'))

    def save(self, name: str) -> Path:
        """Saves what is shown, with the controls, as PNG."""
        self._draw()
        path = self.folder / name
        self.page.screenshot(path=path)
        return path

    def at(self, voxel: Sequence[float], panel: str = 'xy') -> tuple[float, float]:
        """Where the middle of a voxel is on the page, in pixels; the panel has to show its plane."""
        box = (
            self.page.locator('.neuroglancer-rendered-data-panel')
            .nth(list(_PANELS).index(panel))
            .bounding_box()
        )
        axes, state = _PANELS[panel], self.viewer.neuroglancer.state
        assert axes is not None
        size = self.viewer.voxel_size
        offsets = []
        for axis, direction in axes:
            voxels = float(voxel[axis] + 0.5 - state.position[axis])
            pixels = voxels * size[axis] / min(size) / state.cross_section_scale
            offsets.append(direction * pixels)
        inside = all(abs(o) < box[n] / 2 - 2 for o, n in zip(offsets, ('width', 'height')))
        assert inside, (
            f'{voxel} is outside of what the panel {panel} shows: {offsets} pixels, {box}'
        )
        return box['x'] + box['width'] / 2 + offsets[0], box['y'] + box['height'] / 2 + offsets[1]

    def point(self, voxel: Sequence[float], panel: str = 'xy') -> None:
        """Moves the mouse over a voxel."""
        place = None
        while place != self.at(voxel, panel):  # panels move while the page is laid out
            x, y = place = self.at(voxel, panel)
            self.page.mouse.move(x - 1, y)
            self.page.mouse.move(x, y)
            self._draw()  # the viewer finds out what is below the mouse when it draws

    def press(self, keys: str, voxel: Sequence[float], panel: str = 'xy') -> None:
        """Presses keys, such as 'Shift+KeyA', with the mouse over a voxel."""
        self.point(voxel, panel)
        self.page.keyboard.press(keys)

    def click(
        self,
        voxel: Sequence[float],
        panel: str = 'xy',
        button: str = 'left',
        modifiers: Sequence[str] = (),
        double: bool = False,
    ) -> None:
        """Clicks on a voxel."""
        self.point(voxel, panel)
        for key in modifiers:
            self.page.keyboard.down(key)
        x, y = self.at(voxel, panel)
        self.page.mouse.click(x, y, button=button, click_count=2 if double else 1)
        for key in modifiers:
            self.page.keyboard.up(key)


class HeadlessBrowser:
    """A browser that opens viewers; see the module."""

    def __init__(self, browser, folder: Path):
        self._browser = browser
        self._folder = Path(os.environ.get('FFN_TEST_PICTURES') or folder)

    @contextlib.contextmanager
    def open(self, viewer: Viewer | str, size: tuple[int, int] = (800, 640)) -> Iterator[View]:
        """Opens a viewer in a new page, and checks in the end that the page behaved.

        Of a viewer in another process, given by its URL, there is only the `page` and what is pressed there.
        """
        page = self._browser.new_page(viewport={'width': size[0], 'height': size[1]})
        view = View(page, viewer, self._folder)
        try:
            page.goto(viewer if isinstance(viewer, str) else viewer.url)
            page.wait_for_selector('.neuroglancer-rendered-data-panel')
            yield view
        finally:
            page.close()
        assert not view.outside
        assert not view.errors
