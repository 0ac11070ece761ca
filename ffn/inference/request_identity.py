"""Which fields of a request decide its result, so that results of different requests never mix.

What is behind the names in a request is the business of `ffn.inference.input_identity`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging
from google.protobuf import message

from ffn.inference import consensus_pb2, inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.input_identity import (
    EARLIER_SEEDS,
    Changes,
    compare_inputs,
    earlier_runs,
    earlier_seeds,
    find_alike,
    identify,
)
from ffn.inference.request_meaning import (
    NOT_IN_RESULTS,
    consensus_settings,
    settings_of,
    to_json,
)
from ffn.inference.serialization import absolute_paths, to_message
from ffn.inference.storage import corner_of, existing_path, segmentation_shape, subvolume_files
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.utils.npz import read_npz, stored_bytes
from ffn.utils.texts import parse_object
from ffn.volumes import provenance
from ffn.volumes.masks import Mask

# Fields that name what a checkpoint knows by a checksum or a digest, by its name there.
_OF_CHECKPOINT = {
    'network': ('model_checkpoint_path',),
    'earlier run': ('seed_policy_args',),
    'image': ('image', 'reference_histogram', 'histogram_masks'),
    'mask': ('masks',),
    'seed mask': ('seed_masks',),
    'shift mask': ('shift_mask',),
    'init_segmentation': ('init_segmentation',),
}


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
    copy = inference_pb2.InferenceRequest()
    copy.CopyFrom(request)
    for name in NOT_IN_RESULTS:
        copy.ClearField(name)
    absolute_paths(copy)
    if copy.precision in ('', 'float32'):  # the default
        copy.ClearField('precision')
    return to_json(copy)


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
    for name in ('checkpoint_interval', 'batch_size', 'concurrent_requests', 'precision'):
        request.ClearField(name)
    if precision != 'float32':
        request.precision = precision
    digests = {'network': 'model_sha256', 'earlier run': EARLIER_SEEDS}
    return CheckpointIdentity(
        request.SerializeToString(deterministic=True),
        {name: inputs[key] for name, key in digests.items() if key in inputs},
    )


def compare_settings(there: bytes, here: bytes, same: Collection[str] = ()) -> str:
    """Names what differs between two requests, serialized, that decides their results; '' if nothing does.

    Relative paths in both are taken from where the process is.

    Args:
      there: of a checkpoint.
      here: of what would go on.
      same: names of what both know to be the same, such as 'image', see `checkpoint.save_checkpoint`: where it is does not
        count.
    """
    first, second = stored_request(there), stored_request(here)
    if first is None or second is None:
        return '' if there == here else 'it cannot be read'
    alike = {field for name in same for field in _OF_CHECKPOINT.get(name, ())}
    return provenance.differences(settings_of(first, alike), settings_of(second, alike))


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
    consensus = _as_consensus(serialized)
    if consensus is None or not Path(consensus.segmentation1.directory).is_dir():
        return None
    return _voxel_size_of(Path(consensus.segmentation1.directory), [*seen, place.resolve()])


def _as_consensus(serialized: bytes) -> consensus_pb2.ConsensusRequest | None:
    """Parses a ConsensusRequest; None: this is another message."""
    try:
        request = consensus_pb2.ConsensusRequest.FromString(serialized)
    except message.DecodeError:
        return None
    is_one = request.segmentation1.directory and request.segmentation2.directory
    return request if is_one else None


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
    there, corner = parse_object(stored.inputs, f'inputs of {path}'), corner_of(Path(path))
    seeds = {} if corner is None else earlier_seeds(config, corner, there)
    asked = ''
    request = stored_request(stored.request)
    if request is not None and request.ByteSize():
        alike = find_alike(there, {**inputs, **seeds})
        given = to_message(config).SerializeToString()
        asked = compare_requests(stored.request, given, alike)
    changes, anew = compare_inputs(there, inputs), ''
    if EARLIER_SEEDS in there and compare_inputs(there, seeds).content:
        anew = 'the earlier run, the segmentation_dir of seed_policy_args, has other seeds now'
    return Changes(_listed(asked, changes.content, anew), changes.written)


def compare_requests(there: bytes, here: bytes, alike: Container[str] = ()) -> str:
    """Names what differs between the requests of two results, and makes these different; '' if nothing does.

    Args:
      there: serialized; of inference, of a consensus, or of another stage.
      here: likewise.
      alike: inputs that are the same for both, see `settings_of`.
    """
    return provenance.differences(_said_by(there, alike), _said_by(here, alike))


def _said_by(serialized: bytes, alike: Container[str]) -> dict[str, Any]:
    if (consensus := _as_consensus(serialized)) is not None:
        return consensus_settings(consensus)
    if (request := stored_request(serialized)) is not None:
        return settings_of(request, alike)
    return {'its sha256': hashlib.sha256(serialized).hexdigest()}


def _listed(*differences: str) -> str:
    return ', '.join(filter(None, differences))


def check_result(
    config: InferenceConfig, inputs: Mapping[str, str], path: str | Path, box: Box, told: set[str]
) -> None:
    """Checks that a result which exists has the size that is asked for, and warns if it is that of another request.

    It counts all the same: a request may differ by where its files are, if it is not known that they are the same, or by
    what earlier versions did not store.

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
      UserError: the earlier run has been made anew since; or it is elsewhere, and it is not known whether it is the same.
    """
    path = existing_path(folder, corner, 'npz')
    if path is None or not any(earlier_runs(config.seed_policy_args)):
        return
    stored = read_stored(path)
    there = parse_object(stored.inputs, f'inputs of {path}')
    here = earlier_seeds(config, corner, there)
    if compare_inputs(there, here).content:
        raise UserError(
            f'{path} was made with other seeds than the earlier run, the segmentation_dir of seed_policy_args, has now; '
            'remove it to make it anew, or give another folder'
        )
    request, alike = stored_request(stored.request), find_alike(there, here)
    if request is None or not request.ByteSize():
        return
    first, second = (
        {'seed_policy_args': settings_of(one, alike).get('seed_policy_args')}
        for one in (request, to_message(config))
    )
    if shown := provenance.differences(first, second):
        raise UserError(
            f'{path} was made with seeds of another earlier run: {shown}, and it is not known whether they are the same; '
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
