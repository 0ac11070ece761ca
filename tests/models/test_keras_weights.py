"""Weights as Keras writes them: loaded, damaged, and saved whole or not at all."""

import json
import os

import numpy as np
import pytest

from ffn.models import keras_weights
from ffn.models.saved_settings import read_settings, settings_path, write_settings_file
from tests.flips import refusals
from tests.models.small_network import check_equal, make, refused


@pytest.mark.parametrize(
    'other', [{'depth': 3}, {'depth': 1}, {'features': 4}, {'features': [4, 3, 3, 3]}]
)
def test_weights_of_another_network(weights, other):
    output, _ = weights
    with refused(str(output), 'model_args'):
        keras_weights.load(make(1, **other), output)


@pytest.mark.parametrize('part', [0, 1, 100, 0.5, 0.9])
def test_a_truncated_file(weights, part):
    output, _ = weights
    size = output.stat().st_size
    os.truncate(output, int(part * size) if isinstance(part, float) else part)
    with refused(str(output)):
        keras_weights.load(make(1), output)


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / 'my.weights.h5'
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with refused(str(path)):
        keras_weights.load(make(1), path)
    with refused('none.weights.h5', 'no such file'):
        keras_weights.load(make(1), tmp_path / 'none.weights.h5')


def test_writing_that_breaks_off_leaves_the_old_file(weights, monkeypatch):
    output, _ = weights
    write_settings_file(settings_path(output), {'step': 7})  # not of which weights
    before, names = output.read_bytes(), sorted(os.listdir(output.parent))

    def half(path):
        path.write_bytes(before[:1000])
        raise OSError(28, 'No space left on device')

    other = make(9)
    monkeypatch.setattr(other, 'save_weights', half)
    with pytest.raises(OSError, match='No space left'):
        keras_weights.save(other, output)
    assert output.read_bytes() == before
    assert sorted(os.listdir(output.parent)) == names
    monkeypatch.undo()
    keras_weights.save(other, output)
    again = make(1)
    keras_weights.load(again, output)
    check_equal(other, again)
    assert sorted(os.listdir(output.parent)) == names


def test_one_flipped_bit(weights):
    """Of the weights and of their settings: refused, or what it was."""
    output, model = weights
    known = list(read_settings(output))

    def read():
        other = make(1)
        keras_weights.load(other, output)
        check_equal(model, other)
        return {name: read_settings(output).get(name) for name in known}

    assert refusals(output, read, 20) == 20
    assert refusals(settings_path(output), read, 40) >= 20
    with refused('weights_sha256', 'take a copy', 'remove'):
        output.write_bytes(output.read_bytes() + b' ')
        read()


def test_weights_of_an_earlier_version(weights):
    output, model = weights
    settings = read_settings(output)
    del settings['weights_sha256']
    settings_path(output).write_text(json.dumps(settings))
    other = make(1)
    assert keras_weights.load(other, output) == 1234
    check_equal(model, other)
