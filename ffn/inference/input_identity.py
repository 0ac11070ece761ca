"""What a request only names, and by what that is known: other content under the same name must not go unnoticed.

Nothing is read as a whole but small files, as an image may be large or on a server. A volume is known by its stamp,
or the digest of its content; if it has neither, by size and time of its files (`ffn.volumes.provenance`). Those
also change where it is copied or touched. So other stamps and digests are refused, and other times are told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from ffn.inference import inference_pb2, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.given_segments import load_seeds
from ffn.inference.serialization import masking_config, to_message
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.volumes import provenance
from ffn.volumes.masks import Mask, VolumeMask
from ffn.volumes.volume import VolumeSource

# Ends of names: a stamp or digest, and size and time of files.
_MADE_FROM, _WRITTEN = '_made_from', '_written'
# What a result calls the digest of the seeds that an earlier run gave it.
EARLIER_SEEDS = 'earlier_run_seeds'


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
        if not stamp and (state := provenance.foreign_state(source)):
            found[name + _WRITTEN] = state
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


def earlier_seeds(config: InferenceConfig, corner: Zyx) -> dict[str, str]:
    """The digest of the seeds that earlier runs give a subvolume, under its name; nothing where they give none."""
    hashed, folders = hashlib.sha256(), list(earlier_runs(config.seed_policy_args))
    for folder in folders:
        if storage.existing_path(folder, corner, 'npz') is not None:
            hashed.update(load_seeds(folder, corner).tobytes())
    return {EARLIER_SEEDS: hashed.hexdigest()} if folders else {}


def compare_inputs(there: Mapping[str, Any], here: Mapping[str, Any]) -> Changes:
    """Names what differs; what either side does not know, as earlier versions did not record it, does not count."""
    names = [name for name in here if name in there and there[name] != here[name]]

    def describe(is_written: bool) -> str:
        chosen = [name for name in names if name.endswith(_WRITTEN) == is_written]
        return provenance.differences({n: there[n] for n in chosen}, {n: here[n] for n in chosen})

    return Changes(describe(False), describe(True))


def claim(
    folder: str | Path, configuration: Mapping[str, Any], inputs: Mapping[str, str], advice: str
) -> None:
    """Makes a folder that of the results of a configuration and its inputs, or checks that it is.

    Tells of inputs that have been written since, if their content is not known.

    Args:
      folder: created if it is missing.
      configuration: what else decides the results, as JSON.
      inputs: see `identify`.
      advice: what to do if the folder belongs to others.

    Raises:
      UserError: it belongs to another configuration, or other inputs.
    """
    record = Path(folder, provenance.MANIFEST)
    there = provenance.read_claim(record) if record.exists() else inputs
    known = {name: there[name] for name in inputs if name in there}
    provenance.claim(folder, {**configuration, **known}, advice=advice)
    changes = compare_inputs(there, inputs)
    if changes.content:
        raise UserError(
            f'{folder} holds results of other inputs: {changes.content}; {advice} and inputs'
        )
    if changes.written:
        logging.warning(
            '%s: %s; results that are there stay, as the content may be the same: if it is not, remove them',
            folder,
            changes.written,
        )
