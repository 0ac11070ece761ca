"""What a request takes over from the training of its network, and what it is warned of."""

from __future__ import annotations

import json
import logging
import re
import shutil

import pytest

from ffn.inference import inference_pb2, storage
from ffn.inference.from_training import fill_from_training, find_contradictions
from ffn.inference.request import complete_request, make_config, parse_request, read_request
from ffn.inference.runner import Runner
from ffn.models.saved_settings import write_settings
from ffn.models.weights import convert
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from tests.inference import flood

SETTINGS = {
    'model_name': flood.NAME,
    'model_args': json.loads(flood.ARGS),
    'image_mean': 128.0,
    'image_stddev': 127.0,
    'init_activation': 0.95,
    'seed_pad': 0.05,
    'threshold': 0.9,
    'voxel_size': [8, 9.5, 33],
    'precision': 'bfloat16',
    'version': '0.1',
}
LEFT_OUT = {
    'image_mean',
    'image_stddev',
    'model_name',
    'model_args',
    'init_activation',
    'pad_value',
    'move_threshold',
}


@pytest.fixture
def folder(flood_folder, flood_network):
    """A folder with volume, request, and the network's checkpoint with the settings beside it."""
    (flood_folder / 'flood').unlink()
    shutil.copytree(flood_network, flood_folder / 'flood')
    write_settings(flood_folder / 'flood', SETTINGS)
    return flood_folder


def write(folder, *without, extra=''):
    """Writes the request without some of its fields; returns its path."""
    path = folder / 'request.pbtxt'
    flood.write_request(folder)
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.split(':')[0].strip() not in without]
    assert len(kept) == len(lines) - len(without)
    path.write_text(''.join(kept) + extra)
    return str(path)


def messages(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_what_the_request_leaves_out_is_that_of_the_training(folder, caplog):
    with caplog.at_level(logging.INFO):
        request = read_request(write(folder, *LEFT_OUT))
    whole = read_request(write(folder, extra='voxel_size { x: 8 y: 9.5 z: 33 }'))
    assert json.loads(request.model_args) == json.loads(whole.model_args)
    request.model_args = whole.model_args
    assert request == whole
    (line,) = messages(caplog, logging.INFO)
    for name in (*LEFT_OUT, 'voxel_size'):
        assert name in line
    for value in ('128', '127', '0.95', '0.05', 'x,y,z 8,9.5,33', flood.NAME):
        assert value in line
    assert 'segment_threshold' not in line
    assert not messages(caplog, logging.WARNING)


def test_what_the_request_sets_stays(folder, caplog):
    text = write(folder, 'image_stddev', 'pad_value', extra='voxel_size { x: 4 y: 4 z: 5 }')
    with caplog.at_level(logging.INFO):
        request = read_request(text, 'move_threshold: 0.8')
    assert request.image_stddev == 127
    assert request.inference_options.pad_value == pytest.approx(0.05)
    assert request.inference_options.move_threshold == pytest.approx(0.8)
    assert (request.voxel_size.x, request.voxel_size.z) == (4, 5)
    (line,) = messages(caplog, logging.INFO)
    assert line.endswith('image_stddev 127, inference_options.pad_value 0.05')


def test_a_size_is_not_put_together_from_two(folder):
    with pytest.raises(UserError, match='voxel_size is x,y,z 4,0,0'):
        read_request(write(folder, extra='voxel_size { x: 4 }'))


def test_a_whole_request_stays_as_it_is(folder, caplog):
    text = write(folder, extra='voxel_size { x: 1 y: 1 z: 1 }')
    before = parse_request(text)
    with caplog.at_level(logging.INFO):
        assert fill_from_training(before) == []
        assert read_request(text) == before
    assert not caplog.records


def test_zero_is_a_value(folder):
    assert read_request(write(folder, 'image_mean', extra='image_mean: 0')).image_mean == 0


@pytest.mark.parametrize('kind', ['folder', 'step', 'keras'])
def test_wherever_the_settings_lie(folder, kind):
    path = folder / 'flood'
    if kind == 'step':
        path = path / 'model.ckpt-1'
    elif kind == 'keras':
        path = folder / 'elsewhere' / 'flood.weights.h5'
        convert(str(folder / 'flood'), str(path))
    request = parse_request(write(folder, 'image_mean', 'model_checkpoint_path'))
    request.model_checkpoint_path = str(path)
    assert fill_from_training(request) == ['image_mean', 'voxel_size']
    assert request.image_mean == 128


def test_results_hold_what_was_run(folder):
    text = write(folder, *LEFT_OUT)
    with Runner() as runner:
        runner.start(read_request(text))
        canvas = runner.run((0, 0, 0), (20, 26, 38))
    assert len(canvas.origins) > 2
    assert canvas.view.voxel_size_zyx == (33, 9.5, 8)
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    stored = inference_pb2.InferenceRequest.FromString(
        read_npz(path, ['request'], [])['request'].item()
    )
    expected = read_request(text)
    expected.model_checkpoint_path += '/model.ckpt-1'  # the one that was used
    assert stored == expected
    assert stored.model_name == flood.NAME


def test_without_settings_the_field_is_named(folder):
    (folder / 'flood' / 'model.json').unlink()
    for name in sorted(LEFT_OUT - {'model_args'}):
        with pytest.raises(UserError, match=f'{name}( is not set|, which is needed)'):
            read_request(write(folder, name))
    (folder / 'flood' / 'other.json').write_text('{}')  # of somebody else
    with pytest.raises(UserError, match='does not set image_mean'):
        read_request(write(folder, 'image_mean'))


def test_what_training_does_not_know_is_still_needed(folder):
    with pytest.raises(UserError, match='segment_threshold is not set'):
        read_request(write(folder, 'segment_threshold'))
    with pytest.raises(UserError, match='does not set model_checkpoint_path'):
        read_request(write(folder, 'model_checkpoint_path'))
    text = 'image { hdf5: "a:b" } model_checkpoint_path: "%s"' % (folder / 'flood')
    with pytest.raises(UserError, match='segment_threshold is not set'):
        read_request(text)  # not even inference_options


def test_values_from_the_training_are_checked_too(folder):
    write_settings(folder / 'flood', {**SETTINGS, 'image_stddev': 0.0})
    with pytest.raises(UserError, match='image_stddev is 0'):
        read_request(write(folder, 'image_stddev'))
    write_settings(folder / 'flood', {**SETTINGS, 'seed_pad': 1.5})
    with pytest.raises(UserError, match=r'seed_pad is 1\.5'):
        read_request(write(folder, 'pad_value'))


@pytest.mark.parametrize(('content', 'words'), [
    ('{"image_mean": ', ['model.json', 'damaged']),
    (b'\xff\xfe', ['flood', 'damaged']),
    ('[1, 2]', ['flood', 'no JSON object']),
    ('{"image_mean": "bright"}', ['image_mean', "'bright'"]),
    ('{"model_name": 3}', ['model_name is 3']),
    ('{"model_args": "{"}', ["model_args is '{'"]),
    ('{"model_args": [1]}', ['model_args is [1]']),
    ('{"voxel_size": [1, 2]}', ['voxel_size is [1, 2]']),
    ('{"voxel_size": 8}', ['voxel_size is 8']),
    ('{"threshold": [0.9]}', ['threshold is [0.9]']),
])  # fmt: skip
def test_damaged_settings(folder, content, words):
    path = folder / 'flood' / 'model.json'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        read_request(write(folder))
    assert '\n' not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_values_that_are_null_are_not_there(folder):
    write_settings(folder / 'flood', dict.fromkeys(SETTINGS))
    assert fill_from_training(parse_request(write(folder))) == []


def contradictions(request):
    return find_contradictions(make_config(request))


def completing_warns(request, caplog):
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        complete_request(request)
    return messages(caplog, logging.WARNING)


def test_contradictions_are_a_line_each(folder, caplog):
    request = read_request(write(folder))
    assert completing_warns(request, caplog) == []
    request.image_mean, request.image_stddev = 120, 33
    request.voxel_size.z = 30
    options = request.inference_options
    options.init_activation, options.pad_value, options.move_threshold = 0.99, 0.1, 0.8
    request.model_args = request.model_args.replace('[2, 2, 2]', '[2, 1, 1]')
    assert completing_warns(request, caplog) == [
        'model_args.deltas is [2, 1, 1], but the model was trained with [2, 2, 2]',
        'image_mean is 120, but the model was trained with 128',
        'image_stddev is 33, but the model was trained with 127',
        'voxel_size is x,y,z 8,9.5,30, but the model was trained with x,y,z 8,9.5,33',
        'inference_options.init_activation is 0.99, but the model was trained with 0.95',
        'inference_options.pad_value is 0.1, but the model was trained with 0.05',
        'inference_options.move_threshold is 0.8, but the model was trained with 0.9',
    ]


def test_another_network(folder, caplog):
    """The warning comes before what goes wrong because of it."""
    request = read_request(write(folder))
    request.model_args = request.model_args.replace('"depth": 1', '"depth": 2').replace(
        '[4, 3]', '[4, 3, 4, 3]'
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match='layers'):
        Runner().start(request)
    assert messages(caplog, logging.WARNING) == [
        'model_args.depth is 2, but the model was trained with 1',
        'model_args.features is [4, 3, 4, 3], but the model was trained with [4, 3]',
    ]
    request.model_name = 'convstack_9d.Network'
    assert contradictions(request) == [
        f'model_name is convstack_9d.Network, but the model was trained with {flood.NAME}'
    ]


def test_the_same_network_in_other_words(folder):
    request = read_request(write(folder))
    request.model_name = f'ffn.training.models.{flood.NAME}'
    assert contradictions(request) == []
    args = {'fov_size': [7, 5, 5], 'deltas': [1, 1, 1], 'depth': 9, 'features': [32] * 18}
    request.model_args = json.dumps(args)
    same = {name: args[name] for name in ('fov_size', 'deltas')}  # the rest by default
    write_settings(folder / 'flood', {'model_args': same})
    assert contradictions(request) == []
    write_settings(folder / 'flood', {'model_args': {**same, 'features': 31}})
    assert len(contradictions(request)) == 1


def test_volumes_that_were_normalised_otherwise(folder, caplog):
    own = {'bright': [200, 20], 'dark': [40, 10]}
    write_settings(folder / 'flood', {**SETTINGS, 'image_offset_scale': own})
    with caplog.at_level(logging.WARNING):
        request = read_request(write(folder, 'image_mean', 'image_stddev'))
    (line,) = messages(caplog, logging.WARNING)
    assert re.search(r'\(bright: 200 and 20, dark: 40 and 10\)', line)
    assert contradictions(request) == []
    request.image_mean, request.image_stddev = 40, 10  # as the dark one
    assert contradictions(request) == []
    request.image_stddev = 20
    assert len(contradictions(request)) == 2
    for damaged in ([1], {'a': 3}, {'a': [1, 'b']}):
        write_settings(folder / 'flood', {**SETTINGS, 'image_offset_scale': damaged})
        with pytest.raises(UserError, match='image_offset_scale is '):
            contradictions(request)
