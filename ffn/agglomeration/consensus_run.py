"""The consensus of two segmentations, subvolume by subvolume.

Merge errors depend on the order in which objects are grown, so the second segmentation is usually the first
one repeated from its seeds in reverse order (`segment_reversed`); few mergers then survive the consensus
(Januszewski et al. 2018, Methods, "Oversegmentation consensus"). Finished subvolumes are not repeated.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import fastremap
import numpy as np
from absl import logging

from ffn.agglomeration.consensus import split_consensus
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import consensus_pb2, inference_pb2, report, request_identity, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.worker_network import NetworkFactory, segment_subvolumes
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Zyx
from ffn.utils.locks import exclusive_directory
from ffn.utils.npz import read_npz, stored_bytes
from ffn.volumes import provenance


def run_consensus(
    request: consensus_pb2.ConsensusRequest, pool: Pool, quiet: bool = False
) -> dict[str, int]:
    """Computes the consensus of every subvolume.

    Args:
      request: the two segmentations and the output.
      pool: runs the tasks.
      quiet: no progress bar.

    Returns:
      Totals over the subvolumes computed now: their number, objects, objects split off, and voxels that
      became background.

    Raises:
      UserError: the request is incomplete, subvolumes are missing or do not match, or the output holds
        something else. Finished subvolumes are kept.
    """
    check_request(request)
    corners = list(storage.subvolumes(request.segmentation1.directory))
    other = storage.subvolumes(request.segmentation2.directory)
    missing = [corner for corner in corners if corner not in other]
    if missing:
        raise UserError(
            f'{request.segmentation2.directory} lacks {len(missing)} of the {len(corners)} '
            f'subvolumes of {request.segmentation1.directory}, among them that of x,y,z '
            f'{missing[0].xyz}; --inference_request segments them in reverse order'
        )
    todo = [corner for corner in corners if not _is_finished(request, corner)]
    if len(todo) < len(corners):
        logging.info('%d of %d subvolumes already exist', len(corners) - len(todo), len(corners))
    total = dict.fromkeys(('objects', 'objects-split-off', 'voxels-dropped'), 0)
    text = request.SerializeToString()
    tasks = ((text, corner) for corner in todo)
    with exclusive_directory(request.segmentation_output_dir):
        for counters in run_stage(pool, make_subvolume, tasks, len(todo), 'consensus', quiet):
            for name, value in counters.items():
                total[name] += value
    return {'subvolumes': len(todo), **total}


def check_request(request: consensus_pb2.ConsensusRequest) -> None:
    """Checks that a request is complete, and so are the segmentations that it names.

    Raises:
      UserError: names the field, or an unfinished segmentation.
    """
    for name in ('segmentation1', 'segmentation2'):
        directory = getattr(request, name).directory
        if not directory:
            raise UserError(f'the consensus request does not set {name}.directory')
        if Path(directory, storage.UNFINISHED).exists():
            raise UserError(f'{name}, {directory}, is not complete; let ffn segment finish first')
    if _same_folder(request.segmentation1.directory, request.segmentation2.directory):
        raise UserError(
            f'segmentation1 and segmentation2 are both {request.segmentation1.directory}; expected two'
        )
    if not request.segmentation_output_dir:
        raise UserError('the consensus request does not set segmentation_output_dir')
    if request.split_min_size < 0:
        raise UserError(f'split_min_size is {request.split_min_size}; expected 0 or more')


def _same_folder(first: str, second: str) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _is_finished(request: consensus_pb2.ConsensusRequest, corner: Zyx) -> bool:
    """Whether a subvolume exists that was made with the same request from the same labels."""
    path = storage.existing_path(request.segmentation_output_dir, corner, 'npz')
    if path is None:
        return False
    stored = read_npz(path, ['request', 'counters'], [])
    text = request.SerializeToString()
    if 'request' not in stored or stored_bytes(stored['request']) != text:
        raise UserError(
            f'{path} is the result of another request; give another segmentation_output_dir'
        )
    counters = json.loads(stored['counters'].item())
    return {**counters, **_source_checksums(request, corner)} == counters


def _source_checksums(
    request: consensus_pb2.ConsensusRequest, corner_zyx: Sequence[int]
) -> dict[str, int]:
    """Returns the checksums of the labels that a subvolume is made from."""
    found = {}
    for name in ('segmentation1', 'segmentation2'):
        path = storage.existing_path(getattr(request, name).directory, corner_zyx, 'npz')
        if path is None:
            raise UserError(f'{getattr(request, name).directory} lacks {Zyx.of(corner_zyx).xyz}')
        found[f'{name}-crc'] = provenance.checksums(path)[0]
    return found


def make_subvolume(request: bytes, corner_zyx: Sequence[int]) -> Mapping[str, int]:
    """Computes and writes the consensus of one subvolume.

    Args:
      request: serialized ConsensusRequest.
      corner_zyx: first voxel of the subvolume.

    Returns:
      Counters.

    Raises:
      UserError: a subvolume that cannot be read, or shapes that differ.
    """
    asked = consensus_pb2.ConsensusRequest.FromString(request)
    (first, origins), (second, _) = (
        load_source(source, corner_zyx) for source in (asked.segmentation1, asked.segmentation2)
    )
    try:
        result = split_consensus(first, second, asked.split_min_size)
    except UserError as error:
        raise UserError(f'subvolume x,y,z {Zyx.of(corner_zyx).xyz}: {error}') from error
    left = set(fastremap.unique(result.labels).tolist()) - {0}
    counters = {
        'objects': len(left),
        'objects-split-off': len(result.split_off),
        'voxels-dropped': result.dropped_voxels,
    }
    storage.save_result(
        asked.segmentation_output_dir,
        corner_zyx,
        result.labels,
        {i: origin for i, origin in origins.items() if i in left},
        request,
        {**counters, **_source_checksums(asked, corner_zyx)},
        {},
    )
    return counters


def load_source(
    source: inference_pb2.SegmentationSource, corner_zyx: Sequence[int]
) -> tuple[np.ndarray, dict[int, storage.OriginInfo]]:
    """Loads a subvolume as described by a SegmentationSource; see `ffn.inference.storage`.

    Returns:
      uint64 [z, y, x] labels and {id: OriginInfo}.
    """
    return storage.load_segmentation(
        source.directory,
        corner_zyx,
        split_cc=source.split_cc,
        min_size=source.min_size,
        threshold=source.threshold if source.HasField('threshold') else None,
        mask_config=source.mask if source.HasField('mask') else None,
    )


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
    config = request_identity.resolve(config, pool)
    there = storage.subvolumes(forward)
    if differences := request_identity.compare(config, next(iter(there.values()))):
        logging.warning(
            '%s was made with a request other than --inference_request: %s', forward, differences
        )
    config = dataclasses.replace(
        config,
        seed_policy='PolicyInvertOrigins',
        seed_policy_args={'segmentation_dir': forward},
        segmentation_output_dir=reverse,
    )
    with exclusive_directory(reverse):
        _claim(config, reverse)
        boxes = [
            Box.from_zyx(corner, storage.segmentation_shape(path))
            for corner, path in there.items()
            if storage.existing_path(reverse, corner, 'npz') is None
        ]
        if not boxes:
            return
        begin = time.monotonic()
        with pool.share(NetworkFactory(config)) as workers:
            reports = list(segment_subvolumes(workers, boxes, len(boxes), 'reverse', quiet))
        print(report.summary(reports, time.monotonic() - begin))
        counters = report.sum_counters(reports)
        counters.pop('objects', None)
        report.write_counters(Path(reverse, 'counters.txt'), counters)


def _claim(config: InferenceConfig, folder: str) -> None:
    """Claims a folder for a request; refuses one with results of another."""
    if not Path(folder, provenance.MANIFEST).exists() and list(Path(folder).glob('**/seg-*.npz')):
        raise UserError(
            f'{folder} holds subvolumes that were not made by ffn consensus; omit '
            '--inference_request if they are complete, or give another directory'
        )
    provenance.claim(
        folder,
        {
            'request': request_identity.result_fields(config),
            'model_sha256': provenance.model_digest(config.model_checkpoint_path),
        },
    )
