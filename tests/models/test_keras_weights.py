"""Weights as Keras writes them: loaded, damaged, and saved whole or not at all."""

import os

import numpy as np
import pytest

from ffn.models import keras_weights
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
