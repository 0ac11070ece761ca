"""Where tests find real data: environment variables, or the folder beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable) or default)
    if not path.is_dir():
        pytest.skip(f'no real data: set {variable} to its folder ({path} is not there)')
    return path


@pytest.fixture(scope='session')
def data_dir() -> Path:
    """Folder that holds `fib25/`."""
    return _folder('FFN_TEST_DATA', ROOT.parent / 'shared' / 'data')


@pytest.fixture(scope='session')
def goldens_dir() -> Path:
    """Folder of reference outputs."""
    return _folder('FFN_TEST_GOLDENS', ROOT.parent / 'shared' / 'goldens')


@pytest.fixture(scope='session')
def flood_network(tmp_path_factory) -> Path:
    """Folder with the checkpoint of a network whose weights are set by hand."""
    from tests.inference import flood  # loads Keras

    folder = tmp_path_factory.mktemp('network')
    flood.write_network(folder)
    return folder / 'flood'


@pytest.fixture
def flood_folder(tmp_path, flood_network) -> Path:
    """A folder with that network, volume.h5 and request.pbtxt."""
    from tests.inference import flood  # loads Keras

    flood.fill_folder(tmp_path, flood_network)
    return tmp_path


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return ROOT
