from __future__ import annotations

import json

import pytest

from ffn.models import checkpoints
from ffn.models.weights import convert
from tests.models.small_network import ARGS, NAME, make


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of steps 10 and 20, and the network of step 20."""
    writer = checkpoints.CheckpointWriter(tmp_path)
    for step in (10, 20):
        model = make(step)
        writer.save(model.named_variables(), step)
    return tmp_path, model


@pytest.fixture
def checkpoint(tmp_path):
    """Path of a checkpoint of step 1234 without settings, and its network."""
    (tmp_path / 'train').mkdir()
    model = make(7)
    path = checkpoints.CheckpointWriter(tmp_path / 'train').save(model.named_variables(), 1234)
    return path, model


@pytest.fixture
def weights(tmp_path, checkpoint):
    """The checkpoint converted."""
    path, model = checkpoint
    output = tmp_path / 'my.weights.h5'
    convert(path, str(output), NAME, json.dumps(ARGS))
    return output, model
