"""Weights of TensorFlow checkpoints as files that every Keras backend reads."""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from ffn.cli.convert_weights import main
from ffn.models import checkpoints, keras_weights
from ffn.models.saved_settings import read_settings, settings_path, write_settings
from ffn.models.weights import convert, load_weights
from ffn.utils.errors import UserError
from tests.models.small_network import ARGS, NAME, make, values


def check_equal(model, other):
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, values(other)[name])


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


@contextlib.contextmanager
def refused(*words):
    """Expects one line that has these words."""
    with pytest.raises(UserError) as caught:
        yield
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message, (word, message)


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


def test_settings_of_the_training_go_along(tmp_path, checkpoint):
    """They say which network it is, and inference compares with them."""
    path, model = checkpoint
    settings = {'model_name': NAME, 'model_args': ARGS, 'image_mean': 128.5, 'seed_pad': 0.05}
    write_settings(os.path.dirname(path), settings)
    output = tmp_path / 'my.weights.h5'
    assert convert(path, str(output)) == 1234
    assert sorted(p.name for p in tmp_path.iterdir()) == ['my.json', 'my.weights.h5', 'train']
    expected = {**settings, 'step': 1234}
    assert json.loads((tmp_path / 'my.json').read_text()) == expected
    assert read_settings(output) == expected
    other = make(1)
    assert load_weights(other, output) == 1234
    check_equal(model, other)


def test_without_settings_they_come_from_what_was_given(weights):
    output, _ = weights
    expected = {'model_name': NAME, 'model_args': ARGS, 'step': 1234}
    assert read_settings(output) == expected


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


def test_weights_alone_have_no_step(weights):
    output, model = weights
    settings_path(output).unlink()
    other = make(1)
    assert keras_weights.load(other, output) == 0
    check_equal(model, other)
    assert read_settings(output) is None


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


@pytest.mark.parametrize('settings', ['', '{"step": '])
def test_damaged_settings(weights, settings):
    output, _ = weights
    settings_path(output).write_text(settings)
    with refused('my.json'):
        keras_weights.load(make(1), output)


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


def test_as_a_user_calls_it(tmp_path, checkpoint, repository):
    path, model = checkpoint

    def call(*arguments):
        return subprocess.run(
            [
                sys.executable,
                '-m',
                'ffn.training.keras_weights',
                f'--checkpoint={path}',
                *arguments,
            ],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(repository)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    done = call(
        '--output=my.weights.h5', f'--model_name={NAME}', f'--model_args={json.dumps(ARGS)}'
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == 'my.weights.h5: the weights of step 1234\n'
    other = make(1)
    assert keras_weights.load(other, tmp_path / 'my.weights.h5') == 1234
    check_equal(model, other)

    done = call('--output=other.weights.h5')
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith('error: ')]
    assert len(errors) == 1
    assert 'Traceback' not in done.stderr
    assert '--model_name and --model_args' in errors[0]
