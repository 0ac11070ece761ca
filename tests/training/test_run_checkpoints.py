"""Checkpoints of a run: resumed, it ends bit for bit as if it had never been interrupted."""

import numpy as np
import pytest

from ffn.models import checkpoints
from ffn.models.model import create_model
from ffn.models.saved_settings import read_settings
from ffn.models.weights import load_weights
from ffn.training import train_loop
from ffn.training.augmentation.config import parse_augmentation
from ffn.training.config import CheckpointConfig, WalkConfig
from ffn.training.input.input_state import read_input_state
from ffn.training.optimizer_config import OptimizerConfig
from ffn.utils.errors import UserError
from tests.training import sample

AUGMENTATION = '{"rotation_2d": {}, "noise": {}, "missing_section": {}}'


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def config(folder, name, max_steps, **kwargs):
    return sample.train_config(
        folder, train_dir=str(folder / name), max_steps=max_steps, batch_size=3, **kwargs
    )


def run(folder, name, ends, **kwargs):
    for end in ends:
        assert train_loop.train(config(folder, name, end, **kwargs)) == end
    path = checkpoints.latest_checkpoint(folder / name)
    return checkpoints.read_variables(path), read_input_state(path, 0, 1)


@pytest.mark.parametrize(
    'policy', [pytest.param('fixed', marks=pytest.mark.slow), 'max_pred_moves']
)
def test_cut_in_three_it_ends_bit_for_bit_as_uncut(folder, policy):
    kwargs = {
        'walk': WalkConfig(policy),
        'optimizer': OptimizerConfig('adam', 0.01, ema_decay=0.9, warmup_steps=3),
        'data': {'augmentation': parse_augmentation(AUGMENTATION)},
        'model_args': {**sample.MODEL_ARGS, 'fov_size': [5, 5, 5], 'deltas': [1, 1, 1]},
    }
    whole, examples = run(folder, 'whole', [37], **kwargs)
    parts, taken_up = run(folder, 'parts', [11, 12, 37], **kwargs)
    assert set(whole) == set(parts)
    for name, value in whole.items():
        np.testing.assert_array_equal(value, parts[name], err_msg=name)
    assert set(examples) == set(taken_up)
    for name, value in examples.items():
        np.testing.assert_array_equal(value, taken_up[name], err_msg=name)
    assert int(examples['used/v']) > 3


def test_without_the_input_state_new_examples_begin(folder, caplog):
    run(folder, 'model', [4])
    for file in (folder / 'model').glob('*.input-*'):
        file.write_bytes(b'PK damaged')
    assert train_loop.train(config(folder, 'model', 6)) == 6
    assert 'interrupted examples cannot be resumed' in caplog.text
    (aside,) = (folder / 'model').glob('*.aside')
    assert aside.name == 'model.ckpt-4.input-00000-of-00001.aside'
    assert aside.read_bytes() == b'PK damaged'


def test_what_inference_will_do_otherwise_is_told(folder, caplog):
    run(folder, 'model', [2], voxel_size=(8.0, 8.0, 30.0))
    assert 'which inference will take' not in caplog.text
    run(folder, 'model', [3], voxel_size=(8.0, 8.0, 33.0))
    assert 'began with voxel_size [8.0, 8.0, 30.0] and goes on with [8.0, 8.0, 33.0]' in caplog.text
    caplog.clear()
    run(folder, 'model', [4])
    assert 'which inference will take' not in caplog.text
    assert read_settings(folder / 'model')['voxel_size'] == [8.0, 8.0, 33.0]
    (folder / 'model' / 'model.json').write_text('{')
    run(folder, 'model', [5])
    assert 'made anew' in caplog.text
    assert 'voxel_size' not in read_settings(folder / 'model')


@pytest.mark.parametrize(
    ('change', 'why'),
    [
        ({'walk': WalkConfig('max_pred_moves')}, ''),
        ({'seed': 4}, '--seed was 0'),
    ],
)
def test_other_settings_begin_with_new_examples(folder, caplog, change, why):
    args = {**sample.MODEL_ARGS, 'fov_size': [5, 5, 5], 'deltas': [1, 1, 1]}
    run(folder, 'model', [4], model_args=args)
    assert train_loop.train(config(folder, 'model', 6, model_args=args, **change)) == 6
    assert 'interrupted examples cannot be resumed' in caplog.text
    assert why in caplog.text


def test_old_input_states_go_with_their_checkpoints(folder):
    run(folder, 'model', [9], checkpoints=CheckpointConfig(steps=2, keep=2))
    names = sorted(path.name for path in (folder / 'model').glob('*.input-*'))
    assert names == [f'model.ckpt-{n}.input-00000-of-00001' for n in (8, 9)]


def weights_at(path, ema=False):
    model = create_model(sample.MODEL, sample.MODEL_ARGS)
    load_weights(model, path, ema=ema)
    return {name: np.asarray(value).copy() for name, value in model.named_variables().items()}


def test_init_checkpoint_gives_weights_and_nothing_else(folder):
    first, _ = run(folder, 'first', [5])
    still = OptimizerConfig('sgd', 1e-30, ema_decay=0.5)
    second, _ = run(folder, 'second', [2], init_checkpoint=str(folder / 'first'), optimizer=still)
    for name in weights_at(folder / 'first'):
        np.testing.assert_array_equal(second[name], first[name])
        np.testing.assert_allclose(second[f'ema/{name}'], first[name], atol=1e-7)
    assert int(second['global_step']) == 2
    # A checkpoint of the run itself goes before.
    third, _ = run(folder, 'second', [3], init_checkpoint=str(folder / 'none'), optimizer=still)
    assert int(third['global_step']) == 3


def test_init_checkpoint_that_does_not_fit(folder):
    with pytest.raises(UserError, match='no checkpoint at'):
        run(folder, 'model', [2], init_checkpoint=str(folder / 'none'))
    run(folder, 'first', [1])
    other = {**sample.MODEL_ARGS, 'features': 5}
    with pytest.raises(UserError, match='conv0_a'):
        run(folder, 'model', [2], init_checkpoint=str(folder / 'first'), model_args=other)
    assert not list(folder.glob('model/*.index'))


def test_a_full_disk_leaves_the_last_checkpoint(folder, monkeypatch):
    run(folder, 'model', [2])
    before = weights_at(folder / 'model')

    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', full)
    with pytest.raises(OSError, match='No space'):
        train_loop.train(config(folder, 'model', 5))
    monkeypatch.undo()
    for name, value in weights_at(folder / 'model').items():
        np.testing.assert_array_equal(value, before[name])
    assert train_loop.train(config(folder, 'model', 5)) == 5
