"""The consensus of two segmentations, subvolume by subvolume.

Merge errors depend on the order in which objects are grown, so the second segmentation is usually the first
one repeated from its seeds in reverse order (`segment_reversed`); few mergers then survive the consensus
(Januszewski et al. 2018, Methods, "Oversegmentation consensus"). Finished subvolumes are not repeated.
"""

from __future__ import annotations

import dataclasses
import os
import time
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastremap
import numpy as np
from absl import logging

from ffn.agglomeration.consensus import split_consensus
from ffn.agglomeration.consensus_config import ConsensusConfig
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import report, request_identity, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.given_segments import read_given_ids
from ffn.inference.input_identity import claim, compare_inputs
from ffn.inference.worker_network import NetworkFactory, resolve, segment_subvolumes
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.utils.locks import exclusive_directory
from ffn.utils.npz import read_npz, stored_bytes
from ffn.utils.texts import parse_object
from ffn.volumes import provenance


def run_consensus(config: ConsensusConfig, pool: Pool, quiet: bool = False) -> dict[str, int]:
    """Computes the consensus of every subvolume.

    Args:
      config: the two segmentations and the output.
      pool: runs the tasks.
      quiet: no progress bar.

    Returns:
      Totals over the subvolumes computed now: their number, objects, objects split off, and voxels that
      became background.

    Raises:
      UserError: subvolumes are missing or do not match, or the output holds something else. Finished
        subvolumes are kept.
    """
    check_finished(config)
    first, second = config.segmentation1.directory, config.segmentation2.directory
    corners, other = list(storage.subvolumes(first)), storage.subvolumes(second)
    missing = [corner for corner in corners if corner not in other]
    if missing:
        raise UserError(
            f'{second} lacks {len(missing)} of the {len(corners)} subvolumes of {first}, among them '
            f'that of x,y,z {missing[0].xyz}; --inference_request segments them in reverse order'
        )
    total, made = dict.fromkeys(('objects', 'objects-split-off', 'voxels-dropped'), 0), 0
    with exclusive_directory(config.segmentation_output_dir):
        _check_request(config, corners)
        tasks = ((config, corner) for corner in corners)
        for counters in run_stage(pool, make_missing, tasks, len(corners), 'consensus', quiet):
            if counters is None:
                continue
            made += 1
            for name, value in counters.items():
                total[name] += value
    if made < len(corners):
        logging.info('%d of %d subvolumes already existed', len(corners) - made, len(corners))
    return {'subvolumes': made, **total}


def check_finished(config: ConsensusConfig) -> None:
    """Checks that both segmentations are complete.

    Raises:
      UserError: names the one that is not.
    """
    for name, source in config.sources.items():
        if Path(source.directory, storage.UNFINISHED).exists():
            raise UserError(
                f'{name}, {source.directory}, is not complete; let ffn segment finish first'
            )


def _check_request(config: ConsensusConfig, corners: Iterable[Zyx]) -> None:
    """Refuses a folder with results of another request before any is added; tasks look at each result."""
    there = (storage.existing_path(config.segmentation_output_dir, one, 'npz') for one in corners)
    if (path := next(filter(None, there), None)) is not None:
        _read_of_request(config, path, [])


def _read_of_request(config: ConsensusConfig, path: Path, members: list[str]) -> Mapping[str, Any]:
    stored = read_npz(path, ['request', *members], [], (), provenance.SEGMENT_AGAIN)
    made_with = stored_bytes(stored['request'], path) if 'request' in stored else b''
    if changes := request_identity.compare_requests(made_with, config.request):
        raise UserError(
            f'{path} is the result of another request: {changes}; give another segmentation_output_dir'
        )
    return stored


def _is_finished(config: ConsensusConfig, corner: Zyx) -> bool:
    """Whether a subvolume exists that was made with the same request from the same labels."""
    path = storage.existing_path(config.segmentation_output_dir, corner, 'npz')
    if path is None:
        return False
    stored = _read_of_request(config, path, ['counters'])
    if 'counters' not in stored:
        return False
    counters = parse_object(stored_bytes(stored['counters'], path), f'{path}: its counters')
    return {**counters, **_source_checksums(config, corner)} == counters


def _source_checksums(config: ConsensusConfig, corner_zyx: Sequence[int]) -> dict[str, int]:
    """Returns the checksums of what a subvolume is made from: labels, and their ids in init_segmentation."""
    found = {}
    for name, source in config.sources.items():
        path = source.path(corner_zyx)
        found[f'{name}-crc'] = provenance.checksums(path)[0]
        if len(given := read_given_ids(path)):
            found[f'{name}-given-crc'] = zlib.crc32(given.tobytes())
    return found


def make_missing(config: ConsensusConfig, corner_zyx: Zyx) -> Mapping[str, int] | None:
    """Computes and writes the consensus of one subvolume unless it exists.

    Args:
      config: see `run_consensus`.
      corner_zyx: first voxel of the subvolume.

    Returns:
      Counters, or None if it existed.

    Raises:
      UserError: see `make_subvolume`; also a result of another request.
    """
    return None if _is_finished(config, corner_zyx) else make_subvolume(config, corner_zyx)


def make_subvolume(config: ConsensusConfig, corner_zyx: Sequence[int]) -> Mapping[str, int]:
    """Computes and writes the consensus of one subvolume.

    Args:
      config: see `run_consensus`.
      corner_zyx: first voxel of the subvolume.

    Returns:
      Counters.

    Raises:
      UserError: a subvolume that cannot be read, or shapes that differ.
    """
    (first, origins), (second, _) = (source.load(corner_zyx) for source in config.sources.values())
    given = (
        config.segmentation1.load_given_ids(corner_zyx, first),
        config.segmentation2.load_given_ids(corner_zyx, second),
    )
    try:
        result = split_consensus(first, second, config.split_min_size, given)
    except UserError as error:
        raise UserError(f'subvolume x,y,z {Zyx.of(corner_zyx).xyz}: {error}') from error
    left = set(fastremap.unique(result.labels).tolist()) - {0}
    counters = {
        'objects': len(left),
        'objects-split-off': len(result.split_off),
        'voxels-dropped': result.dropped_voxels,
    }
    storage.save_result(
        config.segmentation_output_dir,
        corner_zyx,
        result.labels,
        {i: origin for i, origin in origins.items() if i in left},
        config.request,
        {**counters, **_source_checksums(config, corner_zyx)},
        {},
        given_ids=_kept_given_ids(given[0], left - set(result.split_off)),
    )
    return counters


def _kept_given_ids(given: np.ndarray, kept: Collection[int]) -> np.ndarray | None:
    """What ids of the first segmentation are called in its init_segmentation, 0 where the result lacks them.

    Args:
      given: uint64 [n], by id.
      kept: ids that the result has from the first segmentation.
    """
    if not len(given):
        return None
    stays = np.zeros(len(given), bool)
    stays[[i for i in kept if i < len(given)]] = True
    return np.where(stays, given, np.uint64(0))


def segment_reversed(
    config: InferenceConfig,
    forward: str,
    reverse: str,
    pool: Pool,
    quiet: bool = False,
) -> None:
    """Segments the subvolumes of a segmentation again, from its seeds in reverse order.

    Args:
      config: the configuration of the segmentation, with absolute paths.
      forward: folder of the segmentation.
      reverse: folder of the result; existing subvolumes are kept.
      pool: runs the tasks, which share a network.
      quiet: no progress bar.

    Raises:
      UserError: an invalid request, or a subvolume that failed; the others have been segmented.
      SystemExit: stopped by a signal, after checkpoints.
    """
    forward, reverse = os.path.abspath(forward), os.path.abspath(reverse)
    config = resolve(config, pool)
    there = storage.subvolumes(forward)
    _, inputs = request_identity.made_with(config)
    changes = request_identity.compare(config, inputs, next(iter(there.values())))
    if changes.content:
        logging.warning(
            '%s was made with a request other than --inference_request: %s',
            forward,
            changes.content,
        )
    if changes.written and not Path(reverse, provenance.MANIFEST).exists():  # later, claim tells it
        logging.warning('%s may be the result of other inputs: %s', forward, changes.written)
    config = dataclasses.replace(
        config,
        seed_policy='PolicyInvertOrigins',
        seed_policy_args={'segmentation_dir': forward},
        segmentation_output_dir=reverse,
    )
    with exclusive_directory(reverse):
        _claim(config, forward, reverse)
        # Also such as this segmentation does not have.
        for path in storage.subvolume_files(reverse):
            if (corner := storage.corner_of(path)) is not None:
                request_identity.check_earlier_seeds(config, Path(reverse), corner)
        boxes = [
            Box.from_zyx(corner, storage.segmentation_shape(path))
            for corner, path in there.items()
            if not storage.is_finished(reverse, corner)
        ]
        if not boxes:
            return
        begin = time.monotonic()
        with pool.share(NetworkFactory(config)) as workers:
            reports = list(segment_subvolumes(workers, boxes, len(boxes), 'reverse', quiet))
        counters = report.sum_counters(reports)
        counters.pop('objects', None)
        report.write_counters(Path(reverse, 'counters.txt'), counters)
        print(report.summary(reports, time.monotonic() - begin))


def _claim(config: InferenceConfig, forward: str, folder: str) -> None:
    """Claims a folder for a request; refuses one with results of another, or of another init_segmentation."""
    if not Path(folder, provenance.MANIFEST).exists() and any(storage.subvolume_files(folder)):
        raise UserError(
            f'{folder} holds subvolumes that were not made by ffn consensus; omit '
            '--inference_request if they are complete, or give another directory'
        )
    request, inputs = request_identity.made_with(config)
    record = Path(forward, provenance.MANIFEST)
    if record.exists():
        before = provenance.read_claim(record)
        changes = compare_inputs(before, _named_alike(before, request, inputs))
        if changes.content:
            raise UserError(
                f'{changes.content}: it has been written anew since {forward} was made with it; segment that again'
            )
    claim(folder, request, inputs, 'give another folder, or the same settings')


def _named_alike(
    there: dict[str, Any], here: dict[str, Any], inputs: dict[str, str]
) -> dict[str, str]:
    """The inputs that two requests name in the same way; others differ because they are asked for."""
    before, now = there.get('request', here['request']), here['request']
    return {
        name: known
        for name, known in inputs.items()
        if any(name.startswith(field) and before.get(field) == now[field] for field in now)
    }
