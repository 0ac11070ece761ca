"""The training step: optimizers, clipping, averages, precision, loss scaling, learning rates."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from ffn.models import checkpoints
from ffn.models.model import create_model
from ffn.models.weights import load_weights
from ffn.training import train_step
from ffn.training.optimizer import learning_rate, make_optimizer
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.train_step import TrainStep
from ffn.training.walks.walk import Batch
from tests.loaded import run_loaded

MODEL = 'convstack_3d.ConvStack3DFFNModel'
ARGS = {'depth': 2, 'features': 4, 'fov_size': [7, 5, 5], 'deltas': [1, 1, 1]}
LAST = 'seed_update/conv_lom/weights'


def make_model(precision='float32', seed=1):
    model = create_model(MODEL, ARGS, precision)
    model.initialize(np.random.default_rng(seed))
    return model


def make_batch(seed=1, size=4):
    """Labels that the image gives away."""
    rng = np.random.default_rng(seed)
    shape = (size, 5, 5, 7, 1)
    image = rng.normal(size=shape).astype(np.float32)
    labels = np.where(image > 0.3, np.float32(0.95), np.float32(0.05))
    seeds = np.full(shape, -2, np.float32)
    return Batch(image, seeds, labels, np.ones(shape, np.float32))


def values(variables):
    return {name: np.asarray(variable).copy() for name, variable in variables.items()}


def check_equal(found, expected, **tolerance):
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


def norm(gradients):
    return math.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in gradients.values()))


OPTIMIZERS = ['sgd', 'momentum', 'adagrad', 'adam', 'adamw', 'rmsprop']


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_weights_follow_the_gradients_that_are_given_back(name):
    config = OptimizerConfig(name, learning_rate=0.05, weight_decay=0.3)
    model = make_model()
    step = TrainStep(model, config)
    followers = {n: keras.Variable(v) for n, v in values(model.named_variables()).items()}
    optimizer = make_optimizer(config)
    optimizer.build(list(followers.values()))
    for i in range(3):
        gradients = step(make_batch(i), want_gradients=True).gradients
        assert list(gradients) == list(followers)
        optimizer.apply(
            [keras.ops.convert_to_tensor(g) for g in gradients.values()], list(followers.values())
        )
        check_equal(values(model.named_variables()), values(followers), rtol=1e-5, atol=1e-7)


def test_adamw_is_adam_with_weights_that_shrink():
    """Loshchilov and Hutter, arXiv:1711.05101, algorithm 2."""
    rate, decay, epsilon, beta = 0.05, 0.3, 1e-8, (0.9, 0.999)
    model = make_model()
    step = TrainStep(model, OptimizerConfig('adamw', rate, weight_decay=decay))
    expected = {n: v.astype(np.float64) for n, v in values(model.named_variables()).items()}
    means = {name: [0.0, 0.0] for name in expected}
    for i in range(1, 4):
        gradients = step(make_batch(i), want_gradients=True).gradients
        corrected = rate * math.sqrt(1 - beta[1] ** i) / (1 - beta[0] ** i)
        for name, g in gradients.items():
            means[name] = [b * m + (1 - b) * g**k for m, b, k in zip(means[name], beta, (1, 2))]
            expected[name] -= rate * decay * expected[name]
            expected[name] -= corrected * means[name][0] / (np.sqrt(means[name][1]) + epsilon)
    check_equal(values(model.named_variables()), expected, rtol=1e-3, atol=1e-5)


def clipped_gradients(**clip):
    step = TrainStep(make_model(), OptimizerConfig('sgd', 1e-3, **clip))
    return step(make_batch(), want_gradients=True).gradients


def test_the_norm_is_limited_after_each_entry():
    free = clipped_gradients(clip_value=0)
    limit = 0.3 * max(np.abs(g).max() for g in free.values())
    by_value = clipped_gradients(clip_value=limit)
    check_equal(by_value, {n: np.clip(g, -limit, limit) for n, g in free.items()}, rtol=1e-4)
    assert norm(by_value) < norm(free)
    most = 0.5 * norm(by_value)
    both = clipped_gradients(clip_value=limit, clip_norm=most)
    assert norm(both) == pytest.approx(most, rel=1e-4)
    check_equal(both, {n: g * 0.5 for n, g in by_value.items()}, rtol=1e-3, atol=1e-7)
    check_equal(clipped_gradients(clip_value=limit, clip_norm=2 * norm(free)), by_value, rtol=1e-5)


def test_a_norm_of_its_own():
    free = clipped_gradients(clip_value=0)
    clipped = clipped_gradients(clip_value=0, clip_norm=0.1 * norm(free))
    check_equal(clipped, {n: g * 0.1 for n, g in free.items()}, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize('passes', [1, 3])
def test_passes_follow_each_other_and_gradients_go_through_all(passes):
    model, batch = make_model(), make_batch()
    with tf.GradientTape() as tape:
        logits, losses = [tf.constant(batch.seeds)], []
        for _ in range(passes):
            logits.append(model((batch.images, logits[-1])))
            losses.append(tf.nn.sigmoid_cross_entropy_with_logits(batch.labels, logits[-1]))
        loss = sum(tf.reduce_mean(each) for each in losses) / passes
    expected = tape.gradient(loss, model.trainable_variables)
    result = TrainStep(model, OptimizerConfig('sgd', 1e-3, clip_value=0, unrolled_steps=passes))(
        batch, want_gradients=True
    )
    assert result.loss == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(result.logits, logits[1], rtol=1e-4, atol=1e-5)
    for found, gradient in zip(result.gradients.values(), expected, strict=True):
        np.testing.assert_allclose(found, gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('decay', [0.3, 0.999])
def test_averages_follow_the_weights(decay):
    model = make_model()
    step = TrainStep(model, OptimizerConfig('sgd', 2.0, ema_decay=decay))
    expected = values(model.named_variables())
    assert list(step.averages()) == [f'ema/{name}' for name in expected]
    check_equal(values(step.averages()), {f'ema/{n}': v for n, v in expected.items()}, atol=0)
    for n in range(1, 8):
        step(make_batch(n))
        keep = min(decay, n / (n + 9))
        for name, value in values(model.named_variables()).items():
            expected[name] = keep * expected[name] + (1 - keep) * value
        averages = values(step.averages())
        check_equal(averages, {f'ema/{n}': v for n, v in expected.items()}, rtol=1e-4, atol=1e-6)
    assert np.abs(averages[f'ema/{LAST}'] - values(model.named_variables())[LAST]).max() > 1e-3


def test_averages_are_saved_and_loaded(tmp_path):
    model = make_model()
    step = TrainStep(model, OptimizerConfig('sgd', 2.0, ema_decay=0.9))
    for n in range(3):
        step(make_batch(n))
    checkpoints.CheckpointWriter(tmp_path).save(step.weights(), 3)
    other = make_model(seed=5)
    load_weights(other, tmp_path, ema=True)
    averages = values(step.averages())
    found = values(other.named_variables())
    check_equal({f'ema/{n}': v for n, v in found.items()}, averages, atol=0)
    load_weights(other, tmp_path)
    check_equal(values(other.named_variables()), values(model.named_variables()), atol=0)


def test_averages_begin_where_they_are_told():
    model = make_model()
    step = TrainStep(model, OptimizerConfig('sgd', ema_decay=0.9))
    other = values(make_model(seed=5).named_variables())
    for name, variable in model.named_variables().items():
        variable.assign(other[name])
    step.start_averages()
    check_equal(values(step.averages()), {f'ema/{n}': v for n, v in other.items()}, atol=0)


def test_without_averages_there_are_none():
    step = TrainStep(make_model(), OptimizerConfig())
    step.start_averages()
    assert step.averages() == {}
    assert list(step.weights()) == list(step.model.named_variables())


def train_losses(precision, count=30):
    step = TrainStep(
        make_model(precision),
        OptimizerConfig('adam', 0.02),
        loss_scaling=precision == 'mixed_float16',
    )
    batch = make_batch(size=8)
    results = [step(batch) for _ in range(count)]
    for variables in (step.model.named_variables(), step.optimizer_state()):
        assert all('float16' not in v.dtype for v in variables.values())
    assert results[-1].logits.dtype == np.float32
    return np.array([result.loss for result in results])


@pytest.mark.parametrize('precision', ['mixed_bfloat16', 'mixed_float16'])
def test_low_precision_learns_almost_as_well(precision):
    exact, low = train_losses('float32'), train_losses(precision)
    assert exact[-1] < 0.55 * exact[0]
    assert low[0] == pytest.approx(exact[0], rel=0.02)
    assert low[-1] == pytest.approx(exact[-1], rel=0.1)
    assert not np.array_equal(low, exact)


def half_step():
    return TrainStep(make_model('mixed_float16'), OptimizerConfig('sgd', 0.1), loss_scaling=True)


def read_scale(step):
    return float(np.asarray(step.optimizer_state()['optimizer/loss_scale']))


def test_gradients_do_not_depend_on_the_scale_of_the_loss():
    step = TrainStep(make_model('mixed_float16'), OptimizerConfig('sgd', 0.1))
    plain = step(make_batch(), want_gradients=True)
    step = half_step()
    scaled = step(make_batch(), want_gradients=True)
    assert scaled.loss == pytest.approx(plain.loss, rel=1e-5)
    check_equal(scaled.gradients, plain.gradients, rtol=0.02, atol=1e-4)


def test_small_gradients_survive_in_float16():
    """They are below the least number of float16, 6e-8, without the scale."""
    small = make_batch()._replace(weights=np.full((4, 5, 5, 7, 1), 1e-5, np.float32))
    unscaled = TrainStep(make_model('mixed_float16'), OptimizerConfig('sgd'))
    name = 'seed_update/conv0_a/weights'
    lost = unscaled(small, want_gradients=True).gradients[name]
    kept = half_step()(small, want_gradients=True).gradients[name]
    exact = TrainStep(make_model(), OptimizerConfig('sgd'))(small, want_gradients=True)
    exact = exact.gradients[name]
    assert np.abs(lost - exact).max() > 0.3 * np.abs(exact).max()
    np.testing.assert_allclose(kept, exact, atol=0.06 * np.abs(exact).max())


def test_a_step_that_overflows_changes_nothing_but_the_scale():
    step = half_step()
    before, scale = values(step.model.named_variables()), read_scale(step)
    huge = make_batch()._replace(weights=np.full((4, 5, 5, 7, 1), 1e20, np.float32))
    for times in (1, 2):
        result = step(huge, want_gradients=True)
        assert np.isfinite(result.loss)
        assert all((gradient == 0).all() for gradient in result.gradients.values())
        check_equal(values(step.model.named_variables()), before, atol=0)
        assert read_scale(step) == scale / 2**times
    step(make_batch())
    assert read_scale(step) == scale / 4
    after = values(step.model.named_variables())
    assert np.abs(after[LAST] - before[LAST]).max() > 1e-4


def test_the_scale_grows_after_many_good_steps(monkeypatch):
    monkeypatch.setattr(train_step, '_GROW_AFTER', 3)
    step = half_step()
    first = read_scale(step)
    huge = make_batch()._replace(weights=np.full((4, 5, 5, 7, 1), 1e20, np.float32))
    scales = []
    for batch in [make_batch()] + [huge] + [make_batch()] * 7:
        step(batch)
        scales.append(read_scale(step) / first)
    assert scales == [1, 0.5, 0.5, 0.5, 1, 1, 1, 2, 2]
    assert int(step.optimizer_state()['optimizer/loss_scale_good_steps']) == 1


def test_the_scale_does_not_fall_below_one(monkeypatch):
    monkeypatch.setattr(train_step, '_FIRST_SCALE', 2.0)
    step = half_step()
    huge = make_batch()._replace(weights=np.full((4, 5, 5, 7, 1), 1e30, np.float32))
    for _ in range(3):
        step(huge)
    assert read_scale(step) == 1


def test_votes_come_back():
    step = TrainStep(make_model(), OptimizerConfig())
    assert step(make_batch()).votes.tolist() == [0, 0, 0]
    assert step(make_batch(), votes=(True, False, 2)).votes.tolist() == [1, 0, 2]


def test_gradients_come_if_wanted_and_change_nothing():
    steps = [TrainStep(make_model(), OptimizerConfig('sgd', 0.1)) for _ in range(2)]
    assert steps[0](make_batch()).gradients == {}
    assert steps[1](make_batch(), want_gradients=True).gradients
    one, other = (values(step.model.named_variables()) for step in steps)
    check_equal(one, other, atol=1e-7)


def test_state_has_the_same_names_in_every_run():
    config = OptimizerConfig('momentum', 0.01, decay_factor=0.5, decay_steps=2, ema_decay=0.9)
    for _ in range(2):  # Keras counts the networks of a process
        step = TrainStep(make_model('mixed_float16'), config, loss_scaling=True)
        weights = len(step.model.named_variables())
        assert list(step.optimizer_state()) == [
            'optimizer/000_iteration',
            *(f'optimizer/{i:03d}_momentum' for i in range(1, weights + 1)),
            'optimizer/loss_scale',
            'optimizer/loss_scale_good_steps',
        ]
    plain = TrainStep(make_model(), OptimizerConfig())
    assert list(plain.optimizer_state()) == ['optimizer/000_iteration']


def exponential(step, factor, steps):
    return factor ** (step // steps)


def cosine(step, last, steps):
    part = min(step / steps, 1)
    return last + (1 - last) * (1 + math.cos(math.pi * part)) / 2


SCHEDULES = [
    ({}, lambda step: 1),
    ({'decay_factor': 0.5, 'decay_steps': 4}, lambda step: exponential(step, 0.5, 4)),
    ({'schedule': 'cosine', 'decay_steps': 10}, lambda step: cosine(step, 0, 10)),
    (
        {'schedule': 'cosine', 'decay_steps': 10, 'decay_factor': 0.2},
        lambda step: cosine(step, 0.2, 10),
    ),
]


@pytest.mark.parametrize(('config', 'factor'), SCHEDULES)
@pytest.mark.parametrize('warmup', [0, 1, 6])
def test_learning_rates(config, factor, warmup):
    schedule = learning_rate(OptimizerConfig(learning_rate=0.3, warmup_steps=warmup, **config))
    for step in range(15):
        rate = float(schedule(step)) if callable(schedule) else schedule
        rise = min((step + 1) / warmup, 1) if warmup else 1
        assert rate == pytest.approx(0.3 * factor(step) * rise, rel=1e-5, abs=1e-9)


def test_steps_follow_the_learning_rate():
    config = OptimizerConfig(
        'sgd', learning_rate=0.4, schedule='cosine', decay_steps=5, warmup_steps=3
    )
    step = TrainStep(make_model(), config)
    for i in range(7):
        rate = 0.4 * cosine(i, 0, 5) * min((i + 1) / 3, 1)
        assert step.learning_rate == pytest.approx(rate, rel=1e-5, abs=1e-9)
        before = values(step.model.named_variables())
        gradients = step(make_batch(i), want_gradients=True).gradients
        expected = {name: before[name] - rate * g for name, g in gradients.items()}
        check_equal(values(step.model.named_variables()), expected, atol=1e-6)


REPLICAS = """
import itertools, json, sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from ffn.training.distribution import Replicas
from ffn.training.optimizer_config import OptimizerConfig
from ffn.training.train_step import TrainStep
from tests.training.test_train_step import make_batch, make_model, values
strategies = [tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])]
found = []
for strategy in strategies:
    replicas = Replicas(strategy)
    with strategy.scope():
        model = make_model('mixed_float16')
    config = OptimizerConfig('momentum', 0.1, ema_decay=0.9, clip_norm=0.2)
    step = TrainStep(model, config, replicas, loss_scaling=True)
    results = [step(make_batch(i), i == 2, (i, 0, 1)) for i in range(3)]
    huge = make_batch()
    huge.weights[0] = 1e20  # in the first replica alone
    step(huge)
    variables = values({**step.weights(), **step.optimizer_state()})
    found.append({
        'replicas': replicas.total,
        'loss': [r.loss for r in results], 'votes': [r.votes.tolist() for r in results],
        'logits': [r.logits.ravel().tolist() for r in results],
        **{n: v.ravel().tolist() for n, v in (results[-1].gradients | variables).items()},
    })
json.dump(found, sys.stdout)
"""


def test_two_replicas_make_the_step_of_one_with_the_batch_of_both(repository):
    done = run_loaded(repository, '-c', REPLICAS, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout)
    assert [one.pop('replicas'), two.pop('replicas')] == [1, 2]
    check_equal(two, one, rtol=0.02, atol=2e-4)
    assert one['votes'] == [[0, 0, 1], [1, 0, 1], [2, 0, 1]]
    assert one['optimizer/loss_scale'] == [2.0**14]
