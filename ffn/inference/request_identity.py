"""Which fields of a request decide its result, so that results of different requests never mix."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import json_format, message

from ffn.inference import consensus_pb2, inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.serialization import absolute_paths, to_message
from ffn.inference.storage import segmentation_shape, subvolume_files
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.utils.npz import read_npz, stored_bytes
from ffn.volumes import provenance

# What a claim calls the stamp of init_segmentation.
STAMP_OF_GIVEN = 'init_segmentation_made_from'
# Fields that affect how a request runs, but not its result.
_EXECUTION_FIELDS = ('checkpoint_interval', 'batch_size', 'concurrent_requests')


def result_fields(config: InferenceConfig) -> dict[str, Any]:
    """The fields of a request that decide its result, as JSON."""
    return request_fields(to_message(config))


def made_with(config: InferenceConfig) -> dict[str, Any]:
    """What the claim of a folder says of the results in it: request, weights, and the version of init_segmentation.

    Args:
      config: resolved.

    Raises:
      UserError: init_segmentation is incomplete, or there is no checkpoint.
    """
    stamp = ''
    if config.init_segmentation is not None:
        stamp = provenance.read_input_stamp(config.init_segmentation)
    return {
        'request': result_fields(config),
        'model_sha256': provenance.model_digest(config.model_checkpoint_path),
        **({STAMP_OF_GIVEN: stamp} if stamp else {}),
    }


def request_fields(request: inference_pb2.InferenceRequest) -> dict[str, Any]:
    """See `result_fields`; of a request that was stored with a result."""
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
    try:
        return inference_pb2.InferenceRequest.FromString(serialized)
    except message.DecodeError:
        return None


def read_request(path: str | Path) -> inference_pb2.InferenceRequest | None:
    """Reads the request that a subvolume was made with.

    Args:
      path: npz of the subvolume.

    Returns:
      The request as it was completed then; None if that of inference is not stored with the subvolume.
    """
    stored = read_npz(path, ['request'], [], ()).get('request')
    return None if stored is None else stored_request(stored_bytes(stored, path))


def stored_voxel_size(place: str | Path) -> tuple[float, float, float] | None:
    """Voxel size x, y, z of the request that a subvolume was made with; None: it has none.

    Args:
      place: npz of the subvolume, or a folder of subvolumes, of which one is read. That of a consensus has the
        voxel size of its first segmentation, as long as this is where it was.
    """
    return _voxel_size_of(Path(place), [])


def _voxel_size_of(place: Path, seen: list[Path]) -> tuple[float, float, float] | None:
    """See `stored_voxel_size`; folders that have been looked at are not looked at again."""
    if place.resolve() in seen:
        return None
    path = next(subvolume_files(place), None) if place.is_dir() else place
    stored = None if path is None else read_npz(path, ['request'], [], ()).get('request')
    if path is None or stored is None:
        return None
    serialized = stored_bytes(stored, path)
    request = stored_request(serialized)
    if request is not None and request.HasField('voxel_size'):
        return request.voxel_size.x, request.voxel_size.y, request.voxel_size.z
    first = _first_segmentation(serialized)
    if first is None or not first.is_dir():
        return None
    return _voxel_size_of(first, [*seen, place.resolve()])


def _first_segmentation(serialized: bytes) -> Path | None:
    """The folder of the first segmentation of a ConsensusRequest; None: this is another message."""
    try:
        request = consensus_pb2.ConsensusRequest.FromString(serialized)
    except message.DecodeError:
        return None
    directory = request.segmentation1.directory
    return Path(directory) if directory and request.segmentation2.directory else None


def compare(config: InferenceConfig, path: str | Path) -> str:
    """Names what differs between a configuration and the request that a subvolume was made with.

    Args:
      config: resolved.
      path: npz of the subvolume.

    Returns:
      One line; '' if nothing differs, or if no request, or an empty one, is stored with the subvolume.
    """
    made_with = read_request(path)
    if made_with is None or not made_with.ByteSize():
        return ''
    return provenance.differences(request_fields(made_with), result_fields(config))


def check_result(config: InferenceConfig, path: str | Path, box: Box) -> None:
    """Checks that a result which exists has the size that is asked for, and warns if it is that of another request.

    It counts all the same: a request may differ by where its files are, or by what earlier versions did not store.

    Args:
      config: resolved.
      path: npz of the subvolume.
      box: of the subvolume.

    Raises:
      UserError: it has another size.
    """
    check_size(path, box)
    if differences := compare(config, path):
        logging.warning(
            '%s exists and stays, but is the result of another request: %s; to make it anew, remove it or give another '
            'segmentation_output_dir',
            path,
            differences,
        )


def check_size(path: str | Path, box: Box) -> None:
    """Checks that a result is that of a box.

    Raises:
      UserError: it has another size.
    """
    shape = segmentation_shape(path)
    if shape != box.size.zyx:
        raise UserError(
            f'{path} exists with a size of {Zyx.of(shape).xyz}, and {box.size} is asked for; results are named '
            'after their corner: remove it, or give another segmentation_output_dir'
        )


def request_digest(serialized: bytes) -> str:
    """SHA-256 of the fields that decide the result in a request that is stored with a subvolume.

    Args:
      serialized: an InferenceRequest, or the request of another stage.
    """
    request = stored_request(serialized)
    if request is not None:
        serialized = _result_request(request).SerializeToString(deterministic=True)
    return hashlib.sha256(serialized).hexdigest()
