"""A browser without a window, for screenshots: Chromium, driven by Playwright, drawing in software."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ffn.utils.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
_FLAGS = (
    '--headless=new',
    '--use-angle=swiftshader',
    '--enable-unsafe-swiftshader',
    '--proxy-server=127.0.0.1:9',  # where nobody listens; loopback needs no proxy
)


def find_browser() -> str | None:
    """Path of an installed Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def why_not() -> str:
    """Why there can be no page; '' if there can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return 'Playwright is not installed: pip install playwright'
    if find_browser() is None:
        return f'no browser is installed: expected {" or ".join(_NAMES[:1] + _NAMES[2:3])}'
    return ''


@contextlib.contextmanager
def launch() -> Iterator[Browser]:
    """Starts a browser without a window; whatever its pages request from another machine fails.

    Raises:
      UserError: no browser.
    """
    if reason := why_not():
        raise UserError(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # Chromium's sandbox does not work for the superuser.
        browser = play.chromium.launch(
            executable_path=find_browser(), args=list(_FLAGS), chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def open_page(url: str, size: tuple[int, int]) -> Iterator[Page]:
    """Opens a page of this machine in a browser of its own.

    Args:
      url: of the page.
      size: width and height in pixels.

    Raises:
      UserError: no browser.
    """
    with launch() as browser:
        page = browser.new_page(viewport={'width': size[0], 'height': size[1]})
        page.goto(url)
        yield page
