"""`ffn consensus`: splits objects wherever one of two segmentations does."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ffn.agglomeration import consensus_config
from ffn.agglomeration.consensus_run import check_finished, run_consensus, segment_reversed
from ffn.cli.flags import add_settings, make_parser, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.inference.request import read_config


def main(argv: Sequence[str] | None = None) -> dict[str, int]:
    """Computes the consensus of all subvolumes, after segmenting in reverse order what is missing.

    Returns:
      See `run_consensus`.

    Raises:
      UserError: see `run_consensus`.
    """
    args = _parser().parse_args(argv)
    config = consensus_config.read_config(args.consensus_request)
    check_finished(config)
    inference = None
    if args.inference_request:
        inference = read_config(args.inference_request, absolute=True)
    threads = 1 if inference is None else inference.concurrent_requests
    with read_settings(args, PoolConfig).open(threads) as pool:
        if inference is not None:
            directories = config.segmentation1.directory, config.segmentation2.directory
            segment_reversed(inference, *directories, pool, args.quiet)
        done = run_consensus(config, pool, args.quiet)
    print(', '.join(f'{name} {value}' for name, value in done.items()))
    print(f'written to {Path(config.segmentation_output_dir)}')
    return done


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'consensus',
        'Writes, for every subvolume of segmentation1, one to segmentation_output_dir that is split\n'
        'wherever one of the two segmentations is. With --inference_request, subvolumes that\n'
        'segmentation2 lacks are segmented first, from the seeds of segmentation1 in reverse order.\n'
        'Existing results are not repeated.',
        "ffn consensus --inference_request REQUEST.pbtxt --consensus_request '\n"
        '  segmentation1 { directory: "forward" } segmentation2 { directory: "reverse" }\n'
        '  segmentation_output_dir: "consensus" type: CONSENSUS_SPLIT split_min_size: 1000\'',
    )
    add = parser.add_argument_group('What is compared').add_argument
    add(
        '--consensus_request',
        required=True,
        metavar='REQUEST',
        help='ConsensusRequest, text format or a file',
    )
    add(
        '--inference_request',
        default='',
        metavar='REQUEST',
        help='InferenceRequest of segmentation1, text format or a file: segments in reverse order what '
        'segmentation2 lacks',
    )
    add_settings(parser, 'Where it runs', PoolConfig)
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    return parser
