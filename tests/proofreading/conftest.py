"""Fixtures of tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ffn.proofreading.viewing.browser import launch, why_not


@pytest.fixture(scope='module')
def browser(tmp_path_factory) -> Iterator:
    """A browser without a window; see `tests.proofreading.browser`. Ends with the module, as it has an event loop."""
    if reason := why_not():
        pytest.skip(reason)
    pytest.importorskip('neuroglancer')
    from tests.proofreading.browser import HeadlessBrowser

    with launch() as started:
        yield HeadlessBrowser(started, tmp_path_factory.mktemp('pictures'))
