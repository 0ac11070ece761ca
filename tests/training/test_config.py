"""Settings of a training run: what is refused, and with which message."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffn.models.info import ModelInfo
from ffn.training.config import CheckpointConfig, DataConfig, TrainConfig, WalkConfig
from ffn.training.optimizer_config import OptimizerConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.utils.logits import logit
from ffn.utils.settings import all_settings

FOV, DELTAS = Xyz(11, 9, 7), Xyz(4, 3, 2)
INFO = ModelInfo(DELTAS, FOV, FOV, FOV)
DATA = {
    'train_coords': 'c',
    'data_volumes': {'v': 'a:b'},
    'label_volumes': {'v': 'a:c'},
    'image_mean': 128.0,
    'image_stddev': 33.0,
}
TWO = {
    **DATA,
    'data_volumes': {'v': 'a:b', 'w': 'a:c'},
    'label_volumes': {'v': 'a:d', 'w': 'a:e'},
}


UNSAID = {name: value for name, value in TWO.items() if not name.startswith('image_')}


def train_config(**kwargs):
    return TrainConfig(DataConfig(**DATA), WalkConfig(), OptimizerConfig(), 'm', {}, 'd', **kwargs)


@given(st.floats(0.001, 0.999))
def test_logit_is_the_inverse_of_the_sigmoid(probability):
    assert 1 / (1 + math.exp(-logit(probability))) == pytest.approx(probability)


def test_patches_are_the_fov_and_the_moves_in_both_directions():
    assert WalkConfig('no_step', fov_moves=0).patch_size(INFO) == Zyx(7, 9, 11)
    assert WalkConfig(fov_moves=2).patch_size(INFO) == Zyx(15, 21, 27)
    assert WalkConfig(fov_moves=2).eval_size(INFO) == Zyx(15, 21, 27)
    one_more = WalkConfig('max_pred_moves', fov_moves=2)
    assert one_more.patch_size(INFO) == Zyx(19, 27, 35)
    assert one_more.eval_size(INFO) == Zyx(15, 21, 27)


def test_a_volume_may_have_its_own_normalization():
    config = DataConfig(**DATA, offset_scale={'v': (100.0, 20.0)})
    assert config.normalization('v') == (100.0, 20.0)
    assert DataConfig(**DATA).normalization('v') == (128.0, 33.0)


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (
            lambda: WalkConfig(fov_policy='random'),
            ['random', 'fixed, window, max_pred_moves, no_step'],
        ),
        (lambda: WalkConfig('no_step', fov_moves=-1), ['fov_moves', '-1']),
        (lambda: WalkConfig(fov_moves=0), ['fov_moves', '1 or more', 'fixed']),
        (lambda: OptimizerConfig(momentum=2), ['momentum', '2']),
        (lambda: OptimizerConfig(rmsprop_decay=-0.1), ['rmsprop_decay', '-0.1']),
        (lambda: OptimizerConfig(epsilon=0), ['epsilon', '0']),
        (lambda: OptimizerConfig(unrolled_steps=0), ['unrolled_steps', '0']),
        (lambda: WalkConfig(seed_pad=0), ['seed_pad', '0', 'probability']),
        (lambda: WalkConfig(threshold=1.5), ['threshold', '1.5', 'probability']),
        (
            lambda: WalkConfig('max_pred_moves', threshold=0.96),
            ['threshold', '0.96', 'at most 0.95', 'never moves'],
        ),
        (lambda: OptimizerConfig('lamb'), ['lamb', 'sgd, momentum, adagrad, adam, adamw, rmsprop']),
        (lambda: OptimizerConfig(learning_rate=0), ['learning_rate', '0']),
        (lambda: OptimizerConfig(schedule='linear'), ['schedule', 'linear', 'exponential, cosine']),
        (lambda: OptimizerConfig(schedule='cosine'), ['cosine', 'decay_steps']),
        (lambda: OptimizerConfig(decay_factor=-1, decay_steps=2), ['decay_factor', '-1']),
        (lambda: OptimizerConfig(ema_decay=1), ['ema_decay', '1']),
        (lambda: OptimizerConfig(clip_value=-1), ['gradient_clip_value', '-1']),
        (lambda: OptimizerConfig(clip_norm=math.nan), ['gradient_clip_norm', 'nan']),
        (lambda: OptimizerConfig(warmup_steps=-2), ['warmup_steps', '-2']),
        (lambda: OptimizerConfig(weight_decay=-1), ['weight_decay', '-1']),
        (lambda: WalkConfig('window', fov_moves=0), ['fov_moves', 'window']),
        (lambda: WalkConfig(window_radius=-1), ['fov_window_radius', '-1']),
        (lambda: CheckpointConfig(steps=-1), ['checkpoint_steps', '-1']),
        (lambda: CheckpointConfig(keep=-1), ['keep_checkpoints', '-1']),
        (lambda: DataConfig(**DATA, volume_weights={'w': 1}), ['volume_weights', 'w']),
        (lambda: DataConfig(**DATA, volume_weights={'v': 0}), ['volume_weights', '0']),
        (lambda: DataConfig(**DATA, volume_weights={'v': math.inf}), ['volume_weights', 'inf']),
        (
            lambda: DataConfig(**DATA, loss_weight_volumes={'w': 'a:b'}),
            ['loss_weight_volumes', 'w'],
        ),
        (lambda: train_config(precision='half'), ['precision', 'half', 'bfloat16']),
        (lambda: train_config(voxel_size=(1, 0, 2)), ['voxel_size', '1,0,2']),
        (lambda: OptimizerConfig(learning_rate=math.nan), ['learning_rate', 'nan']),
        (lambda: OptimizerConfig(decay_steps=5), ['decay_factor', 'decay_steps']),
        (lambda: OptimizerConfig(decay_factor=0.5), ['decay_factor', 'decay_steps']),
        (lambda: OptimizerConfig(decay_factor=0.5, decay_steps=0), ['decay_steps', '0']),
        (lambda: DataConfig(**{**DATA, 'image_stddev': 0.0}), ['image_stddev', '0']),
        (lambda: DataConfig(**{**DATA, 'image_stddev': math.inf}), ['image_stddev', 'inf']),
        (lambda: DataConfig(**{**DATA, 'image_mean': math.nan}), ['image_mean', 'nan']),
        (lambda: DataConfig(**{**DATA, 'image_mean': -math.inf}), ['image_mean', '-inf']),
        (
            lambda: DataConfig(**UNSAID),
            ['--image_mean and --image_stddev are needed for v, w', '--image_offset_scale_map'],
        ),
        (
            lambda: DataConfig(**UNSAID, image_mean=3, offset_scale={'v': (1, 2)}),
            ['--image_mean and --image_stddev are needed for w,', '--image_offset_scale_map'],
        ),
        (
            lambda: DataConfig(**UNSAID, image_mean=3, offset_scale={'v': (1, 2), 'w': (3, 4)}),
            ['--image_mean and --image_stddev are needed together'],
        ),
        (
            lambda: DataConfig(**DATA, offset_scale={'v': (0, -1)}),
            ['image_offset_scale_map', "'v'", '-1'],
        ),
        (
            lambda: DataConfig(**DATA, offset_scale={'v': (math.nan, 1)}),
            ['image_offset_scale_map', "'v'", 'nan'],
        ),
        (lambda: CheckpointConfig(minutes=math.nan), ['checkpoint_minutes', 'nan']),
        (lambda: DataConfig(**DATA, permutable_axes=(1, 3)), ['permutable_axes', '1,3']),
        (lambda: DataConfig(**DATA, reflectable_axes=(1, 1)), ['reflectable_axes', '1,1']),
    ],
)
def test_mistakes(make, words):
    with pytest.raises(UserError) as caught:
        make()
    assert '\n' not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_volume_is_left_out_in_words_only():
    with pytest.raises(UserError, match=r'--volume_weights lacks w; .* w:0$'):
        DataConfig(**TWO, volume_weights={'v': 2.0})
    assert DataConfig(**TWO, volume_weights={'v': 2.0, 'w': 0.0}).volume_weights['w'] == 0
    assert not DataConfig(**TWO).volume_weights


@pytest.mark.parametrize('text', ['²', '1,٣²', '1' * 5000])
def test_axes_that_are_no_numbers(text):
    (setting,) = (one for one in all_settings(DataConfig) if one.flag == 'permutable_axes')
    with pytest.raises(UserError, match=r'--permutable_axes is .*expected indices'):
        setting.read(text.split(','))


@pytest.mark.parametrize('field', ['batch_size', 'max_steps'])
def test_runs_of_nothing(field):
    with pytest.raises(UserError, match=f'{field} is 0'):
        TrainConfig(DataConfig(**DATA), WalkConfig(), OptimizerConfig(), 'm', {}, 'd', **{field: 0})


def test_permutable_axes_must_be_of_equal_size():
    def config(axes):
        return TrainConfig(
            DataConfig(**DATA, permutable_axes=axes), WalkConfig(), OptimizerConfig(), 'm', {}, 'd'
        )

    config(()).check_model(INFO)
    config((0,)).check_model(INFO)
    with pytest.raises(UserError, match='FOV sizes: z,y,x 7,9,11'):
        config((0, 2)).check_model(INFO)
    square = dataclasses.replace(INFO, input_image_size=Xyz(9, 9, 7))
    with pytest.raises(UserError, match='deltas: z,y,x 2,3,4'):
        config((1, 2)).check_model(square)
    config((1, 2)).check_model(dataclasses.replace(square, deltas=Xyz(3, 3, 2)))


def test_seeds_are_not_negative():
    with pytest.raises(UserError, match='--seed is -1'):
        TrainConfig(DataConfig(**DATA), WalkConfig(), OptimizerConfig(), 'm', {}, 'd', seed=-1)


def test_volumes_with_a_mean_and_stddev_of_their_own_need_no_others():
    both = DataConfig(**UNSAID, offset_scale={'v': (1, 2), 'w': (3, 4)})
    assert both.normalization('w') == (3, 4)
    # Of a volume that is left out, nothing is read.
    one = DataConfig(**UNSAID, offset_scale={'v': (1, 2)}, volume_weights={'v': 1, 'w': 0})
    assert one.normalization('v') == (1, 2)
    assert DataConfig(**TWO, offset_scale={'v': (0, 2)}).normalization('v') == (0, 2)
    assert DataConfig(**TWO, offset_scale={'v': (0, 2)}).normalization('w') == (128, 33)
