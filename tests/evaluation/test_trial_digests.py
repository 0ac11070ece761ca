"""What a trial depends on besides its request: contents of files whose names stay the same."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from ffn.evaluation.trial_digests import input_digests, weights_digest
from ffn.inference import inference_pb2
from ffn.inference.storage import subvolume_path
from ffn.models.saved_settings import write_settings
from ffn.utils.geometry import Box, Xyz
from ffn.utils.protos import parse_text

SHAPE = (7, 9, 20)
BOX = Box(Xyz(2, 1, 3), Xyz(30, 5, 2))  # reaches beyond the volumes along x
REQUEST = """
image {{ hdf5: "{v}:image" }}
init_segmentation {{ hdf5: "{v}:given" }}
masks {{ volume {{ mask {{ hdf5: "{v}:mask" }} channels {{ values: 1 }} }} }}
masks {{ coordinate_expression {{ expression: "x > 3" }} }}
seed_masks {{ volume {{ mask {{ hdf5: "{v}:seed_mask" }} channels {{ values: 1 }} }} }}
histogram_masks {{ volume {{ mask {{ hdf5: "{v}:ignored" }} channels {{ values: 1 }} }} }}
shift_mask {{ hdf5: "{v}:shifts" }}
shift_mask_scale: 4
shift_mask_threshold: 1
shift_mask_fov {{ start {{ x: -4 y: 0 z: 0 }} size {{ x: 9 y: 1 z: 1 }} }}
reference_histogram: "{h}"
"""
VOLUMES = ('image', 'given', 'mask', 'seed_mask', 'ignored')


@pytest.fixture
def request_of_all(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        for name in VOLUMES:
            file[name] = np.zeros(SHAPE, np.uint8)
        file['shifts'] = np.zeros((2, 7, 3, 5), np.int8)
    (tmp_path / 'h.npz').write_bytes(b'counts')
    request = inference_pb2.InferenceRequest()
    text = REQUEST.format(v=tmp_path / 'v.h5', h=tmp_path / 'h.npz')
    return parse_text(text, request, 'request')


@pytest.mark.parametrize('name', [*VOLUMES, 'shifts', 'histogram'])
def test_whatever_is_read_within_the_box_counts(tmp_path, request_of_all, name):
    (before,) = input_digests([request_of_all], BOX)
    assert len(before) == 64
    inside, outside = ((3, 1, 2), (4, 5, 19)), ((2, 1, 2), (3, 1, 1), (3, 6, 2))
    if name == 'shifts':
        inside, outside = ((0, 3, 0, 0), (1, 4, 1, 4)), ((0, 2, 0, 0), (0, 3, 2, 0))
    if name == 'histogram':
        (tmp_path / 'h.npz').write_bytes(b'others')
        assert input_digests([request_of_all], BOX) != [before]
        return
    for places, same in ((outside, True), (inside, False)):
        for place in places:
            with h5py.File(tmp_path / 'v.h5', 'a') as file:
                file[name][place] = 1
            assert (input_digests([request_of_all], BOX) == [before]) == same
            with h5py.File(tmp_path / 'v.h5', 'a') as file:
                file[name][place] = 0


def test_requests_that_read_the_same_share_a_digest(tmp_path, request_of_all):
    other, missing = (inference_pb2.InferenceRequest() for _ in range(2))
    other.CopyFrom(request_of_all)
    other.batch_size = 4
    missing.image.hdf5 = f'{tmp_path}/v.h5:none'
    found = input_digests([request_of_all, missing, other], BOX)
    assert found[0] == found[2] != ''
    assert found[1] == ''  # the trial tells


EARLIER = {'segmentation_dir': 'run'}


@pytest.mark.parametrize(
    'arguments',
    [
        EARLIER,
        {'policy_to_reverse': 'PolicyInvertOrigins', **EARLIER},
        {'policies': [['PolicyPeaks', {}], ['PolicyInvertOrigins', EARLIER]]},
    ],
)
@pytest.mark.parametrize('old_layout', [False, True])
def test_seeds_of_an_earlier_run_count(
    tmp_path, monkeypatch, request_of_all, arguments, old_layout
):
    monkeypatch.chdir(tmp_path)
    request_of_all.seed_policy_args = json.dumps(arguments)

    def write(corner_zyx, content):
        path = subvolume_path('run', corner_zyx, 'npz', old_layout)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return input_digests([request_of_all], BOX)

    before = write((3, 1, 2), b'seeds')
    assert len(before[0]) == 64
    assert write((0, 1, 2), b'of a box that begins elsewhere') == before
    assert write((3, 1, 2), b'other') != before
    assert write((3, 1, 2), b'seeds') == before
    request_of_all.seed_policy_args = '{"segmentation_dir": '
    assert input_digests([request_of_all], BOX) == ['']  # the trial tells


def test_weights_and_the_settings_of_their_training(tmp_path):
    for step in (1, 2):
        for ending in ('index', 'data-00000-of-00001'):
            (tmp_path / f'model.ckpt-{step}.{ending}').write_bytes(bytes(step))
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"\n')
    names = str(tmp_path / 'model.ckpt-1'), str(tmp_path / 'model.ckpt-2'), str(tmp_path)
    first, second, folder = map(weights_digest, names)
    assert first == folder != second
    (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-2"\n')
    assert weights_digest(names[2]) == second
    write_settings(tmp_path, {'image_mean': 3.5})
    assert '' != weights_digest(names[0]) != first
    assert weights_digest(str(tmp_path / 'none')) == ''
