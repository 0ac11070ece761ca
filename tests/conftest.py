"""Fixtures of all tests: real data, by environment variables or in the folder beside the checkout; networks; events."""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from absl import logging as absl_logging
from hypothesis import settings

from ffn.utils import event_log

ROOT = Path(__file__).resolve().parents[1]

# The modules that are loaded have so many objects that looking through them took a twentieth of all time.
gc.set_threshold(100_000, 20, 20)

# How long an example takes depends on what else the machine does.
settings.register_profile('ffn', deadline=None)
settings.load_profile('ffn')


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


@pytest.fixture
def trained_folder(flood_folder, flood_network) -> Path:
    """A folder with volume.h5 (raw, labels), request.pbtxt and the checkpoints of a training.

    Step 1 floods what is bright, 2 grows nothing, 3 does not stop at anything.
    """
    from ffn.models.checkpoints import CheckpointWriter
    from tests.inference import flood  # loads Keras

    (flood_folder / 'flood').unlink()
    shutil.copytree(flood_network, flood_folder / 'flood')
    weights = {n: np.asarray(v).copy() for n, v in flood.make_network().named_variables().items()}
    writer = CheckpointWriter(flood_folder / 'flood')
    writer.save({name: np.zeros_like(v) for name, v in weights.items()}, 2)
    weights['seed_update/conv_lom/biases'] += 20
    writer.save(weights, 3)
    labels = flood.write_volume(flood_folder)
    with h5py.File(flood_folder / 'volume.h5', 'a') as file:
        file['labels'] = labels.astype(np.int64) * 2**40 - (labels == 0)  # background is -1
    return flood_folder


@pytest.fixture(scope='session')
def repository() -> Path:
    """Root of the checkout."""
    return ROOT


@pytest.fixture
def events(monkeypatch) -> Iterator[Callable[[], list[dict]]]:
    """Makes the log JSON; what is returned reads the events since the last call."""
    stream, logger = io.StringIO(), absl_logging.get_absl_logger()
    handler = logging.StreamHandler(stream)
    before = absl_logging.get_absl_handler().formatter
    logger.addHandler(handler)
    monkeypatch.setenv('FFN_LOG_JSON', '')  # restored at the end
    event_log.turn_on()
    level = logger.level
    logger.setLevel(logging.INFO)

    def read():
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in lines]

    yield read
    logger.setLevel(level)
    logger.removeHandler(handler)
    absl_logging.get_absl_handler().setFormatter(before)
