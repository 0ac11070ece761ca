"""Consensus and agglomeration on real data: what they do to splits and mergers.

    python -m benchmarks.consensus_real --data FOLDER [--work FOLDER]
    python -m benchmarks.consensus_real --data FOLDER --request configs/inference_fib25_small.pbtxt \
      --box 'start { x:0 y:0 z:150 } size { x:250 y:250 z:100 }'

segments a box of training_sample2 with the published network, or with that of a request, once more from
the seeds in reverse order, makes the consensus of the two, and joins its pieces again by resegmentation.
VOI (bits) and adapted Rand error are over the voxels that all of these label, so that they differ by
splits and mergers alone; 'filled' is the part of the box that each labels. With --work, what is there
already is not made again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import fastremap
import h5py
import numpy as np

from benchmarks import measure, real_segmentation
from ffn.agglomeration import agglomerate, consensus_config, consensus_run
from ffn.agglomeration.agglomerate import AgglomerationConfig
from ffn.agglomeration.config import make_config as make_resegmentation_config
from ffn.agglomeration.consensus_config import ConsensusConfig
from ffn.agglomeration.evidence import Thresholds
from ffn.distributed.local_pools import InProcess
from ffn.evaluation.rand import rand_score
from ffn.evaluation.voi import voi_score
from ffn.inference import box_run, consensus_pb2, inference_pb2
from ffn.inference.request import make_config, read_box, read_request
from ffn.utils.geometry import Xyz, Zyx

PUBLISHED = measure.ROOT / 'configs' / 'inference_training_sample2.pbtxt'
VOXEL_SIZE = Xyz(10, 10, 10)
RADIUS, ANALYSIS, NEAR = Xyz(32, 32, 32), Xyz(24, 24, 24), Xyz(4, 4, 4)


def inference_request(args: argparse.Namespace, folder: Path) -> inference_pb2.InferenceRequest:
    """The request of the first segmentation."""
    request = read_request(args.request or str(PUBLISHED))
    if not args.request:
        request.model_checkpoint_path = str(Path(args.data, 'fib25/model/model.ckpt-27465036'))
    request.image.hdf5 = f'{folder}/volume.h5:raw'
    request.segmentation_output_dir = f'{folder}/forward'
    request.precision = args.precision
    for axis, size in zip('xyz', VOXEL_SIZE, strict=True):
        setattr(request.voxel_size, axis, size)
    return request


def consensus_of(folder: Path, min_size: int) -> ConsensusConfig:
    """Forward against reverse order."""
    return consensus_config.make_config(
        consensus_pb2.ConsensusRequest(
            segmentation1={'directory': f'{folder}/forward'},
            segmentation2={'directory': f'{folder}/reverse'},
            segmentation_output_dir=f'{folder}/consensus',
            split_min_size=min_size,
        )
    )


def joined(
    request: inference_pb2.InferenceRequest,
    labels: np.ndarray,
    corner: Zyx,
    args: argparse.Namespace,
    folder: Path,
) -> tuple[np.ndarray, int, int]:
    """Agglomerates labels; returns them with the numbers of candidates and accepted pairs."""
    with h5py.File(folder / 'consensus.h5', 'w') as file:
        whole = np.zeros(np.add(corner, labels.shape), np.uint64)
        whole[tuple(slice(c, None) for c in corner)] = labels
        file['labels'] = whole
    again = inference_pb2.ResegmentationRequest(
        inference=request,
        output_directory=f'{folder}/again',
        radius=RADIUS.to_proto(),
        analysis_radius=ANALYSIS.to_proto(),
        init_exclusion_radius=NEAR.to_proto(),
        exclusion_radius=NEAR.to_proto(),
        segment_recovery_fraction=0.6,
        max_retry_iters=2,
        terminate_early=True,
    )
    again.inference.init_segmentation.hdf5 = f'{folder}/consensus.h5:labels'
    config = AgglomerationConfig(
        read_box(args.box),
        Thresholds(args.min_iou, args.min_consistency, args.max_deleted),
        args.max_distance,
    )
    found = agglomerate.agglomerate(
        make_resegmentation_config(again), config, InProcess(), args.quiet
    )
    joined_labels = fastremap.remap(labels, found.equivalences, preserve_missing_labels=True)
    return joined_labels, found.pairs, found.accepted


def run(args: argparse.Namespace, folder: Path) -> None:
    """Makes all of it and prints the table."""
    box = read_box(args.box)
    if not (folder / 'volume.h5').exists():
        real_segmentation.write_image(args.data, folder / 'volume.h5')
    truth = measure.sample_labels(args.data)[box.slices_zyx]
    request = inference_request(args, folder)
    times, begin = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begin
        times[name], begin = time.perf_counter() - begin, time.perf_counter()

    box_run.run(make_config(request), [box], quiet=args.quiet)
    lap('forward')
    consensus_run.segment_reversed(
        make_config(request), f'{folder}/forward', f'{folder}/reverse', InProcess(), args.quiet
    )
    lap('reverse')
    consensus_run.run_consensus(consensus_of(folder, args.split_min_size), InProcess(), args.quiet)
    lap('consensus')
    corner = box.start.zyx
    labels = {
        name: real_segmentation.stored(folder / name, corner)
        for name in ('forward', 'reverse', 'consensus')
    }
    begin = time.perf_counter()
    labels['joined'], pairs, accepted = joined(request, labels['consensus'], corner, args, folder)
    lap('joined')
    common = np.all([volume > 0 for volume in labels.values()], axis=0)
    print(
        f'{"":10s} {"split":>7s} {"merge":>7s} {"Rand":>7s} {"filled":>7s} {"objects":>8s} {"s":>8s}'
    )
    for name, volume in labels.items():
        here = np.where(common, volume, 0)
        voi, rand = voi_score(truth, here, 'segmentation'), rand_score(truth, here, 'segmentation')
        print(
            f'{name:10s} {voi.split:7.4f} {voi.merge:7.4f} {rand.error:7.4f} {(volume > 0).mean():7.1%} '
            f'{len(fastremap.unique(volume[volume > 0])):8d} {times[name]:8.1f}'
        )
    print(f'{pairs} candidate pairs, {accepted} accepted; box {box}')


def main() -> None:
    """Makes all of it and prints the table."""
    parser = measure.parser(__doc__.splitlines()[0])
    defaults = Thresholds()
    parser.add_argument('--request', default='', help='InferenceRequest (the published network)')
    parser.add_argument('--box', default='start { x:60 y:60 z:60 } size { x:120 y:120 z:120 }')
    parser.add_argument('--precision', default='bfloat16')
    parser.add_argument('--split_min_size', type=int, default=200)
    parser.add_argument('--max_distance', type=float, default=20, help='nanometres')
    parser.add_argument('--min_iou', type=float, default=defaults.min_iou)
    parser.add_argument('--min_consistency', type=float, default=defaults.min_consistency)
    parser.add_argument('--max_deleted', type=float, default=defaults.max_deleted)
    measure.run_with_network(parser, run)


if __name__ == '__main__':
    measure.run_bench(main)
