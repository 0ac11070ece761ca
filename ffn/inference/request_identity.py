"""Which fields of a request decide its result, so that results of different requests never mix."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from google.protobuf import json_format, message

from ffn.distributed.pool import Pool
from ffn.inference import inference_pb2
from ffn.inference.request import absolute_paths
from ffn.models.checkpoints import resolve_checkpoint
from ffn.utils.npz import read_npz
from ffn.utils.startup import startup_messages_hidden
from ffn.volumes import provenance

# Fields that decide how a request is carried out, and not what comes out.
_EXECUTION_FIELDS = ('checkpoint_interval', 'batch_size', 'concurrent_requests')


def resolve(request: inference_pb2.InferenceRequest, pool: Pool) -> None:
    """Fixes what a request leaves open until it runs, so that all workers agree on it.

    Args:
      request: changed in place: the newest checkpoint in place of its folder, and the precision in place
        of `auto`.
      pool: what will carry it out.
    """
    with startup_messages_hidden():
        from ffn.models.precision import choose_precision

        request.model_checkpoint_path = resolve_checkpoint(request.model_checkpoint_path)
        if request.precision == 'auto' and not pool.distributed:
            request.precision = choose_precision('auto')
    if request.precision == 'auto':
        from ffn.inference.worker_network import ask_precision

        request.precision = pool.restricted().call(ask_precision)


def result_fields(request: inference_pb2.InferenceRequest) -> dict[str, Any]:
    """The fields of a request that decide its result, as JSON."""
    return json_format.MessageToDict(_result_request(request), preserving_proto_field_name=True)


def _result_request(request: inference_pb2.InferenceRequest) -> inference_pb2.InferenceRequest:
    copy = inference_pb2.InferenceRequest()
    copy.CopyFrom(request)
    for name in (*_EXECUTION_FIELDS, 'segmentation_output_dir'):
        copy.ClearField(name)
    absolute_paths(copy)
    if copy.precision == 'float32':  # the default
        copy.ClearField('precision')
    return copy


def stored_request(serialized: bytes) -> inference_pb2.InferenceRequest | None:
    """Parses the request that is stored with a subvolume.

    Args:
      serialized: an InferenceRequest; None is returned for the request of another stage.
    """
    for zeros in range(9):  # NumPy drops those at the end of bytes
        try:
            return inference_pb2.InferenceRequest.FromString(serialized + zeros * b'\0')
        except message.DecodeError:
            continue
    return None


def compare(request: inference_pb2.InferenceRequest, path: str | Path) -> str:
    """Names what differs between a request and the one that a subvolume was made with.

    Args:
      request: resolved.
      path: npz of the subvolume.

    Returns:
      One line; '' if nothing differs, or if no request is stored with the subvolume.
    """
    stored = read_npz(path, ['request'], []).get('request')
    made_with = None if stored is None else stored_request(stored.item())
    if made_with is None:
        return ''
    return provenance.differences(result_fields(made_with), result_fields(request))


def request_digest(serialized: bytes) -> str:
    """SHA-256 of the fields that decide the result in a request that is stored with a subvolume.

    Args:
      serialized: an InferenceRequest, or the request of another stage.
    """
    request = stored_request(serialized)
    if request is not None:
        serialized = _result_request(request).SerializeToString(deterministic=True)
    return hashlib.sha256(serialized).hexdigest()
