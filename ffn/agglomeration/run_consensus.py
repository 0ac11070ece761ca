"""Consensus of two segmentations, over all their subvolumes.

    python -m ffn.agglomeration.run_consensus --consensus_request '
      segmentation1 { directory: "forward" } segmentation2 { directory: "reverse" }
      segmentation_output_dir: "consensus" type: CONSENSUS_SPLIT split_min_size: 1000' \
      --inference_request REQUEST.pbtxt

writes, for every subvolume of segmentation1, one to segmentation_output_dir that is split wherever
one of the two is. With --inference_request, which is that of segmentation1, subvolumes that
segmentation2 lacks are segmented first: from the seeds of segmentation1, the last one first. Merge
errors depend on the order, so that few are left (Januszewski et al. 2018, Methods, "Oversegmentation
consensus"). What exists already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import fastremap
from absl import logging

from ffn.agglomeration.consensus import split_consensus
from ffn.distributed.pool import Pool, add_where, open_pool, run_stage
from ffn.inference import consensus_pb2, inference_pb2, manifest, storage
from ffn.inference.request import absolute_paths, read_request
from ffn.utils import protos
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Zyx
from ffn.utils.locks import exclusive_directory
from ffn.utils.npz import read_npz
from ffn.utils.startup import show_log


def run(request: consensus_pb2.ConsensusRequest, pool: Pool, quiet: bool = False) -> dict[str, int]:
    """Makes the consensus of every subvolume.

    Args:
      request: what to do.
      pool: carries out the tasks.
      quiet: no progress bar.

    Returns:
      Sums over the subvolumes that were made now: how many, objects before and after, voxels that
      became background.

    Raises:
      UserError: the request is incomplete, subvolumes are missing or do not fit, or the output
        holds something else. Subvolumes that are finished stay.
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
    todo = [corner for corner in corners if not _exists(request, corner)]
    if len(todo) < len(corners):
        logging.info('%d of %d subvolumes exist already', len(corners) - len(todo), len(corners))
    total = dict.fromkeys(('objects', 'objects-split-off', 'voxels-dropped'), 0)
    text = request.SerializeToString()
    tasks = ((text, corner) for corner in todo)
    with exclusive_directory(request.segmentation_output_dir):
        for counters in run_stage(pool, make_subvolume, tasks, len(todo), 'consensus', quiet):
            for name, value in counters.items():
                total[name] += value
    return {'subvolumes': len(todo), **total}


def check_request(request: consensus_pb2.ConsensusRequest) -> None:
    """Checks that a request and what it names are complete.

    Raises:
      UserError: names the field, or a segmentation to which more is to come.
    """
    for name in ('segmentation1', 'segmentation2'):
        directory = getattr(request, name).directory
        if not directory:
            raise UserError(f'the consensus request does not set {name}.directory')
        if Path(directory, storage.UNFINISHED).exists():
            raise UserError(
                f'{name}, {directory}, is not complete; run segment_volume to its end first'
            )
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


def _exists(request: consensus_pb2.ConsensusRequest, corner: Zyx) -> bool:
    """Whether a subvolume has been made, with the same request and from the same labels."""
    path = storage.existing_path(request.segmentation_output_dir, corner, 'npz')
    if path is None:
        return False
    stored = read_npz(path, ['request', 'counters'], [])
    # NumPy drops zeros at the end of bytes.
    if 'request' not in stored or stored['request'].item() != request.SerializeToString().rstrip(
        b'\0'
    ):
        raise UserError(
            f'{path} is the result of another request; give a segmentation_output_dir of its own'
        )
    counters = json.loads(stored['counters'].item())
    return {**counters, **_sources(request, corner)} == counters


def _sources(request: consensus_pb2.ConsensusRequest, corner_zyx: Sequence[int]) -> dict[str, int]:
    """Checksums of the labels that a subvolume is made from."""
    found = {}
    for name in ('segmentation1', 'segmentation2'):
        path = storage.existing_path(getattr(request, name).directory, corner_zyx, 'npz')
        found[f'{name}-crc'] = storage.checksums(path)[0]
    return found


def make_subvolume(request: bytes, corner_zyx: Sequence[int]) -> Mapping[str, int]:
    """Makes and writes the consensus of one subvolume.

    Args:
      request: serialised ConsensusRequest.
      corner_zyx: first voxel of the subvolume.

    Returns:
      Counters of what was done.

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
        'objects': len(left), 'objects-split-off': len(result.split_off),
        'voxels-dropped': result.dropped_voxels,
    }  # fmt: skip
    storage.save_result(
        asked.segmentation_output_dir, corner_zyx, result.labels,
        {i: origin for i, origin in origins.items() if i in left}, request,
        {**counters, **_sources(asked, corner_zyx)}, {},
    )  # fmt: skip
    return counters


def load_source(source: inference_pb2.SegmentationSource, corner_zyx: Sequence[int]):
    """Loads a subvolume as a SegmentationSource says; see `ffn.inference.storage`.

    Returns:
      uint64 [z, y, x] labels and {id: OriginInfo}.
    """
    return storage.load_segmentation(
        source.directory, corner_zyx, split_cc=source.split_cc, min_size=source.min_size,
        threshold=source.threshold if source.HasField('threshold') else None,
        mask_config=source.mask if source.HasField('mask') else None,
    )  # fmt: skip


def segment_reversed(
    request: inference_pb2.InferenceRequest, forward: str, reverse: str, pool: Pool,
    quiet: bool = False,
) -> None:  # fmt: skip
    """Segments the subvolumes of a segmentation once more, from its seeds in falling order.

    Args:
      request: that of the segmentation.
      forward: its folder.
      reverse: folder of the result; what is there already stays.
      pool: whose workers load the network, where they can; else it is done in this process.
      quiet: no progress bar.

    Raises:
      UserError: something does not fit, or a subvolume failed; the others have been segmented.
      SystemExit: stopped by a signal, after checkpoints.
    """
    reversed_ = inference_pb2.InferenceRequest()
    reversed_.CopyFrom(request)
    absolute_paths(reversed_)
    forward, reverse = os.path.abspath(forward), os.path.abspath(reverse)
    reversed_.seed_policy = 'PolicyInvertOrigins'
    reversed_.seed_policy_args = json.dumps({'segmentation_dir': forward})
    reversed_.segmentation_output_dir = reverse
    manifest.settle(reversed_, pool)
    there = storage.subvolumes(forward)
    asked = inference_pb2.InferenceRequest()
    asked.CopyFrom(request)
    asked.model_checkpoint_path = reversed_.model_checkpoint_path
    asked.precision = reversed_.precision
    if differences := manifest.compare(asked, next(iter(there.values()))):
        logging.warning('%s was made with another request than --inference_request: %s', forward,
                        differences)  # fmt: skip
    with exclusive_directory(reverse):
        _claim(reversed_, reverse)
        boxes = [
            Box.from_zyx(corner, storage.segmentation_shape(path))
            for corner, path in there.items()
            if storage.existing_path(reverse, corner, 'npz') is None
        ]
        if not boxes:
            return
        if not pool.distributed:
            from ffn.inference import box_run

            box_run.segment_request(reversed_, boxes, quiet=quiet)
            return
        from ffn.inference.worker_network import networks, segment_subvolume

        with networks(pool, reversed_) as known:
            tasks = ((known.name, box.start.zyx, box.size.zyx) for box in boxes)
            for _ in run_stage(known.pool, segment_subvolume, tasks, len(boxes), 'reverse', quiet):
                pass


def _claim(request: inference_pb2.InferenceRequest, folder: str) -> None:
    """Makes a folder that of a request; one that holds results of another is refused."""
    if not Path(folder, manifest.NAME).exists() and list(Path(folder).glob('**/seg-*.npz')):
        raise UserError(
            f'{folder} holds subvolumes that were not made by run_consensus; leave out '
            '--inference_request if they are complete, or give another directory'
        )
    manifest.claim(folder, {
        'request': manifest.deciding(request),
        'model_sha256': manifest.model_digest(request.model_checkpoint_path),
    })  # fmt: skip


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
    """Makes a consensus as the command line says.

    Returns:
      See `run`.

    Raises:
      UserError: see `run`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.agglomeration.run_consensus', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--consensus_request', required=True, metavar='REQUEST',
                        help='ConsensusRequest, text format or a file')  # fmt: skip
    parser.add_argument('--inference_request', default='', metavar='REQUEST',
                        help='InferenceRequest of segmentation1, text format or a file: segments in '
                        'reverse order what segmentation2 lacks')  # fmt: skip
    add_where(parser.add_argument)
    args = parser.parse_args(argv)
    request = protos.read_text_or_file(
        args.consensus_request, consensus_pb2.ConsensusRequest(), '--consensus_request'
    )
    check_request(request)
    absolute_paths(request)
    inference = read_request(args.inference_request) if args.inference_request else None
    threads = 1 if inference is None else inference.concurrent_requests
    with open_pool(args.scheduler, args.workers, threads, args.resource) as pool:
        if inference is not None:
            absolute_paths(inference)
            directories = request.segmentation1.directory, request.segmentation2.directory
            segment_reversed(inference, *directories, pool, args.quiet)
        done = run(request, pool, args.quiet)
    print(', '.join(f'{name} {value}' for name, value in done.items()))
    print(f'written to {Path(request.segmentation_output_dir)}')
    return done


if __name__ == '__main__':
    show_log()
    run_tool(main)
