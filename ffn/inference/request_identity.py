"""Which fields of a request decide its result, so that results of different requests never mix.

What is behind the names in a request is the business of `ffn.inference.input_identity`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from google.protobuf import json_format, message

from ffn.inference import consensus_pb2, inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.input_identity import (
    EARLIER_SEEDS,
    Changes,
    compare_inputs,
    earlier_runs,
    earlier_seeds,
    identify,
)
from ffn.inference.serialization import absolute_paths, to_message
from ffn.inference.storage import corner_of, existing_path, segmentation_shape, subvolume_files
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.utils.npz import read_npz, stored_bytes
from ffn.utils.texts import parse_object
from ffn.volumes import provenance
from ffn.volumes.masks import Mask

# Fields that affect how a request runs, but not its result.
_EXECUTION_FIELDS = ('checkpoint_interval', 'batch_size', 'concurrent_requests')


def result_fields(config: InferenceConfig) -> dict[str, Any]:
    """The fields of a request that decide its result, as JSON."""
    return request_fields(to_message(config))


def made_with(
    config: InferenceConfig, masks: Iterable[Mask] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the claim of a folder says of the results in it: the request, and what its inputs are known by.

    Args:
      config: resolved.
      masks: further ones, of the command line.

    Raises:
      UserError: an input that is incomplete, or there is no checkpoint.
    """
    weights = provenance.model_digest(config.model_checkpoint_path)
    return {'request': result_fields(config)}, identify(config, weights, masks)


def request_fields(request: inference_pb2.InferenceRequest) -> dict[str, Any]:
    """See `result_fields`; of a request that was stored with a result."""
    return json_format.MessageToDict(_result_request(request), preserving_proto_field_name=True)


def _result_request(request: inference_pb2.InferenceRequest) -> inference_pb2.InferenceRequest:
    copy = inference_pb2.InferenceRequest()
    copy.CopyFrom(request)
    for name in (*_EXECUTION_FIELDS, 'segmentation_output_dir'):
        copy.ClearField(name)
    absolute_paths(copy)
    if copy.precision in ('', 'float32'):  # the default
        copy.ClearField('precision')
    return copy


class CheckpointIdentity(NamedTuple):
    """What a checkpoint must fit, besides image, masks and init_segmentation, which its canvas knows.

    Attributes:
      settings: the request without what decides nothing, serialized. Paths are as they were typed, so that a
        checkpoint with relative ones can be moved with what they name; `compare_settings` makes them absolute.
      digests: of network and seeds of an earlier run, as far as they are known.
    """

    settings: bytes
    digests: dict[str, str]


def checkpoint_identity(
    config: InferenceConfig, precision: str, inputs: Mapping[str, str]
) -> CheckpointIdentity:
    """Returns what the checkpoints of a subvolume must fit.

    Args:
      config: resolved.
      precision: what the network computes in.
      inputs: of the subvolume, as they are stored with its result.
    """
    request = to_message(config)
    for name in (*_EXECUTION_FIELDS, 'precision'):
        request.ClearField(name)
    if precision != 'float32':
        request.precision = precision
    digests = {'network': 'model_sha256', 'earlier run': EARLIER_SEEDS}
    return CheckpointIdentity(
        request.SerializeToString(deterministic=True),
        {name: inputs[key] for name, key in digests.items() if key in inputs},
    )


def compare_settings(there: bytes, here: bytes) -> str:
    """Names what differs between two requests, serialized, that decides their results; '' if nothing does.

    Relative paths in both are taken from where the process is: what is behind them is compared by its content.
    """
    first, second = stored_request(there), stored_request(here)
    if first is None or second is None:
        return '' if there == here else 'it cannot be read'
    return provenance.differences(request_fields(first), request_fields(second))


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
    serialized = read_stored(path).request
    return stored_request(serialized) if serialized else None


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
    stored = (
        None
        if path is None
        else read_npz(path, ['request'], [], (), provenance.SEGMENT_AGAIN).get('request')
    )
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


class Stored(NamedTuple):
    """What a subvolume says that it was made with.

    Attributes:
      request: serialized, '' if none is stored.
      inputs: what they were known by, JSON; '{}' in files of earlier versions.
    """

    request: bytes
    inputs: bytes


def read_stored(path: str | Path) -> Stored:
    """Reads what a subvolume, an npz, says that it was made with."""
    found = read_npz(path, ['request', 'inputs'], [], (), provenance.SEGMENT_AGAIN)
    request, inputs = (
        stored_bytes(found[name], path) if name in found else b'' for name in ('request', 'inputs')
    )
    return Stored(request, inputs or b'{}')


def compare(config: InferenceConfig, inputs: Mapping[str, str], path: str | Path) -> Changes:
    """Names what differs between a configuration and what a subvolume was made with.

    Args:
      config: resolved.
      inputs: see `ffn.inference.input_identity.identify`.
      path: npz of the subvolume.

    Returns:
      What makes it another result, and what may do so; what is not stored with the subvolume does not count.

    Raises:
      UserError: the subvolume is damaged.
    """
    stored = read_stored(path)
    request = stored_request(stored.request)
    asked = ''
    if request is not None and request.ByteSize():
        asked = provenance.differences(request_fields(request), result_fields(config))
    there, corner = parse_object(stored.inputs, f'inputs of {path}'), corner_of(Path(path))
    changes, anew = compare_inputs(there, inputs), ''
    if EARLIER_SEEDS in there and corner is not None and not _has_seeds_of(config, corner, there):
        anew = 'the earlier run, the segmentation_dir of seed_policy_args, has other seeds now'
    return Changes(', '.join(filter(None, (asked, changes.content, anew))), changes.written)


def _has_seeds_of(config: InferenceConfig, corner: Zyx, there: Mapping[str, Any]) -> bool:
    """Whether earlier runs give a subvolume the seeds that it was made with, as far as both are known."""
    return not compare_inputs(there, earlier_seeds(config, corner, there)).content


def check_result(
    config: InferenceConfig, inputs: Mapping[str, str], path: str | Path, box: Box, told: set[str]
) -> None:
    """Checks that a result which exists has the size that is asked for, and warns if it is that of another request.

    It counts all the same: a request may differ by where its files are, or by what earlier versions did not store.

    Args:
      config: resolved.
      inputs: see `compare`.
      path: npz of the subvolume.
      box: of the subvolume.
      told: what was said of others, which is not said again; what is said of this one is added.

    Raises:
      UserError: it has another size.
    """
    check_size(path, box)
    changes = compare(config, inputs, path)
    if changes.content:
        what = f'is the result of another request: {", ".join(filter(None, changes))}'
    elif changes.written:
        what = f'may be the result of other inputs: {changes.written}'
    else:
        return
    if what in told:
        return
    told.add(what)
    logging.warning(
        '%s exists and stays, but %s; to make it and others like it anew, remove them or give another '
        'segmentation_output_dir',
        path,
        what,
    )


def check_earlier_seeds(config: InferenceConfig, folder: Path, corner: Zyx) -> None:
    """Checks that a finished subvolume has the seeds that an earlier run would give it now, if one gives it seeds.

    Args:
      config: resolved.
      folder: of the subvolumes.
      corner: first voxel of the subvolume.

    Raises:
      UserError: the earlier run has been made anew since.
    """
    path = existing_path(folder, corner, 'npz')
    if path is None or not any(earlier_runs(config.seed_policy_args)):
        return
    there = parse_object(read_stored(path).inputs, f'inputs of {path}')
    if not _has_seeds_of(config, corner, there):
        raise UserError(
            f'{path} was made with other seeds than the earlier run, the segmentation_dir of seed_policy_args, has now; '
            'remove it to make it anew, or give another folder'
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
