"""Weights as Keras writes them: loaded, damaged, and saved whole or not at all."""

import json
import os

import h5py
import keras
import numpy as np
import pytest

from ffn.models import keras_weights
from ffn.models.info import ModelInfo
from ffn.models.model import FFNModel, create_model
from ffn.models.saved_settings import read_settings, settings_path, write_settings_file
from ffn.utils.geometry import Xyz
from tests.flips import refusals
from tests.models.small_network import check_equal, make, refused, values


@pytest.mark.parametrize(
    'other', [{'depth': 3}, {'depth': 1}, {'features': 4}, {'features': [4, 3, 3, 3]}]
)
def test_weights_of_another_network(weights, other):
    output, _ = weights
    with refused(str(output), 'model_args'):
        keras_weights.load(make(1, **other), output)


STACK = 'residual_stack.ResidualStackFFNModel'
STACK_ARGS = {
    **{'fov_size': [17, 15, 13], 'deltas': [1, 1, 1], 'features': 3},
    **{'depth': 1, 'layer_norm': False},
}


def write_stack(folder, settings, **args):
    """A file of a stack, and settings beside it."""
    output = folder / 'stack.weights.h5'
    model = create_model(STACK, {**STACK_ARGS, **args})
    keras_weights.save(model, output)
    if settings:
        given = {'model_name': STACK, 'model_args': {**STACK_ARGS, **args}}
        write_settings_file(settings_path(output), given)
    return output


@pytest.mark.parametrize(
    ('saved', 'loaded', 'words'),
    [
        ({'layer_norm': True}, {}, ['16 arrays', 'needs 10', 'beyond: norm0 (3,)']),
        ({}, {'layer_norm': True}, ['10 arrays', 'needs 16', 'lacking: norm0 (3,)']),
        ({'depth': 3}, {'convs': 4}, ['18 arrays', 'needs 18', 'lacking: pre_c', 'beyond: res1a']),
        ({'convs': 4}, {'depth': 3}, ['18 arrays', 'needs 18', 'lacking: res1a', 'beyond: pre_c']),
        (
            {'features': [3, 4, 4, 4]},
            {'features': 4},
            ['pre_a (3, 3, 3, 2, 4)', 'pre_a (3, 3, 3, 2, 3)'],
        ),
    ],
)
def test_weights_of_a_network_of_like_layers(tmp_path, saved, loaded, words):
    output = write_stack(tmp_path, False, **saved)
    with refused(str(output), 'model_args', *words):
        keras_weights.load(create_model(STACK, {**STACK_ARGS, **loaded}), output)
    keras_weights.load(create_model(STACK, {**STACK_ARGS, **saved}), output)


def test_weights_of_a_network_that_computes_something_else(tmp_path):
    """Its arrays are the same; the settings beside them tell."""
    output = write_stack(tmp_path, True, padding='valid')
    with refused(str(output), 'padding valid', 'model_args make it same'):
        keras_weights.load(create_model(STACK, STACK_ARGS), output)
    keras_weights.load(create_model(STACK, {**STACK_ARGS, 'padding': 'valid'}), output)
    # Other sizes are allowed, and what is left out is the default.
    output = write_stack(tmp_path, True)
    other = {**STACK_ARGS, 'fov_size': [9, 9, 7], 'padding': 'same', 'convs': 2}
    keras_weights.load(create_model(STACK, other), output)


class _Unnamed(FFNModel):
    """Its layers have the names that Keras gives them, which count up in a process."""

    def __init__(self, fov_size, deltas):
        super().__init__(ModelInfo(*(Xyz(*n) for n in (deltas, fov_size, fov_size, fov_size))))
        self._first = keras.layers.Conv3D(3, 3, padding='same')
        self._last = keras.layers.Conv3D(1, 1)
        self.finish()

    def update(self, image, seed):
        return self._last(self._first(keras.ops.concatenate([image, seed], axis=-1)))


def test_layers_with_names_of_keras(tmp_path):
    first, second = (_Unnamed((9, 7, 5), (2, 1, 1)) for _ in range(2))
    keras_weights.save(first, tmp_path / 'own.weights.h5')
    keras_weights.load(second, tmp_path / 'own.weights.h5')
    for one, other in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_files_without_the_names_of_layers(tmp_path):
    """As Keras wrote them first: numbers and shapes are compared, and settings where there are any."""
    output = write_stack(tmp_path, True, depth=3)

    def forget(_, item):
        item.attrs.pop('name', None)

    with h5py.File(output, 'a') as file:
        file.visititems(forget)
    keras_weights.load(create_model(STACK, {**STACK_ARGS, 'depth': 3}), output)
    with refused('18 arrays', 'needs 22'):
        keras_weights.load(
            create_model(STACK, {**STACK_ARGS, 'depth': 2, 'layer_norm': True}), output
        )
    with refused('depth 3', 'model_args make it 1'):
        keras_weights.load(create_model(STACK, {**STACK_ARGS, 'convs': 4}), output)


@pytest.mark.parametrize('name', ['fib25_small', 'fib25_medium', 'fib25_medium_20nm'])
def test_networks_of_the_repository(repository, name):
    path = repository / 'models' / f'{name}.weights.h5'
    settings = read_settings(path)
    model = create_model(settings['model_name'], settings['model_args'])
    assert keras_weights.load(model, path) == settings['step']


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
    other, unlike = make(1), values(make(1))

    def read():
        for name, variable in other.named_variables().items():
            variable.assign(unlike[name])
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
