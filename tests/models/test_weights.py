"""Weights from files of either kind, and converted from one to the other."""

import json
import os
import sys

import numpy as np
import pytest

from ffn.cli.convert_weights import main
from ffn.models import checkpoints, keras_weights
from ffn.models.saved_settings import read_settings
from ffn.models.weights import convert, load_weights
from ffn.utils.errors import UserError
from tests.models.small_network import ARGS, NAME, check_equal, make, refused, values


def test_round_trip_through_prefix_file_name_and_folder(saved):
    folder, model = saved
    for path in (folder, folder / 'model.ckpt-20', f'{folder}/model.ckpt-20.index'):
        other = make(1)
        assert load_weights(other, path) == 20
        for name, value in values(other).items():
            np.testing.assert_array_equal(value, values(model)[name])


def check_refused(model, path, *words):
    before = values(model)
    with pytest.raises(UserError) as caught:
        load_weights(model, path)
    for word in words:
        assert word in str(caught.value)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_missing_checkpoints(saved):
    folder, _ = saved
    check_refused(make(), folder / 'model.ckpt-30', 'model.ckpt-30')
    (folder / 'empty').mkdir()
    check_refused(make(), folder / 'empty', 'empty')
    check_refused(make(), folder / 'nowhere' / 'model.ckpt-1', 'nowhere')


def test_checkpoints_of_another_network(saved):
    folder, _ = saved
    check_refused(
        make(features=4),
        folder,
        'seed_update/conv0_a/weights',
        '(3, 3, 3, 2, 3)',
        '(3, 3, 3, 2, 4)',
    )
    check_refused(make(depth=3), folder, 'seed_update/conv2_a/weights')
    check_refused(make(depth=1), folder, 'conv1_a')


@pytest.mark.parametrize('size', [0, 7, 100])
@pytest.mark.parametrize('file', ['index', 'data-00000-of-00001'])
def test_truncated_files(saved, file, size):
    folder, _ = saved
    os.truncate(folder / f'model.ckpt-20.{file}', size)
    check_refused(make(), folder / 'model.ckpt-20', 'model.ckpt-20')


@pytest.mark.parametrize('named', ['small', 'small.weights', 'small.h5', 'small.json'])
def test_weights_of_keras_without_their_ending(tmp_path, named):
    (tmp_path / 'small.weights.h5').touch()
    check_refused(make(), tmp_path / named, f'did you mean {tmp_path}/small.weights.h5?')


def test_files_of_another_kind(saved):
    folder, _ = saved
    (folder / 'model.ckpt-20.index').write_text('no checkpoint at all, but long enough to be ' * 9)
    check_refused(make(), folder / 'model.ckpt-20', 'model.ckpt-20')


def test_averaged_weights_beside_the_weights(tmp_path):
    """Training with --ema_decay saves both; which are loaded is for the reader to say."""
    plain, averaged = make(1), make(2)
    named = {f'ema/{name}': value for name, value in values(averaged).items()}
    state = {'optimizer/000_momentum': np.ones((2, 3), np.float32)}
    path = checkpoints.CheckpointWriter(tmp_path).save({**values(plain), **named, **state}, 5)
    for ema, expected in ((False, plain), (True, averaged)):
        other = make(3)
        assert load_weights(other, path, ema) == 5
        for name, value in values(other).items():
            np.testing.assert_array_equal(value, values(expected)[name])
    check_refused(make(depth=1), path, 'conv1_a')  # with the layers of the averages or without
    with pytest.raises(UserError, match=r'averaged weights of .* has layers that this model lacks'):
        load_weights(make(depth=1), path, ema=True)


def test_no_averaged_weights(saved):
    folder, model = saved
    other = make(3)
    with pytest.raises(UserError, match=r'holds no averaged weights \(ema/…\).*use_ema'):
        load_weights(other, folder, ema=True)
    part = {f'ema/{n}': v for n, v in values(model).items() if 'conv0_a' in n}
    checkpoints.CheckpointWriter(folder).save({**values(model), **part}, 30)
    with pytest.raises(
        UserError, match=r'averaged weights of .* has no variable seed_update/conv0_b'
    ):
        load_weights(other, folder, ema=True)
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, values(make(3))[name])


def test_weights_and_step_come_back(tmp_path, checkpoint):
    path, model = checkpoint
    output = tmp_path / 'new' / 'my.weights.h5'
    assert convert(path, str(output), NAME, json.dumps(ARGS)) == 1234
    other = make(1)
    assert keras_weights.load(other, output) == 1234
    check_equal(model, other)
    # As inference loads it.
    other = make(2)
    assert load_weights(other, str(output)) == 1234
    check_equal(model, other)


def test_the_folder_stands_for_its_last_checkpoint(tmp_path, checkpoint):
    path, _ = checkpoint
    newer = make(8)
    folder = os.path.dirname(path)
    checkpoints.CheckpointWriter(folder).save(newer.named_variables(), 2000)
    output = str(tmp_path / 'my.weights.h5')
    assert convert(folder, output, NAME, json.dumps(ARGS)) == 2000
    other = make(1)
    keras_weights.load(other, output)
    check_equal(newer, other)


def test_averaged_weights(tmp_path, checkpoint, weights):
    """The file has them in the place of the weights, and its settings say so."""
    plain, averaged = make(7), make(11)
    named = {f'ema/{name}': value for name, value in values(averaged).items()}
    path = checkpoints.CheckpointWriter(tmp_path / 'ema').save({**values(plain), **named}, 5)
    output = str(tmp_path / 'my_ema.weights.h5')
    assert convert(path, output, NAME, json.dumps(ARGS), ema=True) == 5
    assert read_settings(output)['ema'] is True
    for ema in (True, False):
        other = make(1)
        assert load_weights(other, output, ema) == 5
        check_equal(averaged, other)
    output = str(tmp_path / 'my_plain.weights.h5')
    main(
        [
            '--checkpoint',
            path,
            '--output',
            output,
            '--model_name',
            NAME,
            '--model_args',
            json.dumps(ARGS),
        ]
    )
    other = make(1)
    keras_weights.load(other, output)
    check_equal(plain, other)
    with refused('my_plain', 'no averaged weights', '--ema'):
        load_weights(other, output, ema=True)
    with refused('no averaged weights'):
        main(
            [
                '--checkpoint',
                checkpoint[0],
                '--output',
                output,
                '--ema',
                '--model_name',
                NAME,
                '--model_args',
                json.dumps(ARGS),
            ]
        )
    keras_weights.load(other, output)
    check_equal(plain, other)


@pytest.mark.parametrize(('name', 'args', 'words'), [
    (None, None, ['--model_name', '--model_args', 'model.ckpt-1234']),
    (NAME, None, ['--model_args']),
    (None, json.dumps(ARGS), ['--model_name']),
    (NAME, '{"depth": ', ['model_args', '{"depth": ']),
    (NAME, '{"depth": 2, "size": 3}', ['size', 'fov_size']),
    ('convstack_3d.Other', json.dumps(ARGS), ['convstack_3d.Other', NAME]),
    (NAME, json.dumps({**ARGS, 'features': 4}), ['conv0_a/weights', '3)', '4)']),
    (NAME, json.dumps({**ARGS, 'depth': 3}), ['conv2_a']),
])  # fmt: skip
def test_networks_that_do_not_fit_the_checkpoint(tmp_path, checkpoint, name, args, words):
    with refused(*words):
        convert(checkpoint[0], str(tmp_path / 'my.weights.h5'), name, args)
    assert [path.name for path in tmp_path.iterdir()] == ['train']


@pytest.mark.parametrize('output', ['my.h5', 'my.weights', 'weights.h5', 'my.weights.h5.gz'])
def test_another_ending(tmp_path, checkpoint, output):
    with refused('.weights.h5', output):
        convert(checkpoint[0], str(tmp_path / output), NAME, json.dumps(ARGS))
    assert [path.name for path in tmp_path.iterdir()] == ['train']


def test_a_checkpoint_where_tensorflow_is_not_installed(checkpoint, monkeypatch):
    """The message says what to do elsewhere."""
    other = make(1)
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    with refused('ffn convert-weights', 'model.ckpt-1234', '.weights.h5'):
        load_weights(other, checkpoint[0])


def test_keras_files_are_read_where_tensorflow_is_not_installed(weights, monkeypatch):
    output, model = weights
    other = make(1)
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    assert load_weights(other, output) == 1234
    monkeypatch.undo()
    check_equal(model, other)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda v: np.full(v.shape, np.nan, np.float32), 'holds values that are not finite'),
        (lambda v: np.full(v.shape, 'text'), 'no numbers'),
    ],
)
def test_weights_that_are_no_numbers(tmp_path, change, words):
    weights, writer = values(make(3)), checkpoints.CheckpointWriter(tmp_path)
    name = min(weights)
    path = writer.save({**weights, name: change(weights[name])}, 3)
    with pytest.raises(UserError, match=f'is damaged: {name} .*{words}'):
        load_weights(make(), path)
