"""`ffn import-weights`: which network it sees in parameters of Flax, and what it refuses."""

import json

import h5py
import numpy as np
import pytest

from ffn.cli import import_weights, infer
from ffn.models.flax_weights import MODEL
from ffn.models.predictor import load_model
from ffn.models.saved_settings import read_settings
from ffn.models.trained_settings import read_trained_settings
from tests.inference.results import whole_result
from tests.models.flax_files import parameters, under, write_flax, write_orbax
from tests.models.small_network import refused, values

FOV = ('--fov_size=9,11,13', '--deltas=1,2,3')


def run(tmp_path, path, *flags):
    output = tmp_path / 'my.weights.h5'
    import_weights.main([f'--checkpoint={path}', f'--output={output}', *FOV, *flags])
    return str(output)


def load(output):
    trained = read_trained_settings(output)
    return load_model(trained.model_name, json.loads(trained.model_args), output)


def in_flax(model):
    """The weights of a network by the names that Flax has for them."""
    kinds = {'weights': 'kernel', 'biases': 'bias', 'scale': 'scale'}
    found = {}
    for name, value in values(model).items():
        _, layer, kind = name.split('/')
        found[f'{layer.replace("norm", "LayerNorm_")}/{kinds[kind]}'] = value
    return found


@pytest.mark.parametrize(('changes', 'expected'), [
    ({}, {}), ({'depth': 3, 'features': 2}, {'depth': 3, 'features': 2}), ({'convs': 1}, {'convs': 1}),
    ({'convs': 3}, {'convs': 3}), ({'layer_norm': False}, {'layer_norm': False}),
    ({'kernel_zyx': (1, 3, 5)}, {'kernel': [5, 3, 1]}), ({'depth': 11}, {'depth': 11}),
])  # fmt: skip
def test_the_network_that_is_seen(tmp_path, changes, expected):
    arrays = parameters(**changes)
    output = run(tmp_path, write_flax(tmp_path / 'saved', under('params', arrays)))
    args = read_settings(output)['model_args']
    sizes = {'depth': 1, 'features': 3, 'convs': 2, 'kernel': [3, 3, 3], 'layer_norm': True}
    assert args == {
        'fov_size': [9, 11, 13],
        'deltas': [1, 2, 3],
        'padding': 'same',
        **sizes,
        **expected,
    }
    found = in_flax(load(output))
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_features_by_layer(tmp_path):
    arrays = parameters()
    for name, shape in {
        'pre_a/kernel': (3, 3, 3, 2, 5), 'pre_a/bias': (5,), 'pre_b/kernel': (3, 3, 3, 5, 3),
        'LayerNorm_0/scale': (5,), 'LayerNorm_0/bias': (5,),
        'res0a/kernel': (3, 3, 3, 3, 4), 'res0a/bias': (4,), 'res0b/kernel': (3, 3, 3, 4, 3),
    }.items():  # fmt: skip
        arrays[name] = np.ones(shape, np.float32)
    output = run(tmp_path, write_orbax(tmp_path / 'saved', arrays))
    assert read_settings(output)['model_args']['features'] == [5, 3, 4, 3]
    assert load(output).count_params() == sum(array.size for array in arrays.values())


@pytest.mark.parametrize('name', ['saved', '2000'])
def test_numbered_layers_in_a_training_state(tmp_path, name, capsys):
    arrays = parameters(numbered=True)
    others = {key: value + 1 for key, value in arrays.items()}
    state = {**under('params', arrays), **under('opt_state/0/mu', others), 'step': np.array(1234)}
    path = write_orbax(tmp_path / name, under('state', state) if name == '2000' else state)
    output = run(tmp_path, path, '--padding=valid', '--deltas=0,0,0', '--fov_size=11,13,15')
    step = 1234 if name == 'saved' else 2000  # where it is the name that tells it
    assert read_settings(output)['step'] == step
    assert f'step {step}' in capsys.readouterr().out
    model = load(output)
    assert model.info.pred_mask_size == (3, 5, 7)
    for key, value in in_flax(model).items():
        (theirs,) = (n for n in arrays if n.split(':')[-1] == key)
        np.testing.assert_array_equal(value, arrays[theirs])


def test_several_sets_of_parameters(tmp_path):
    sets = {name: parameters(seed=n) for n, name in enumerate(('best', 'ema_params'))}
    path = tmp_path / 'saved'
    write_flax(path, under('best', sets['best']) | under('ema_params', sets['ema_params']))
    with refused(
        f'{path} has the sets of parameters best, ema_params; give one of them as --params'
    ):
        run(tmp_path, path)
    with refused('has the sets of parameters best, ema_params'):
        run(tmp_path, path, '--params=params')
    for name, arrays in sets.items():
        found = in_flax(load(run(tmp_path, path, f'--params={name}')))
        np.testing.assert_array_equal(found['pre_a/kernel'], arrays['pre_a/kernel'])


def test_settings(tmp_path, capsys):
    path = write_flax(tmp_path / 'saved', parameters())
    output = run(tmp_path, path, '--image_mean=128', '--image_stddev=33', '--seed_pad=0.5')
    assert 'set it: init_activation, threshold, voxel_size' in capsys.readouterr().out
    assert 'step' not in read_settings(output)
    flags = ('--image_mean=1', '--image_stddev=2', '--init_activation=0.9', '--seed_pad=0.1')
    output = run(tmp_path, path, *flags, '--threshold=0.6', '--voxel_size=8,8,30')
    assert 'not stored' not in capsys.readouterr().out
    trained = read_trained_settings(output)
    assert trained.model_name == MODEL
    assert (trained.image_mean, trained.image_stddev, trained.init_activation) == (1, 2, 0.9)
    assert (trained.seed_pad, trained.threshold, trained.voxel_size) == (0.1, 0.6, (8, 8, 30))


def without(name):
    return lambda arrays: arrays.pop(name)


def reshaped(name, shape):
    return lambda arrays: arrays.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(('change', 'words'), [
    (without('res0b/kernel'), ['no parameter params/res0b/kernel', '1 modules of 2']),
    (without('res0b/bias'), ['no parameter for res0b/biases', 'depth 1']),
    (without('LayerNorm_1/scale'), ['no parameter for norm1/scale', 'with layer norm']),
    (without('output/kernel'), ['no parameter for output/weights']),
    (without('pre_a/kernel'), ['no parameter pre_a/kernel', 'it has params/LayerNorm_0/bias', '…']),
    (reshaped('res2a/kernel', (3,) * 5), ['no parameter params/res1a/kernel']),
    (reshaped('LayerNorm_3/scale', (3,)), ['params/LayerNorm_3/scale', 'does not have']),
    (reshaped('BatchNorm_0/mean', (3,)), ['params/BatchNorm_0/mean', 'another network']),
    (reshaped('res0_a/kernel', (3,) * 5), ['params/res0_a/kernel', 'another network']),
    (reshaped('res0a/kernel', (3, 3, 1, 3, 3)), ['params/res0a/kernel has shape (3, 3, 1, 3, 3)', '(3, 3, 3, 3, 3)']),
    (reshaped('pre_a/kernel', (3, 3, 2, 3)), ['params/pre_a/kernel has shape (3, 3, 2, 3)', 'z, y, x']),
    (reshaped('pre_a/kernel', (3, 3, 3, 1, 3)), ['params/pre_a/kernel has shape (3, 3, 3, 1, 3)']),
    (reshaped('output/kernel', (1, 1, 1, 3, 2)), ['params/output/kernel', '(1, 1, 1, 3, 1)']),
    (reshaped('pre_a/kernel', (3, 2, 3, 2, 3)), ['kernel is x,y,z 3,2,3; expected odd']),
    (lambda a: a['res0a/bias'].fill(np.nan), ['is damaged: params/res0a/bias', 'not finite']),
    (lambda a: a.update({'res0a/bias': np.full(3, 1e300)}), ['params/res0a/bias', 'not finite']),
    (lambda a: a.update({'res0a/bias': np.full(3, 'text')}), ['params/res0a/bias']),
])  # fmt: skip
def test_networks_that_are_refused(tmp_path, change, words):
    arrays = parameters()
    change(arrays)
    path = write_flax(tmp_path / 'saved', under('params', arrays))
    with refused(str(path), *words):
        run(tmp_path, path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(('flag', 'words'), [
    ('--fov_size=8,9,9', ['fov_size is x,y,z 8,9,9; expected odd']), ('--deltas=9,0,0', ['deltas']),
    ('--padding=valid', ['deltas', 'predicted']), ('--image_stddev=0', ['--image_stddev', 'positive']),
    ('--image_mean=nan', ['--image_mean is nan']), ('--seed_pad=1', ['--seed_pad is 1', 'probability']),
    ('--output=my.h5', ['--output', '.weights.h5']),
])  # fmt: skip
def test_flags_that_are_refused(tmp_path, flag, words):
    path = write_flax(tmp_path / 'saved', parameters())
    with refused(*words):
        run(tmp_path, path, flag)
    assert list(tmp_path.iterdir()) == [path]


def test_it_segments(tmp_path):
    """Inference takes the network, its sizes and its settings from the files that were written."""
    arrays = parameters()
    arrays['output/bias'][:] = 40
    path = write_orbax(tmp_path / 'saved', arrays, ocdbt=False)
    flags = ('--image_mean=128', '--image_stddev=33', '--seed_pad=0.05', '--threshold=0.6')
    output = run(tmp_path, path, *flags, '--init_activation=0.95')
    with h5py.File(tmp_path / 'volume.h5', 'w') as file:
        file['raw'] = np.random.default_rng(0).integers(0, 256, (17, 19, 15), np.uint8)
    request = f"""image {{ hdf5: "{tmp_path}/volume.h5:raw" }} seed_policy: "PolicyGrid3d"
        model_checkpoint_path: "{output}" segmentation_output_dir: "{tmp_path}/results"
        inference_options {{ segment_threshold: 0.6 min_segment_size: 50 }}"""
    box = 'start { x: 0 y: 0 z: 0 } size { x: 15 y: 19 z: 17 }'
    infer.main([f'--inference_request={request}', f'--bounding_box={box}'])
    filled = whole_result(tmp_path / 'results')['segmentation'] == 1
    assert filled.mean() > 0.7  # as far as the field of view gets in whole moves
