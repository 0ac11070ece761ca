import dataclasses
import pickle

import pytest

from ffn.agglomeration import config as resegmentation_config
from ffn.inference import inference_pb2
from ffn.inference.config import MaskingConfig
from ffn.inference.input_volumes import clip_box
from ffn.inference.request import (
    absolute_paths,
    complete_request,
    make_config,
    read_box,
    read_config,
    read_request,
)
from ffn.inference.request_identity import checkpoint_identity, compare_settings
from ffn.inference.serialization import serialize_request, to_message
from ffn.utils import protos
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.logits import logit

REQUEST = """
image { hdf5: "/data/v.h5:raw" }
image_mean: 128
image_stddev: 33
checkpoint_interval: 1800
seed_policy: "PolicyPeaks"
model_checkpoint_path: "nowhere/model.ckpt-1"
model_name: "convstack_3d.ConvStack3DFFNModel"
model_args: "{\\"depth\\": 12, \\"fov_size\\": [33, 33, 33], \\"deltas\\": [8, 8, 8]}"
segmentation_output_dir: "/tmp/results"
inference_options {
  init_activation: 0.95
  pad_value: 0.05
  move_threshold: 0.9
  min_boundary_dist { x: 1 y: 2 z: 3 }
  segment_threshold: 0.6
  min_segment_size: 1000
}
"""


def test_a_request_of_existing_users():
    config = read_config(REQUEST)
    assert config.batch_size == config.concurrent_requests == 1
    options = config.options
    assert options.move_threshold == pytest.approx(logit(0.9), abs=1e-6)
    assert options.min_boundary_dist == Xyz(1, 2, 3)
    assert options.disco_seed_threshold == 0
    assert options.min_segment_size == 1000


def test_from_a_file_with_options_on_top(tmp_path):
    (tmp_path / 'request.pbtxt').write_text(REQUEST)
    request = read_request(str(tmp_path / 'request.pbtxt'), 'move_threshold: 0.8')
    assert request.inference_options.move_threshold == pytest.approx(0.8)
    assert request.inference_options.pad_value == pytest.approx(0.05)


def test_the_shipped_request_is_complete(repository):
    read_request(str(repository / 'configs' / 'inference_training_sample2.pbtxt'))


def test_the_example_of_resegmentation_is_complete(repository):
    path = repository / 'configs' / 'resegmentation_training_sample2.pbtxt'
    request = inference_pb2.ResegmentationRequest()
    protos.read_text_or_file(str(path), request, 'request')
    complete_request(request.inference)
    assert resegmentation_config.make_config(request).radius == Xyz.from_proto(request.radius)


def test_the_request_of_the_model_that_comes_with_the_code_takes_all_from_it(
    repository, monkeypatch
):
    monkeypatch.chdir(repository)
    request = read_request('configs/inference_fib25_small.pbtxt')
    assert request.model_name == 'convstack_3d.ConvStack3DFFNModel'
    assert (request.image_mean, request.image_stddev) == (128, 33)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('image_mean: 128', '', 'does not set image_mean'),
        ('image_stddev: 33', 'image_stddev: 0', 'image_stddev is 0; expected a positive'),
        ('image { hdf5: "/data/v.h5:raw" }', '', 'does not set image,'),
        ('move_threshold: 0.9', '', 'inference_options.move_threshold is not set'),
        ('move_threshold: 0.9', 'move_threshold: 2.2', 'expected a probability'),
        ('move_threshold: 0.9', 'move_threshold: 0.96',
         'init_activation is 0.95, less than move_threshold, 0.96: no object'),
        ('image_mean: 128', 'image_men: 128', '"image_men"'),
        ('checkpoint_interval: 1800', 'alignment_options { type: UNKNOWN_ALIGNMENT }',
         'not supported; use NO_ALIGNMENT'),
        ('checkpoint_interval: 1800', 'alignment_options { save_raw: true }', 'save_raw'),
        ('checkpoint_interval: 1800', 'batch_size: 0', 'batch_size is 0; expected 1 or more'),
        ('checkpoint_interval: 1800', 'shift_mask { hdf5: "a:b" } shift_mask_scale: 2',
         'shift_mask_threshold is 0'),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_named(old, new, message):
    with pytest.raises(UserError, match=message):
        read_request(REQUEST.replace(old, new))


def test_a_seed_may_be_as_likely_as_what_is_moved_to():
    assert read_request(REQUEST.replace('move_threshold: 0.9', 'move_threshold: 0.95'))


def test_results_do_not_go_to_a_url():
    """Where a request gives only the network, as for resegmentation, nothing is written there."""
    config = read_config(REQUEST.replace('/tmp/results', 'gs://bucket/results'))
    with pytest.raises(
        UserError, match=r'segmentation_output_dir is gs://bucket/results; expected a folder'
    ):
        _ = config.results_folder


def test_a_request_longer_than_a_path_can_be():
    masks = 'masks { coordinate_expression { expression: "x < 1" } } ' * 200
    assert len(read_request(REQUEST.replace('/', '') + masks).masks) == 200


def test_a_request_file_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        read_request('no/such/request.pbtxt')


def test_boxes():
    box = read_box('start { x: 1 y: 2 z: 3 } size { x: 4 y: 5 z: 6 }')
    assert box == Box(Xyz(1, 2, 3), Xyz(4, 5, 6))
    with pytest.raises(UserError, match='must have start and size'):
        read_box('size { x: 4 y: 5 z: 6 }')
    with pytest.raises(UserError, match=r'size x,y,z 4,0,6 \(z,y,x 6,0,4\)'):
        read_box('start { x: 1 } size { x: 4 z: 6 }')


def test_a_box_is_clipped_or_refused():
    volume = Box(Xyz(0, 0, 0), Xyz(100, 90, 80))
    fov = Xyz(33, 21, 11)
    inside = Box(Xyz(10, 20, 30), Xyz(40, 30, 20))
    assert clip_box(inside, volume, fov, 'v') == (inside, False)
    clipped, less = clip_box(Box(Xyz(-5, 50, 60), Xyz(60, 60, 60)), volume, fov, 'v')
    assert less
    assert clipped == Box(Xyz(0, 50, 60), Xyz(55, 40, 20))
    with pytest.raises(UserError, match=r'size x,y,z 33,21,10 \(z,y,x 10,21,33\) is smaller'):
        clip_box(Box(Xyz(0, 0, 70), Xyz(33, 21, 33)), volume, fov, 'v')
    with pytest.raises(UserError, match=r'outside v, which covers .*z,y,x 80,90,100'):
        clip_box(Box(Xyz(100, 0, 0), Xyz(33, 33, 33)), volume, fov, 'v')


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = inference_pb2.InferenceRequest(
        model_checkpoint_path='nets/a', reference_histogram='/h.npz', segmentation_output_dir='out'
    )
    made.image.hdf5 = 'a.h5:raw'
    made.masks.add().volume.mask.hdf5 = 'mask.h5:m'
    made.init_segmentation.hdf5 = 'zarr://gs://bucket/a'
    made.masks.add().volume.mask.hdf5 = 'precomputed://tissue'
    again = inference_pb2.ResegmentationRequest(output_directory='again', inference=made)
    absolute_paths(again)
    assert again.output_directory == f'{tmp_path}/again'
    made = again.inference
    assert made.image.hdf5 == f'{tmp_path}/a.h5:raw'
    assert made.model_checkpoint_path == f'{tmp_path}/nets/a'
    assert made.segmentation_output_dir == f'{tmp_path}/out'
    assert made.masks[0].volume.mask.hdf5 == f'{tmp_path}/mask.h5:m'
    assert made.masks[1].volume.mask.hdf5 == f'precomputed://{tmp_path}/tissue'
    assert (made.reference_histogram, made.init_segmentation.hdf5) == (
        '/h.npz',
        'zarr://gs://bucket/a',
    )


def given_request(tmp_path, monkeypatch):
    """With defaults that are set, and paths that are not absolute."""
    monkeypatch.chdir(tmp_path)
    text = 'batch_size: 1 precision: "" seed_policy_args: "{ }" alignment_options { } voxel_size { x: 8 y: 8 z: 33 }'
    masks = 'masks { coordinate_expression { expression: "x < 1" } } shift_mask_scale: 0'
    request = protos.parse_text(REQUEST + text + masks, inference_pb2.InferenceRequest(), 'request')
    request.image.hdf5 = 'v.h5:raw'
    return request


def test_results_store_the_request_as_it_was_given(tmp_path, monkeypatch):
    request = given_request(tmp_path, monkeypatch)
    config = pickle.loads(pickle.dumps(make_config(request)))
    assert config == make_config(request)
    assert to_message(config) == request
    assert to_message(config).SerializeToString() == request.SerializeToString()
    changed = dataclasses.replace(
        config,
        precision='bfloat16',
        model_checkpoint_path='a/model.ckpt-2',
        seed_policy_args={'a': 1},
    )
    request.image.hdf5 = f'{tmp_path}/v.h5:raw'
    request.model_checkpoint_path = f'{tmp_path}/nowhere/model.ckpt-1'
    assert serialize_request(config) == request.SerializeToString()
    request.model_checkpoint_path = f'{tmp_path}/a/model.ckpt-2'
    request.precision, request.seed_policy_args = 'bfloat16', '{"a": 1}'
    assert serialize_request(changed) == request.SerializeToString()


def test_a_configuration_does_not_follow_its_request(tmp_path, monkeypatch):
    request = given_request(tmp_path, monkeypatch)
    config = make_config(request)
    request.image.hdf5 = 'other.h5:raw'
    request.masks[0].invert = True
    assert config == make_config(given_request(tmp_path, monkeypatch))


def test_checkpoints_depend_on_what_decides_the_result(tmp_path, monkeypatch):
    """As stored by earlier versions, too: with paths as they were typed, and the folder of the results."""
    request = given_request(tmp_path, monkeypatch)
    config = make_config(request)
    request.precision = ''
    here = checkpoint_identity(config, 'float32', {}).settings
    assert compare_settings(request.SerializeToString(), here) == ''
    elsewhere = dataclasses.replace(config, batch_size=7, segmentation_output_dir='other')
    assert compare_settings(checkpoint_identity(elsewhere, 'float32', {}).settings, here) == ''
    for change, said in (
        ({'seed_policy': 'PolicyMax'}, 'seed_policy is'),
        ({'model_checkpoint_path': 'other'}, f'other there and {tmp_path}'),
    ):
        there = checkpoint_identity(dataclasses.replace(config, **change), 'float32', {}).settings
        assert said in compare_settings(there, here)
    there = checkpoint_identity(config, 'float16', {}).settings
    assert compare_settings(there, here) == 'precision is float16 there and not set here'
    assert compare_settings(b'\x09', here) == 'it cannot be read'


def test_what_a_configuration_cannot_replace(tmp_path, monkeypatch):
    config = make_config(given_request(tmp_path, monkeypatch))
    for name, value in {'voxel_size': (1.0, 2.0, 3.0), 'masking': MaskingConfig()}.items():
        with pytest.raises(ValueError, match=f'{name} was replaced'):
            to_message(dataclasses.replace(config, **{name: value}))
