"""Settings of a training, saved beside its weights."""

import hashlib
import json
import math
import os

import pytest

from ffn.models import keras_weights
from ffn.models.saved_settings import read_settings, settings_path, write_settings
from ffn.models.trained_settings import read_trained_settings
from ffn.models.weights import convert, load_weights
from ffn.utils.errors import UserError
from tests.models.small_network import ARGS, NAME, check_equal, make, refused


def test_settings_travel_beside_the_checkpoint(saved):
    folder, _ = saved
    assert read_settings(folder / 'model.ckpt-10') is None
    settings = {'model_name': NAME, 'model_args': ARGS, 'image_mean': 128.0}
    write_settings(folder, settings)
    assert read_settings(folder / 'model.ckpt-10') == settings
    assert read_settings(folder) == settings
    (folder / 'model.json').write_text('{"model_name": ')
    with pytest.raises(UserError, match=r'model\.json'):
        read_settings(folder)


def test_settings_of_the_training_go_along(tmp_path, checkpoint):
    """They say which network it is, and inference compares with them."""
    path, model = checkpoint
    settings = {'model_name': NAME, 'model_args': ARGS, 'image_mean': 128.5, 'seed_pad': 0.05}
    write_settings(os.path.dirname(path), settings)
    output = tmp_path / 'my.weights.h5'
    assert convert(path, str(output)) == 1234
    assert sorted(p.name for p in tmp_path.iterdir()) == ['my.json', 'my.weights.h5', 'train']
    weights_sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
    expected = {**settings, 'step': 1234, 'weights_sha256': weights_sha256}
    sha256 = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()
    assert json.loads((tmp_path / 'my.json').read_text()) == {**expected, 'sha256': sha256}
    assert read_settings(output) == expected
    other = make(1)
    assert load_weights(other, output) == 1234
    check_equal(model, other)


def test_without_settings_they_come_from_what_was_given(weights):
    output, _ = weights
    expected = {'model_name': NAME, 'model_args': ARGS, 'step': 1234}
    assert {**read_settings(output), **expected} == read_settings(output)
    assert set(read_settings(output)) - set(expected) == {'weights_sha256'}


def test_weights_alone_have_no_step(weights):
    output, model = weights
    settings_path(output).unlink()
    other = make(1)
    assert keras_weights.load(other, output) == 0
    check_equal(model, other)
    assert read_settings(output) is None


@pytest.mark.parametrize('settings', ['', '{"step": '])
def test_damaged_settings(weights, settings):
    output, _ = weights
    settings_path(output).write_text(settings)
    with refused('my.json'):
        keras_weights.load(make(1), output)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('image_stddev', 0),
        ('image_stddev', True),
        ('image_mean', math.nan),
        ('seed_pad', 1.5),
        ('threshold', 0),
        ('voxel_size', [8, 8, 0]),
        ('voxel_size', [8, 8, math.inf]),
    ],
)
def test_values_that_are_impossible(tmp_path, name, value):
    path = tmp_path / 'network.weights.h5'
    (tmp_path / 'network.json').write_text(json.dumps({name: value}))
    with pytest.raises(UserError, match=f'the settings beside {path} are damaged: {name} is '):
        read_trained_settings(str(path))
