"""What decides a result is told from what does not, and named where it differs."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.inference import inference_pb2, request_identity, storage
from ffn.utils.npz import read_npz, stored_bytes


def request(**fields) -> inference_pb2.InferenceRequest:
    made = inference_pb2.InferenceRequest(image_mean=1, segmentation_output_dir='out', **fields)
    made.image.hdf5 = 'a.h5:raw'
    return made


def test_how_a_request_is_carried_out_decides_nothing():
    usual, other = request(), request(batch_size=4, concurrent_requests=8, checkpoint_interval=60)
    assert request_identity.request_fields(usual) == request_identity.request_fields(other)
    serialized = [r.SerializeToString() for r in (usual, other, request(image_stddev=3))]
    digests = [request_identity.request_digest(data) for data in serialized]
    assert digests[0] == digests[1] != digests[2]
    # Requests of other stages.
    assert request_identity.request_digest(b'\x09') != request_identity.request_digest(b'\x0a')


@pytest.mark.parametrize('is_of_earlier_version', [False, True])
def test_zeros_at_the_end_of_a_stored_request_are_kept(tmp_path, is_of_earlier_version):
    made = request(batch_size=0)
    data = made.SerializeToString()
    assert data.endswith(b'\0')
    storage.save_result(tmp_path, (0, 0, 0), np.ones((2, 3, 4), np.uint8), {}, data, {}, {})
    path = storage.subvolume_path(tmp_path, (0, 0, 0), 'npz')
    with np.load(path) as file:
        assert file['request'].item() == data  # how other installations read it
    if is_of_earlier_version:
        np.savez(path, request=data)
    read = stored_bytes(read_npz(path, ['request'], [])['request'], path)
    assert read == data
    assert request_identity.stored_request(read) == made
