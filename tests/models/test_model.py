"""Networks: sizes, names of variables, precision, and how they are found by name."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ffn.models.info import ModelInfo, check_sizes
from ffn.models.model import FFNModel, create_model, model_class
from ffn.training import models as training_models
from ffn.utils import trust
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

NAME = 'convstack_3d.ConvStack3DFFNModel'
ARGS = {'fov_size': [11, 9, 7], 'deltas': [4, 3, 2], 'depth': 3, 'features': 5}


class SmallMaskModel(FFNModel):
    """Changes less than it sees, by the mean of the image."""

    def __init__(self):
        fov = Xyz(9, 7, 5)
        super().__init__(ModelInfo(Xyz(1, 1, 0), Xyz(5, 3, 1), fov, fov))
        self.finish()

    def update(self, image, seed):
        mean = keras.ops.mean(image, axis=(1, 2, 3), keepdims=True)
        return mean + keras.ops.zeros((1, 1, 3, 5, 1))


def batch(rng, model, size=2):
    shape = (size, *model.info.input_image_size.zyx, 1)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(2)]


def by_hand(variables, image, seed, depth):
    """The same network in plain TensorFlow, from its checkpoint variables."""

    def conv(net, layer):
        weights, biases = (
            np.asarray(variables[f'seed_update/{layer}/{n}']) for n in ('weights', 'biases')
        )
        return tf.nn.conv3d(net, weights, [1] * 5, 'SAME') + biases

    net = conv(tf.nn.relu(conv(tf.concat([image, seed], -1), 'conv0_a')), 'conv0_b')
    for i in range(1, depth):
        net += conv(tf.nn.relu(conv(tf.nn.relu(net), f'conv{i}_a')), f'conv{i}_b')
    return seed + conv(tf.nn.relu(net), 'conv_lom')


def test_names_and_shapes_of_variables():
    model = create_model(NAME, {**ARGS, 'features': [4, 6, 3, 6, 5, 6]})
    shapes = {name: tuple(v.shape) for name, v in model.named_variables().items()}
    widths = {'conv0_a': (2, 4), 'conv0_b': (4, 6), 'conv1_a': (6, 3), 'conv1_b': (3, 6),
              'conv2_a': (6, 5), 'conv2_b': (5, 6)}  # fmt: skip
    expected = {f'seed_update/{n}/weights': (3, 3, 3, *w) for n, w in widths.items()}
    expected |= {f'seed_update/{n}/biases': w[1:] for n, w in widths.items()}
    expected |= {
        'seed_update/conv_lom/weights': (1, 1, 1, 6, 1),
        'seed_update/conv_lom/biases': (1,),
    }
    assert shapes == expected


def test_defaults_are_depth_9_and_32_features():
    variables = create_model(NAME, {'fov_size': [5, 5, 5], 'deltas': [1, 1, 1]}).named_variables()
    assert len(variables) == 2 * (2 * 9 + 1)
    assert tuple(variables['seed_update/conv8_b/weights'].shape) == (3, 3, 3, 32, 32)


def test_step_equals_the_convolutions_written_out():
    rng = np.random.default_rng(0)
    model = create_model(NAME, ARGS)
    for variable in model.named_variables().values():
        variable.assign(rng.normal(scale=0.2, size=variable.shape))
    image, seed = batch(rng, model)
    logits = np.asarray(model((image, seed), training=False))
    assert logits.shape == (2, 7, 9, 11, 1)
    assert logits.dtype == np.float32
    expected = by_hand(model.named_variables(), image, seed, depth=3)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_first_weights_are_glorot_uniform_without_bias_and_depend_on_the_generator():
    drawn = []
    for seed in (1, 1, 2):
        model = create_model(NAME, {**ARGS, 'features': 16})
        model.initialize(np.random.default_rng(seed))
        drawn.append({name: np.asarray(v) for name, v in model.named_variables().items()})
    for name, values in drawn[0].items():
        np.testing.assert_array_equal(values, drawn[1][name])
        if name.endswith('biases'):
            assert not values.any()
            continue
        assert not np.array_equal(values, drawn[2][name])
        *kernel, inputs, outputs = values.shape
        limit = np.sqrt(6 / (np.prod(kernel) * (inputs + outputs)))
        assert np.abs(values).max() <= limit
        if values.size > 500:
            assert np.abs(values).max() > 0.95 * limit
            assert values.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)


@pytest.fixture
def trusted():
    with trust.only(trust.Trust(frozenset({__name__}))):
        yield


@pytest.mark.usefixtures('trusted')
def test_smaller_output_changes_the_centre_of_the_seed_only():
    model = create_model(f'{__name__}.SmallMaskModel', {})
    seed = np.arange(5 * 7 * 9, dtype=np.float32).reshape(1, 5, 7, 9, 1)
    image = np.full_like(seed, 2.5)
    change = np.asarray(model((image, seed), training=False)) - seed
    expected = np.zeros_like(seed)
    expected[:, 2:3, 2:5, 2:7] = 2.5
    np.testing.assert_allclose(change, expected, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'args', 'words'),
    [
        ('convstack_3d.Missing', ARGS, ['convstack_3d.Missing', NAME]),
        (
            'nothing.Here',
            ARGS,
            ['nothing.Here', NAME, 'ffn.models.networks', 'ffn.training.models'],
        ),
        ('nodots', ARGS, ['nodots', NAME]),
        ('no.such.package.Model', ARGS, ['no.such.package.Model', NAME, '--allow_module=no']),
        ('ffn.such.package.Model', ARGS, ['ffn.such.package.Model', NAME]),
        ('ffn.utils.geometry.Xyz', {}, ['ffn.utils.geometry.Xyz', 'FFNModel']),
        (NAME, {'fov_size': [9, 9, 9]}, ['deltas']),
        (NAME, {**ARGS, 'fov': 3}, ["'fov'", 'fov_size', 'features']),
        (NAME, {**ARGS, 'fov_size': [11, 8, 7]}, ['11,8,7', 'odd']),
        (NAME, {**ARGS, 'fov_size': [11, 9]}, ['fov_size', '11,9']),
        (NAME, {**ARGS, 'fov_size': 11}, ['fov_size', '11']),
        (NAME, {**ARGS, 'fov_size': [11.5, 9, 7]}, ['fov_size', '11.5']),
        (NAME, {**ARGS, 'deltas': [4, 5, 2]}, ['4,5,2', '11,9,7']),
        (NAME, {**ARGS, 'deltas': [4, -1, 2]}, ['4,-1,2']),
        (NAME, {**ARGS, 'depth': 0}, ['depth', '0']),
        (NAME, {**ARGS, 'depth': '3'}, ['depth', "'3'"]),
        (NAME, {**ARGS, 'depth': 3.0}, ['depth', '3.0']),
        (NAME, {**ARGS, 'features': 0}, ['features', '0']),
        (NAME, {**ARGS, 'features': '32'}, ['features', '32']),
        (NAME, {**ARGS, 'features': 2.5}, ['features', '2.5']),
        (NAME, {**ARGS, 'features': [4, 4, 4]}, ['features', '6 convolutions']),
        (NAME, {**ARGS, 'features': [4, 6, 4, 6, 4, 5]}, ['features', '6', '5']),
    ],
)
def test_mistakes(name, args, words):
    with pytest.raises(UserError) as caught:
        create_model(name, args)
    message = str(caught.value)
    assert '\n' not in message
    for word in words:
        assert word in message


@pytest.mark.usefixtures('trusted')
def test_a_class_by_its_full_name():
    assert model_class(f'{__name__}.SmallMaskModel') is SmallMaskModel
    assert model_class(f'ffn.training.models.{NAME}') is model_class(NAME)


OWN = '''
from ffn.models.model import FFNModel

class {name}(FFNModel):
    """A user's network."""
'''


def test_a_network_of_a_user_in_the_folder_of_earlier_installations(tmp_path, monkeypatch):
    (tmp_path / 'own_net.py').write_text(OWN.format(name='OwnModel'))
    # Whoever changed our network there and kept its name gets ours.
    (tmp_path / 'residual_stack.py').write_text(OWN.format(name='ResidualStackFFNModel'))
    monkeypatch.setattr(training_models, '__path__', [str(tmp_path)])
    found = model_class('own_net.OwnModel')
    assert found is model_class('ffn.training.models.own_net.OwnModel')
    assert found.__doc__ == "A user's network."
    name = 'residual_stack.ResidualStackFFNModel'
    assert model_class(name) is model_class(f'ffn.models.networks.{name}')
    with pytest.raises(UserError, match='Missing'):
        model_class('own_net.Missing')


class EvenModel(FFNModel):
    """A user's network without a centre voxel."""

    def __init__(self):
        even = Xyz(4, 5, 5)
        super().__init__(ModelInfo(Xyz(1, 1, 1), even, even, even))


@pytest.mark.usefixtures('trusted')
def test_a_network_of_a_user_needs_a_centre():
    with pytest.raises(UserError, match='4,5,5; expected odd sizes'):
        create_model(f'{__name__}.EvenModel', {})


@pytest.mark.parametrize(
    ('deltas', 'predicted', 'message'),
    [
        ((1, 1, 0), (5, 4, 1), 'pred_mask_size is x,y,z 5,4,1; expected odd sizes within'),
        ((1, 1, 0), (5, 9, 1), 'pred_mask_size is x,y,z 5,9,1; expected odd sizes within'),
        ((3, 1, 0), (5, 3, 1), 'deltas are x,y,z 3,1,0; .* predicted .* x,y,z 5,3,1'),
    ],
)
def test_what_is_predicted_has_a_centre_and_room_for_moves(deltas, predicted, message):
    fov = Xyz(9, 7, 5)
    with pytest.raises(UserError, match=message):
        check_sizes(ModelInfo(Xyz(*deltas), Xyz(*predicted), fov, fov))
