"""The residual stack: against its definition written out, sizes, names, mistakes."""

import numpy as np
import pytest
import tensorflow as tf

from ffn.models.model import create_model
from ffn.utils.errors import UserError

NAME = 'residual_stack.ResidualStackFFNModel'
ARGS = {'fov_size': [15, 13, 11], 'deltas': [1, 0, 0], 'depth': 1, 'features': 3}
FLAT = {'depth': 2, 'flat_stages': 2}


def make(**args):
    """The network with weights drawn at random, scales and biases as well."""
    model = create_model(NAME, {**ARGS, **args})
    rng = np.random.default_rng(0)
    for variable in model.named_variables().values():
        variable.assign(rng.normal(scale=0.4, size=variable.shape))
    return model


def by_hand(model, image, seed, depth=1, convs=2, padding='SAME'):
    """The network in plain TensorFlow; float32 [b, z, y, x, 1], the update."""
    variables = {n: np.asarray(v) for n, v in model.named_variables().items()}

    def conv(net, layer):
        weights, biases = (variables[f'seed_update/{layer}/{n}'] for n in ('weights', 'biases'))
        return tf.nn.conv3d(net, weights, [1] * 5, padding) + biases

    def norm(net, i):
        if f'seed_update/norm{i}/scale' not in variables:
            return net
        scale, biases = (variables[f'seed_update/norm{i}/{n}'] for n in ('scale', 'biases'))
        mean, variance = tf.nn.moments(net, -1, keepdims=True)
        return (net - mean) / tf.sqrt(variance + 1e-6) * scale + biases

    net = norm(conv(tf.concat([image, seed], -1), 'pre_a'), 0)
    for letter in 'bcd'[: convs - 1]:
        net = conv(tf.nn.relu(net), f'pre_{letter}')
    for i in range(depth):
        inner = norm(net, i + 1)
        for letter in 'abcd'[:convs]:
            inner = conv(tf.nn.relu(inner), f'res{i}{letter}')
        cut = [(a - b) // 2 for a, b in zip(net.shape[1:4], inner.shape[1:4])]
        z, y, x = (slice(c, n - c) for c, n in zip(cut, net.shape[1:4]))
        net = net[:, z, y, x] + inner
    return np.asarray(conv(tf.nn.relu(norm(net, depth + 1)), 'output'))


@pytest.mark.parametrize('changes', [
    {}, {'depth': 3, 'features': [4, 3, 5, 3, 2, 3, 6, 3]}, {'convs': 1}, {'convs': 3},
    {'layer_norm': False}, {'kernel': [5, 3, 1]}, FLAT,
    {'padding': 'valid'}, {'padding': 'valid', 'kernel': [3, 1, 5], 'deltas': [1, 1, 1], 'convs': 1},
    {'padding': 'valid', **FLAT},
])  # fmt: skip
def test_equals_its_definition(changes):
    model = make(**changes)
    rng = np.random.default_rng(1)
    image, seed = rng.normal(size=(2, 2, 11, 13, 15, 1)).astype(np.float32)
    known = {k: v for k, v in changes.items() if k in ('depth', 'convs')}
    update = by_hand(model, image, seed, **known, padding=changes.get('padding', 'same').upper())
    assert update.shape[1:4] == model.info.pred_mask_size.zyx
    expected = seed.copy()
    expected[:, *model.info.predicted] += update
    logits = np.asarray(model((image, seed), training=False))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(('changes', 'predicted'), [
    ({}, (15, 13, 11)), ({'padding': 'valid'}, (7, 5, 3)), ({'padding': 'valid', 'convs': 1}, (11, 9, 7)),
    ({'padding': 'valid', 'flat_stages': 1}, (7, 5, 7)), ({'padding': 'valid', **FLAT}, (3, 1, 7)),
    ({'padding': 'valid', 'flat_stages': 2, 'kernel': [5, 3, 3], 'convs': 1}, (7, 9, 11)),
])  # fmt: skip
def test_what_is_predicted(changes, predicted):
    info = create_model(NAME, {**ARGS, 'deltas': [0, 0, 0], **changes}).info
    assert info.pred_mask_size == predicted
    assert info.input_seed_size == info.input_image_size == (15, 13, 11)
    assert info.edge == tuple((n - p) // 2 for n, p in zip((15, 13, 11), predicted))


def test_names_and_first_weights():
    model = create_model(NAME, {**ARGS, 'flat_stages': 1, 'features': [4, 3, 5, 3]})
    model.initialize(np.random.default_rng(0))
    named = model.named_variables()
    shapes = {name.removeprefix('seed_update/'): tuple(v.shape) for name, v in named.items()}
    assert {n: s for n, s in shapes.items() if len(s) > 1} == {
        'pre_a/weights': (1, 3, 3, 2, 4), 'pre_b/weights': (1, 3, 3, 4, 3),
        'res0a/weights': (3, 3, 3, 3, 5), 'res0b/weights': (3, 3, 3, 5, 3),
        'output/weights': (1, 1, 1, 3, 1),
    }  # fmt: skip
    assert [shapes[f'norm{i}/scale'] for i in range(3)] == [(4,), (3,), (3,)]
    assert len(named) == 2 * 8
    for name, variable in named.items():
        value = np.asarray(variable)
        if name.endswith('scale'):
            assert (value == 1).all()
        else:
            assert value.any() == name.endswith('weights')
    # Gradients are named in this order.
    assert [id(v) for v in named.values()] == [id(v) for v in model.trainable_variables]


def test_without_normalization_it_is_the_network_of_the_papers():
    ours = make(layer_norm=False, depth=2)
    theirs = create_model('convstack_3d.ConvStack3DFFNModel', {**ARGS, 'depth': 3})
    names = {'pre_': 'conv0_', 'res0': 'conv1_', 'res1': 'conv2_', 'output': 'conv_lom'}
    variables = theirs.named_variables()
    for name, value in ours.named_variables().items():
        layer = name.split('/')[1]
        start = next(s for s in names if layer.startswith(s))
        variables[name.replace(start, names[start])].assign(value)
    batch = np.random.default_rng(1).normal(size=(2, 1, 11, 13, 15, 1)).astype(np.float32)
    np.testing.assert_allclose(ours(batch), theirs(batch), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(('args', 'words'), [
    ({'padding': 'full'}, ["padding is 'full'; expected same or valid"]),
    ({'padding': 'valid', 'depth': 3}, ['fov_size is x,y,z 15,13,11', 'take x,y,z 16,16,16']),
    ({'padding': 'valid', 'deltas': [3, 3, 1]}, ['deltas are x,y,z 3,3,1', 'predicted', 'x,y,z 7,5,3']),
    ({'layer_norm': 1}, ['layer_norm is 1; expected true or false']),
    ({'depth': 0}, ['depth is 0', '1 or more']), ({'depth': True}, ['depth is True']),
    ({'convs': 0}, ['convs is 0']), ({'convs': 27}, ['convs is 27', '1 to 26']),
    ({'flat_stages': -1}, ['flat_stages is -1']), ({'flat_stages': 3}, ['3', '2 stages']),
    ({'kernel': [3, 2, 3]}, ['kernel is x,y,z 3,2,3; expected odd']), ({'kernel': 3}, ['kernel', '3']),
    ({'features': [3, 3]}, ['features is [3, 3]', '4 convolutions of depth 1 with 2']),
    ({'features': [3, 4, 5, 6]}, ['6 is not 4']), ({'features': 2.5}, ['features is 2.5']),
])  # fmt: skip
def test_mistakes(args, words):
    with pytest.raises(UserError) as caught:
        create_model(NAME, {**ARGS, **args})
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message
