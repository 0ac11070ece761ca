"""What decides a result is told from what does not, and named where it differs."""

from __future__ import annotations

from ffn.inference import inference_pb2, request_identity


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
    # NumPy drops zeros at the end of what it stores.
    ends_with_zeros = request(image_stddev=2.0**-120, checkpoint_interval=0)
    data = ends_with_zeros.SerializeToString()
    assert request_identity.request_digest(data.rstrip(b'\0')) == request_identity.request_digest(
        data
    )
    # Requests of other stages.
    assert request_identity.request_digest(b'\x09') != request_identity.request_digest(b'\x0a')
