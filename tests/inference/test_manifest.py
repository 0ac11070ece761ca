"""What decides a result is told from what does not, and named where it differs."""

from __future__ import annotations

import pytest

from ffn.inference import inference_pb2, manifest
from ffn.utils.errors import UserError


def request(**fields) -> inference_pb2.InferenceRequest:
    made = inference_pb2.InferenceRequest(image_mean=1, segmentation_output_dir='out', **fields)
    made.image.hdf5 = 'a.h5:raw'
    return made


def test_how_a_request_is_carried_out_decides_nothing():
    usual, other = request(), request(batch_size=4, concurrent_requests=8, checkpoint_interval=60)
    assert manifest.deciding(usual) == manifest.deciding(other)
    serialized = [r.SerializeToString() for r in (usual, other, request(image_stddev=3))]
    digests = [manifest.request_digest(data) for data in serialized]
    assert digests[0] == digests[1] != digests[2]
    # NumPy drops zeros at the end of what it stores.
    ends_with_zeros = request(image_stddev=2.0**-120, checkpoint_interval=0)
    data = ends_with_zeros.SerializeToString()
    assert manifest.request_digest(data.rstrip(b'\0')) == manifest.request_digest(data)
    # Requests of other stages.
    assert manifest.request_digest(b'\x09') != manifest.request_digest(b'\x0a')


def test_weights_are_told_apart(tmp_path):
    for name in ('model.ckpt-1.index', 'model.ckpt-1.data-00000-of-00001', 'model.ckpt-10.index'):
        (tmp_path / name).write_bytes(name.encode())
    before = manifest.model_digest(f'{tmp_path}/model.ckpt-1')
    (tmp_path / 'model.ckpt-10.index').write_bytes(b'other')
    (tmp_path / 'model.ckpt-1.meta').write_bytes(b'graph')
    assert manifest.model_digest(f'{tmp_path}/model.ckpt-1') == before
    (tmp_path / 'model.ckpt-1.data-00000-of-00001').write_bytes(b'trained on')
    assert manifest.model_digest(f'{tmp_path}/model.ckpt-1') != before
    (tmp_path / 'net.weights.h5').write_bytes(b'one file')
    assert manifest.model_digest(f'{tmp_path}/net.weights.h5') != before


def test_claims(tmp_path):
    configuration = {'a': {'b': 1, 'c': (2, 3)}, 'd': 'x'}
    manifest.claim(tmp_path / 'new', configuration)
    before = (tmp_path / 'new' / manifest.NAME).read_text()
    manifest.claim(tmp_path / 'new', configuration)
    manifest.claim(tmp_path / 'new', {'d': 'x', 'a': {'c': [2, 3], 'b': 1}})
    assert (tmp_path / 'new' / manifest.NAME).read_text() == before
    with pytest.raises(
        UserError, match=r'a\.b is 1 there and 5 here, e is not set there and 6 here'
    ):
        manifest.claim(tmp_path / 'new', {**configuration, 'a': {'b': 5, 'c': [2, 3]}, 'e': 6})
    many = {**configuration, **dict.fromkeys('efghi', 1)}
    with pytest.raises(UserError, match='and 1 here, 2 more; give another folder'):
        manifest.claim(tmp_path / 'new', many)
