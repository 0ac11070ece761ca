"""`ffn segment`: a whole volume, subvolume by subvolume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ffn.agglomeration.pyramid_run import (
    Pyramid,
    PyramidConfig,
    read_pyramid,
    segment_pyramid,
)
from ffn.assembly.assembly import describe
from ffn.assembly.config import AssemblyConfig
from ffn.assembly.whole_volume import segment_volume
from ffn.cli.flags import parse_command, read_settings
from ffn.distributed.pool import PoolConfig
from ffn.inference.config import InferenceConfig
from ffn.inference.request import read_box, read_config
from ffn.utils.errors import UserError
from ffn.utils.settings import section, setting
from ffn.volumes.missing import MISSING_HELP, ON_MISSING, OnMissing


@dataclass(frozen=True)
class Segment:
    """Settings of the command."""

    inference_request: str = setting('InferenceRequest, text format or a file', metavar='REQUEST')
    assembly: AssemblyConfig = section('Records')
    bounding_box: str = setting(
        'what is segmented: BoundingBox (x, y, z), text format or a file; by default the whole image',
        default='',
        metavar='BOX',
    )
    pyramid: PyramidConfig = section('From coarse to fine', default_factory=PyramidConfig)
    pool: PoolConfig = section('Where it runs', default_factory=PoolConfig)
    missing: OnMissing = setting(MISSING_HELP, default='tell', choices=ON_MISSING, metavar='ACTION')
    quiet: bool = setting('no progress bars', default=False)


def run(command: Segment) -> dict[str, Any]:
    """Segments, assembles and prints a summary; returns the statistics of the reconciliation."""
    passes = _read_passes(command)
    config = passes.fine if isinstance(passes, Pyramid) else passes
    for name in ('segmentation_output_dir', 'seed_policy'):
        if not getattr(config, name):
            raise UserError(f'the inference request does not set {name}, which is needed')
    if isinstance(passes, Pyramid) and not passes.coarse.seed_policy:
        raise UserError('the request of --pyramid does not set seed_policy, which is needed')
    box = read_box(command.bounding_box) if command.bounding_box else None
    assembled = command.assembly
    if command.missing == 'error':
        assembled = assembled.refusing_missing()
    with command.pool.open(threads=config.concurrent_requests) as pool:
        if isinstance(passes, Pyramid):
            both = command.pyramid.consensus
            assembly, statistics = segment_pyramid(
                passes, box, assembled, both, pool, command.quiet
            )
        else:
            assembly, statistics = segment_volume(config, box, assembled, pool, command.quiet)
    print(describe(statistics, assembly))
    return statistics


def _read_passes(command: Segment) -> InferenceConfig | Pyramid:
    """What is segmented, in one pass or two."""
    passes: InferenceConfig | Pyramid
    if command.pyramid.request:
        passes = read_pyramid(command.inference_request, command.pyramid.request)
    else:
        passes = read_config(command.inference_request, absolute=True)
    return passes.refusing_missing() if command.missing == 'error' else passes


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Segments a whole volume.

    Returns:
      The statistics of the reconciliation.

    Raises:
      UserError: see `ffn.assembly.whole_volume.segment_volume`; also a request that is incomplete.
      SystemExit: stopped by a signal, after checkpoints.
    """
    args = parse_command(
        'segment',
        'Segments a whole volume: subvolume by subvolume, as run_inference.py does, into the\n'
        "request's segmentation_output_dir, and then makes one volume of them, as `ffn assemble` does.\n"
        'Killed at any time and restarted, it resumes: finished subvolumes are kept, others continue\n'
        'from their checkpoints, and results of other settings are refused.',
        'Input',
        Segment,
        argv,
        epilog='ffn segment --inference_request REQUEST.pbtxt --subvolume_size 544,544,544 \\\n'
        '  --overlap 32,32,32 --output zarr://whole.zarr --scheduler local',
    )
    return run(read_settings(args, Segment))
