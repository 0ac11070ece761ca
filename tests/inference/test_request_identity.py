"""What decides a result is told from what does not, and named where it differs."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.inference import consensus_pb2, inference_pb2, request_identity, storage
from ffn.utils.npz import read_npz, stored_bytes


def request(**fields) -> inference_pb2.InferenceRequest:
    made = inference_pb2.InferenceRequest(image_mean=1, segmentation_output_dir='out', **fields)
    made.image.hdf5 = 'a.h5:raw'
    return made


def test_how_a_request_is_carried_out_decides_nothing():
    usual, other = request(), request(batch_size=4, concurrent_requests=8, checkpoint_interval=60)
    assert request_identity.request_fields(usual) == request_identity.request_fields(other)
    first, same, different = (
        r.SerializeToString() for r in (usual, other, request(image_stddev=3))
    )
    assert request_identity.compare_requests(first, same) == ''
    said = 'image_stddev is not set there and 3.0 here'
    assert request_identity.compare_requests(first, different) == said


def test_requests_of_other_stages():
    assert 'its sha256 is' in request_identity.compare_requests(b'\x09', b'\x0a')
    made = consensus_pb2.ConsensusRequest(segmentation_output_dir='/out')
    made.segmentation1.directory, made.segmentation2.directory = '/one', '/two'
    there = made.SerializeToString()
    made.segmentation_output_dir, made.segmentation1.split_cc = '/elsewhere', False
    assert request_identity.compare_requests(there, made.SerializeToString()) == ''
    made.segmentation2.directory = '/three'
    said = 'segmentation2.directory is /two there and /three here'
    assert request_identity.compare_requests(there, made.SerializeToString()) == said


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
