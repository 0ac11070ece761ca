"""What a request only names, and by what that is known: other content under the same name must not go unnoticed.

Nothing is read as a whole but small files, as an image may be large or on a server. A volume is known by its stamp,
or the digest of its content; if it has neither, by size and time of its files (`ffn.volumes.input_states`). Those
also change where it is copied or touched. So other stamps and digests are refused, and other times are told.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from absl import logging

from ffn.inference import inference_pb2, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.given_segments import load_seeds
from ffn.inference.request_meaning import comparable
from ffn.inference.serialization import masking_config, to_message
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.volumes import provenance
from ffn.volumes.input_states import foreign_state
from ffn.volumes.masks import Mask, VolumeMask
from ffn.volumes.volume import VolumeSource

# Ends of names: a stamp or digest, and size and time of files.
_MADE_FROM, WRITTEN = '_made_from', '_written'
# Members of a result that seeds are read from.
_SEEDS = 'origins', 'joined_seeds'
# What a result calls the digest of the seeds that an earlier run gave it, and the checksums of where they were read.
EARLIER_SEEDS, _EARLIER_CRCS = 'earlier_run_seeds', 'earlier_run_crcs'
# Fields that name inputs which are known under other names.
_FIELDS = {
    'model_sha256': 'model_checkpoint_path',
    'reference_histogram_sha256': 'reference_histogram',
    EARLIER_SEEDS: 'seed_policy_args',
}

NOTHING: Mapping[str, str] = MappingProxyType({})


class Changes(NamedTuple):
    """What differs between inputs that were used and those that are there now, each in one line, '' for nothing.

    Attributes:
      content: what holds something else.
      written: what has been written since, or copied or touched.
    """

    content: str
    written: str


def identify(config: InferenceConfig, weights: str, masks: Iterable[Mask] = ()) -> dict[str, str]:
    """Returns what the inputs of a configuration are known by, under names of its fields.

    Args:
      config: resolved.
      weights: SHA-256 of the network's weights, '' where it is not known.
      masks: further ones, of the command line.

    Raises:
      UserError: a volume that is not complete, or no such histogram.
    """
    found = {'model_sha256': weights} if weights else {}
    volumes = [*named_volumes(to_message(config)), *_mask_volumes('mask', masks)]
    for name, source in volumes:
        found[name + _MADE_FROM] = stamp = provenance.read_input_stamp(source)
        if not stamp and (state := foreign_state(source)):
            found[name + WRITTEN] = state
    if config.reference_histogram:
        found['reference_histogram_sha256'] = _file_digest(config.reference_histogram)
    return found


def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f'reference_histogram {path} cannot be read: {error}') from error


def named_volumes(request: inference_pb2.InferenceRequest) -> Iterator[tuple[str, VolumeSource]]:
    """The volumes of a request, which may be incomplete, and the fields that name them.

    Raises:
      UserError: one is not set, or incomplete.
    """
    yield 'image', VolumeSource.from_proto(request.image, 'image')
    if request.HasField('init_segmentation'):
        source = VolumeSource.from_proto(request.init_segmentation, 'init_segmentation')
        yield 'init_segmentation', source
    masking = masking_config(request)
    yield from _mask_volumes('masks', masking.masks)
    yield from _mask_volumes('seed_masks', masking.seed_masks)
    yield from _mask_volumes('histogram_masks', map(Mask.from_proto, request.histogram_masks))
    if masking.shift_mask is not None:
        yield 'shift_mask', masking.shift_mask.source


def _mask_volumes(field: str, masks: Iterable[Mask]) -> Iterator[tuple[str, VolumeSource]]:
    for i, mask in enumerate(masks):
        if isinstance(mask.source, VolumeMask):
            yield f'{field}[{i}]', mask.source.volume


def earlier_runs(seed_policy_args: Any) -> Iterator[str]:
    """Folders whose seeds a policy takes up, also as part of another policy."""
    match seed_policy_args:
        case {'segmentation_dir': str(folder)}:
            yield folder
        case dict():
            yield from earlier_runs(list(seed_policy_args.values()))
        case list():
            for argument in seed_policy_args:
                yield from earlier_runs(argument)


def earlier_seeds(
    config: InferenceConfig, corner: Zyx, known: Mapping[str, Any] = NOTHING
) -> dict[str, str]:
    """What the seeds that earlier runs give a subvolume are known by.

    Args:
      config: resolved.
      corner: first voxel of the subvolume.
      known: what this returned before, if it did; where the checksums are the same, no seeds are read.

    Returns:
      A digest and checksums, under their names; nothing where no run gives seeds, or the result of one is not there.
    """
    folders = list(earlier_runs(config.seed_policy_args))
    paths = [storage.existing_path(folder, corner, 'npz') for folder in folders]
    there = [path for path in paths if path is not None]
    if not folders or len(there) < len(folders):
        return {}
    members = [crcs.get(name, 0) for crcs in map(provenance.member_crcs, there) for name in _SEEDS]
    checksums = ' '.join(f'{crc:08x}' for crc in members)
    if EARLIER_SEEDS in known and known.get(_EARLIER_CRCS) == checksums:
        return {EARLIER_SEEDS: known[EARLIER_SEEDS], _EARLIER_CRCS: checksums}
    hashed = hashlib.sha256()
    for folder in folders:
        hashed.update(load_seeds(folder, corner).tobytes())
    return {EARLIER_SEEDS: hashed.hexdigest(), _EARLIER_CRCS: checksums}


def compare_inputs(there: Mapping[str, Any], here: Mapping[str, Any]) -> Changes:
    """Names what differs; what either side does not know, as earlier versions did not record it, does not count."""
    names = [
        name
        for name in here
        if name in there and there[name] != here[name] and name != _EARLIER_CRCS
    ]

    def describe(is_written: bool) -> str:
        chosen = [name for name in names if name.endswith(WRITTEN) == is_written]
        return provenance.differences({n: there[n] for n in chosen}, {n: here[n] for n in chosen})

    return Changes(describe(False), describe(True))


def find_alike(there: Mapping[str, Any], here: Mapping[str, Any]) -> frozenset[str]:
    """Finds the inputs whose content is known to be the same, so that it does not matter where they are.

    Volumes are not among them: their stamps travel with a copy that is then changed by another program, and the files that are
    looked at do not say what is in all chunks. Another path of a volume is another volume.

    Returns:
      The fields of requests that name them.
    """
    return frozenset(
        field
        for name, field in _FIELDS.items()
        if there.get(name) and there[name] == here.get(name)
    )


def shared_inputs(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a subvolume that all subvolumes of a run have: their seeds are their own."""
    own = EARLIER_SEEDS, _EARLIER_CRCS
    return {name: known for name, known in inputs.items() if name not in own}


def claim(
    folder: str | Path, configuration: Mapping[str, Any], inputs: Mapping[str, str], advice: str
) -> None:
    """Makes a folder that of the results of a configuration and its inputs, or checks that it is.

    A folder of an earlier version, which did not record all inputs, is from now on that of those that it lacks. Tells of
    inputs that have been written since, if their content is not known, and if when they were written is known now. Where an earlier run
    is that gives seeds does not count: these are compared subvolume by subvolume, see `request_identity.check_earlier_seeds`.

    Args:
      folder: created if it is missing.
      configuration: what else decides the results, as JSON.
      inputs: see `identify`.
      advice: what to do if the folder belongs to others.

    Raises:
      UserError: it belongs to another configuration, or other inputs.
    """
    record = Path(folder, provenance.MANIFEST)
    there = provenance.read_claim(record) if record.exists() else {**configuration, **inputs}
    # What is not known any more, as an HDF5 file holds an output of ours since, stays as it was.
    known = {name: it for name, it in there.items() if name in inputs or name.endswith(WRITTEN)}
    alike = find_alike(there, inputs) | {'seed_policy_args'}
    anywhere = functools.partial(comparable, alike=alike)
    provenance.claim(folder, {**configuration, **known}, advice=advice, compared_by=anywhere)
    changes = compare_inputs(there, inputs)
    if changes.content:
        raise UserError(
            f'{folder} holds results of other inputs: {changes.content}; {advice} and inputs'
        )
    if not inputs.keys() <= known.keys():
        provenance.write_claim(record, {**configuration, **inputs, **known})
    if changes.written:
        logging.warning(
            '%s: %s; results that are there stay, as the content may be the same: if it is not, remove them',
            folder,
            changes.written,
        )
