"""The training loop on a small sample: what it learns, saves, shows and refuses."""

import json
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

import ffn
from ffn.models import checkpoints
from ffn.models.model import create_model
from ffn.models.weights import load_weights
from ffn.training import train_loop
from ffn.training.augmentation.config import parse_augmentation
from ffn.training.config import CheckpointConfig, WalkConfig
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.train_step import TrainStep
from ffn.training.walks.walk import Batch, BatchWalker
from ffn.utils import atomic
from ffn.utils.errors import UserError
from ffn.utils.locks import exclusive_directory
from ffn.utils.processes import Process
from tests.events import read_events
from tests.training import sample

TAGS = {
    'pixel_loss',
    'learning_rate',
    'steps/s',
    'eval/patch_loss',
    'eval/patches',
    'eval/all/accuracy',
    'eval/all/precision',
    'eval/all/recall',
    'eval/all/specificity',
    'eval/all/f1',
    'moves/total',
    'moves/all/correct',
    'moves/all/spurious',
    'moves/all/missed',
    'moves/r=3/correct',
    'fov/masked_voxel_fraction',
    'patches/xy',
    'patches/xz',
    'patches/yz',
    'weights/seed_update/conv0_a/weights',
    'gradients/seed_update/conv_lom/biases',
}


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def make_model(seed=0):
    model = create_model(sample.MODEL, sample.MODEL_ARGS)
    model.initialize(np.random.default_rng(seed))
    return model


def make_batch(model, seed=1, size=3):
    rng = np.random.default_rng(seed)
    shape = (size, *model.info.input_image_size.zyx, 1)
    labels = np.where(rng.random(shape) < 0.5, np.float32(0.95), np.float32(0.05))
    weights = rng.random(shape, dtype=np.float32)
    image, seeds = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    return Batch(image, seeds, labels, weights)


def values(model):
    return {
        name: keras.ops.convert_to_numpy(v).copy() for name, v in model.named_variables().items()
    }


def test_one_step_is_gradient_descent_on_the_weighted_cross_entropy():
    model = make_model()
    batch, before = make_batch(model), values(model)
    step = TrainStep(model, OptimizerConfig('sgd', learning_rate=0.5))
    loss, logits, gradients, _ = step(batch, want_gradients=True)
    # The loss as the papers have it, from the step's own logits.
    z, y = logits.astype(np.float64), batch.labels
    entropy = -(y * np.log(1 / (1 + np.exp(-z))) + (1 - y) * np.log(1 / (1 + np.exp(z))))
    assert loss == pytest.approx(np.mean(entropy * batch.weights), rel=1e-5)
    after = values(model)
    assert set(gradients) == set(after)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(after[name], before[name] - 0.5 * gradient, atol=1e-6)
    # The gradient of one bias, by differences.
    name, small = 'seed_update/conv_lom/biases', 0.02
    losses = []
    for sign in (-1, 1):
        for key, variable in model.named_variables().items():
            variable.assign(before[key] + (sign * small if key == name else 0))
        moved = keras.ops.convert_to_numpy(model(batch[:2])).astype(np.float64)
        losses.append(np.mean(batch.weights * (np.logaddexp(0, moved) - moved * y)))
    assert gradients[name][0] == pytest.approx((losses[1] - losses[0]) / (2 * small), rel=1e-2)


def test_gradients_are_limited_entry_by_entry():
    model = make_model()
    step = TrainStep(model, OptimizerConfig('sgd', learning_rate=1e-9))
    batch = make_batch(model)._replace(weights=np.full_like(make_batch(model).weights, 1e4))
    gradients = step(batch, want_gradients=True).gradients
    entries = np.concatenate([g.ravel() for g in gradients.values()])
    assert np.abs(entries).max() == np.float32(0.7)
    assert (np.abs(entries) < 0.7).any()


def test_training_lowers_the_loss_and_shows_it(folder):
    config = sample.train_config(
        folder,
        max_steps=160,
        summary_seconds=0.3,
        batch_size=4,
        model_args={**sample.MODEL_ARGS, 'features': 6},
    )
    assert train_loop.train(config) == 160
    shown = read_events(folder / 'model')
    assert set(shown) >= TAGS
    losses = list(shown['pixel_loss'].values())
    assert all(np.isfinite(losses))
    # Each object has a brightness of its own; telling them apart takes few steps.
    assert np.mean(losses[-2:]) < 0.8 * losses[0]
    assert 160 in shown['pixel_loss']
    # A summary right before the last leaves it without finished patches.
    pictures = shown['patches/xz']
    width, height, picture, *more = pictures[max(pictures)]
    # label | prediction | weights; patches are FOV + 2 · deltas: z,y,x 11,15,15.
    assert (int(width), int(height)) == (3 * 15, 11)
    assert 0 <= len(more) < 16
    assert tf.io.decode_png(picture).shape == (11, 45, 3)


def test_settings_and_checkpoint_lie_in_the_folder(folder):
    train_loop.train(sample.train_config(folder, max_steps=3))
    model = make_model(9)
    assert load_weights(model, folder / 'model') == 3
    settings = json.loads((folder / 'model' / 'model.json').read_text())
    assert len(settings.pop('sha256')) == 64
    assert settings == {
        'model_name': sample.MODEL,
        'model_args': sample.MODEL_ARGS,
        'image_mean': 140.0,
        'image_stddev': 50.0,
        'init_activation': 0.95,
        'seed_pad': 0.05,
        'threshold': 0.9,
        'precision': 'float32',
        'version': ffn.__version__,
    }


def test_settings_have_no_mean_that_nobody_gave(folder):
    own = {'image_mean': None, 'image_stddev': None, 'offset_scale': {'v': (140.0, 50.0)}}
    for steps in (1, 2):  # the second run goes on
        train_loop.train(sample.train_config(folder, own, max_steps=steps))
        settings = json.loads((folder / 'model' / 'model.json').read_text())
        assert settings['image_offset_scale'] == {'v': [140.0, 50.0]}
        assert not {'image_mean', 'image_stddev'} & settings.keys()


def test_augmentation_of_other_proportions_is_told(folder, caplog):
    augmentation = parse_augmentation('{"voxel_size": [8, 8, 8], "rotation_2d": {}}')
    data = {'augmentation': augmentation}
    size = (8.0, 9.0, 30.0)
    train_loop.train(sample.train_config(folder, data, max_steps=1, voxel_size=size))
    told = (
        'x,y,z 8,8,8, has other proportions than x,y,z 8,9,30 nm (the training); rotation_2d would'
    )
    assert told in caplog.text


def test_equal_seeds_give_equal_weights(folder):
    trained = []
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        config = sample.train_config(folder, train_dir=str(folder / name), max_steps=5, seed=seed)
        train_loop.train(config)
        trained.append(checkpoints.read_variables(folder / name))
    assert set(trained[0]) == set(trained[1])
    for name, value in trained[0].items():
        np.testing.assert_allclose(value, trained[1][name], atol=1e-5)
    key = 'seed_update/conv0_a/weights'
    assert np.abs(trained[0][key] - trained[2][key]).max() > 1e-3


def test_goes_on_where_it_stopped_with_the_optimizers_state(folder):
    train_loop.train(sample.train_config(folder, max_steps=4))
    first = checkpoints.read_variables(folder / 'model')
    state = [name for name in first if name.startswith('optimizer/')]
    assert len(state) > 2 * len(sample.MODEL_ARGS)
    assert int(first['optimizer/000_iteration']) == 4
    assert train_loop.train(sample.train_config(folder, max_steps=4)) == 4
    for name, value in checkpoints.read_variables(folder / 'model').items():
        np.testing.assert_array_equal(value, first[name])
    assert train_loop.train(sample.train_config(folder, max_steps=7)) == 7
    last = checkpoints.read_variables(folder / 'model')
    assert int(last['global_step']) == int(last['optimizer/000_iteration']) == 7


def test_a_learning_rate_schedule_goes_on(folder):
    for steps in (3, 6):
        optimizer = OptimizerConfig('momentum', 0.01, decay_factor=0.5, decay_steps=2)
        train_loop.train(sample.train_config(folder, max_steps=steps, optimizer=optimizer))
    rates = read_events(folder / 'model')['learning_rate']
    assert rates == {3: pytest.approx(0.005), 6: pytest.approx(0.00125)}


def test_another_network_does_not_go_on(folder):
    train_loop.train(sample.train_config(folder, max_steps=2))
    before = sorted(path.name for path in (folder / 'model').iterdir())
    other = {**sample.MODEL_ARGS, 'features': 5}
    with pytest.raises(UserError, match=r'conv0_a/weights.*\(3, 3, 3, 2, 4\).*\(3, 3, 3, 2, 5\)'):
        train_loop.train(sample.train_config(folder, max_steps=4, model_args=other))
    assert sorted(path.name for path in (folder / 'model').iterdir()) == before


def test_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(folder):
    train_loop.train(sample.train_config(folder, max_steps=2))
    far = OptimizerConfig('sgd', learning_rate=1e38)
    with pytest.raises(UserError, match=r'loss is \S+ at step \d.*\bv\b.*that of step 2') as caught:
        train_loop.train(sample.train_config(folder, max_steps=9, optimizer=far))
    assert '\n' not in str(caught.value)
    assert load_weights(make_model(), folder / 'model') == 2


def test_stopping_saves_a_checkpoint(folder):
    stop = threading.Event()
    timer = threading.Timer(3, stop.set)
    timer.start()
    step = train_loop.train(sample.train_config(folder, max_steps=10**6), stop)
    timer.cancel()
    assert 0 < step < 10**6
    assert load_weights(make_model(), folder / 'model') == step


def test_checkpoints_every_so_many_steps(folder):
    train_loop.train(
        sample.train_config(folder, max_steps=7, checkpoints=CheckpointConfig(steps=2, keep=3))
    )
    kept = sorted(int(p.stem.split('-')[1]) for p in (folder / 'model').glob('*.index'))
    assert kept == [4, 6, 7]


@pytest.mark.parametrize('policy', ['max_pred_moves', 'no_step'])
def test_other_movement_policies(folder, policy):
    args = {**sample.MODEL_ARGS, 'fov_size': [5, 5, 5], 'deltas': [1, 1, 1]}
    walk = WalkConfig(policy)
    assert train_loop.train(sample.train_config(folder, walk=walk, model_args=args)) == 6


def test_another_optimizer_goes_on_with_fresh_state(folder, caplog):
    train_loop.train(sample.train_config(folder, max_steps=2, optimizer=OptimizerConfig('adam')))
    before = checkpoints.read_variables(folder / 'model')
    caplog.clear()
    momentum = OptimizerConfig('momentum', 1e-30)
    assert train_loop.train(sample.train_config(folder, max_steps=4, optimizer=momentum)) == 4
    assert 'holds no state of the optimizer momentum' in caplog.text
    after = checkpoints.read_variables(folder / 'model')
    assert int(after['optimizer/000_iteration']) == 2
    assert int(after['global_step']) == 4
    key = 'seed_update/conv0_a/weights'
    np.testing.assert_array_equal(after[key], before[key])
    decaying = OptimizerConfig('momentum', 1e-30, decay_factor=0.5, decay_steps=2)
    caplog.clear()
    assert train_loop.train(sample.train_config(folder, max_steps=5, optimizer=decaying)) == 5
    assert 'starts afresh' not in caplog.text
    # Schedules go on where they were.
    rates = read_events(folder / 'model')['learning_rate']
    assert rates[5] == pytest.approx(1e-30 * 0.5**2)


def test_weights_that_are_not_finite_are_not_saved(folder):
    """The loss only shows them one step later."""
    train_loop.train(sample.train_config(folder, max_steps=2))
    far = OptimizerConfig('sgd', learning_rate=3e38 * 10)
    with pytest.raises(UserError, match=r'not finite after step 3; .* that of step 2'):
        train_loop.train(
            sample.train_config(
                folder, max_steps=9, optimizer=far, checkpoints=CheckpointConfig(steps=1)
            )
        )
    assert load_weights(make_model(), folder / 'model') == 2


def test_two_trainings_in_one_folder(folder):
    """The second one is refused, and writes nothing."""
    train_loop.train(sample.train_config(folder, max_steps=2))
    before = {path.name: path.read_bytes() for path in (folder / 'model').iterdir()}
    with exclusive_directory(folder / 'model'):
        with pytest.raises(UserError, match=r'another command works in .*model \(process \d+ on'):
            train_loop.train(sample.train_config(folder, max_steps=4))
    assert {path.name: path.read_bytes() for path in (folder / 'model').iterdir()} == before


def test_a_training_whose_folder_was_taken_saves_nothing(folder, monkeypatch):
    """As by one on another host, while this process was suspended."""
    train_loop.train(sample.train_config(folder, max_steps=2))
    lock, advance = folder / 'model' / '.lock', BatchWalker.advance

    def taken(self, logits):
        holder = {'host': '0', 'pid': 7, 'hostname': 'far', 'since': 'noon', 'token': 'other'}
        lock.write_text(json.dumps(holder))
        return advance(self, logits)

    monkeypatch.setattr(BatchWalker, 'advance', taken)
    with pytest.raises(UserError, match=r'\.lock was taken over by process 7 on far'):
        train_loop.train(sample.train_config(folder, max_steps=4))
    assert load_weights(make_model(), folder / 'model') == 2
    assert not list((folder / 'model').glob('*ckpt-4*'))


def test_the_next_training_removes_what_a_killed_one_left(folder):
    train_loop.train(sample.train_config(folder, max_steps=2))
    left = [
        'model.ckpt-3.data-00000-of-00001',
        'model.ckpt-4.input-00000-of-00001',
        f'.model.ckpt-4.input-00000-of-00001.{Process.this().host}-999999999-abcdefgh.tmp',
    ]
    for name in left:
        (folder / 'model' / name).write_bytes(b'half')
    atomic._clear_once.cache_clear()  # as in another process
    assert train_loop.train(sample.train_config(folder, max_steps=3)) == 3
    kept = {path.name for path in (folder / 'model').iterdir()}
    assert not kept & {left[1], left[2]}
    assert load_weights(make_model(), folder / 'model' / 'model.ckpt-3') == 3
