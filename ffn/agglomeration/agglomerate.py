"""Joins the pieces of a whole segmentation: candidates, resegmentation, scores, merges.

    python -m ffn.agglomeration.agglomerate --resegmentation_request REQUEST.pbtxt \
      --max_distance 60 --output_volume joined.h5:labels

looks in the volume of inference.init_segmentation for segments that are near each other, segments every
such pair again around the point where they are nearest, and joins those that grow into each other
(Januszewski et al. 2018, Methods, "Agglomeration"). In the request's output_directory are then
candidates.csv, the results of resegmentation, merges.csv and equivalences.csv; --output_volume gets
the labels with joined ids. Run again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import json_format

from ffn.agglomeration import candidates, merges, resegmentation
from ffn.agglomeration.candidates import Search
from ffn.agglomeration.evidence import Thresholds
from ffn.agglomeration.joined_volume import check_output, write_joined
from ffn.agglomeration.merges import MergeDecision
from ffn.agglomeration.pairs import resegment, score
from ffn.distributed.pool import Pool, add_where, open_pool
from ffn.inference import inference_pb2, manifest
from ffn.inference.request import (
    absolute_paths,
    complete_request,
    read_box,
    voxel_size_zyx,
)
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import exclusive_directory
from ffn.utils.protos import read_text_or_file
from ffn.utils.startup import show_log
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.stamps import stamp_of_input
from ffn.volumes.volume import absolute_spec, open_decorated

CHUNK = Xyz(64, 64, 64)


@dataclasses.dataclass(frozen=True)
class Options:
    """How candidates are found and judged.

    Attributes:
      box: part of the volume whose segments are joined.
      max_distance: how far segments grow to find who is near whom, in units of the voxel size.
      block_size: x, y, z voxels that are looked at in one go.
      thresholds: when two are joined.
    """

    box: Box
    max_distance: float
    block_size: Xyz
    thresholds: Thresholds


def agglomerate(
    request: inference_pb2.ResegmentationRequest, options: Options, pool: Pool, quiet: bool = False
) -> list[MergeDecision]:
    """Finds, segments again and judges all pairs, and writes the tables.

    Args:
      request: its points are not used; with inference complete.
      options: see there.
      pool: carries out the tasks.
      quiet: no progress bars.

    Returns:
      All candidates with what became of them.

    Raises:
      UserError: something does not fit, or the folder holds the results of other settings.
      SystemExit: stopped by a signal; what has been done is kept.
    """
    resegmentation.check_request(request)
    manifest.settle(request.inference, pool)
    directory = Path(request.output_directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest.claim(directory, _configuration(request, options))
    table = directory / 'candidates.csv'
    if not table.exists():
        x, y, z = voxel_size_zyx(request.inference)[::-1]
        source = request.inference.init_segmentation.SerializeToString()
        search = Search(source, options.box, (x, y, z), options.max_distance, options.block_size)
        found = candidates.find_candidates(search, directory / 'candidates', pool, quiet)
        candidates.write_candidates(table, found)
    pairs = candidates.read_candidates(table)
    notes = resegment(request, pairs, pool, quiet)
    scores = score(request, [pair for pair in pairs if pair not in notes], pool, quiet)
    judged = [
        MergeDecision(pair, None, accepted=False, note=notes[pair])
        if pair in notes
        else merges.judge(pair, scores[pair], options.thresholds)
        for pair in pairs
    ]
    merges.write_table(directory / 'merges.csv', judged)
    merges.write_equivalences(directory / 'equivalences.csv', equivalences(judged))
    return judged


def equivalences(judged: Sequence[MergeDecision]) -> dict[int, int]:
    """Every id that is joined with another → the lowest id of those that it is one with."""
    accepted = [one.candidate for one in judged if one.accepted]
    return merges.joined([(pair.id_a, pair.id_b) for pair in accepted])


def _configuration(
    request: inference_pb2.ResegmentationRequest, options: Options
) -> dict[str, Any]:
    """What the results of resegmentation depend on, as JSON."""
    deciding = inference_pb2.ResegmentationRequest()
    deciding.CopyFrom(request)
    for name in ('points', 'inference', 'output_directory'):
        deciding.ClearField(name)
    return {
        'model_sha256': manifest.model_digest(request.inference.model_checkpoint_path),
        'init_segmentation_made_from': stamp_of_input(request.inference.init_segmentation),
        'resegmentation': json_format.MessageToDict(deciding, preserving_proto_field_name=True),
        'inference': manifest.deciding(request.inference),
        'box': str(options.box), 'max_distance': options.max_distance,
        'block_size': list(options.block_size),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> list[MergeDecision]:
    """Agglomerates as the command line says.

    Returns:
      See `agglomerate`.

    Raises:
      UserError: see `agglomerate`.
    """
    args = _parser().parse_args(argv)
    request = read_text_or_file(
        args.resegmentation_request,
        inference_pb2.ResegmentationRequest(),
        '--resegmentation_request',
    )
    resegmentation.check_request(request)
    absolute_paths(request)
    complete_request(request.inference)
    with open_decorated(request.inference.init_segmentation, 'init_segmentation') as volume:
        whole = volume.require_labels().box
    box = whole
    if args.bounding_box:
        box = read_box(args.bounding_box).intersection(whole)
        if box is None:
            raise UserError(f'--bounding_box lies outside the segmentation, which covers {whole}')
        if box != read_box(args.bounding_box):
            logging.warning('--bounding_box leaves the segmentation; clipped to %s', box)
    options = Options(
        box, args.max_distance, Xyz.parse(args.block_size, '--block_size'),
        Thresholds(args.min_iou, args.min_consistency, args.max_deleted),
    )  # fmt: skip
    size = voxel_size_zyx(request.inference)[::-1]
    output = OutputSpec(absolute_spec(args.output_volume), box, CHUNK, size)
    if args.output_volume:
        check_output(output, Path(request.output_directory))
    threads = request.inference.concurrent_requests
    with (
        exclusive_directory(request.output_directory),
        open_pool(args.scheduler, args.workers, threads, args.resource) as pool,
    ):
        judged = agglomerate(request, options, pool, args.quiet)
        if args.output_volume:
            write_joined(
                request.inference.init_segmentation, equivalences(judged), output,
                Path(request.output_directory), pool, args.quiet,
            )  # fmt: skip
    accepted, table = sum(one.accepted for one in judged), equivalences(judged)
    impossible = sum(one.scores is None for one in judged)
    print(
        f'{len(judged)} pairs, {accepted} accepted, {impossible} could not be segmented again; {len(table)} segments become '
        f'{len(set(table.values()))}; tables are in {request.output_directory}'
    )
    return judged


def _parser() -> argparse.ArgumentParser:
    defaults = Thresholds()
    parser = argparse.ArgumentParser(
        prog='python -m ffn.agglomeration.agglomerate', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--resegmentation_request', required=True, metavar='REQUEST',
                        help='ResegmentationRequest, text format or a file; its points are not used')  # fmt: skip
    parser.add_argument('--bounding_box', default='', metavar='BOX',
                        help='part of the segmentation: BoundingBox, text format or a file (all)')  # fmt: skip
    parser.add_argument('--max_distance', type=float, required=True, metavar='D',
                        help='how far segments grow to find neighbours, in units of voxel_size')  # fmt: skip
    parser.add_argument('--block_size', default='256,256,256', metavar='X,Y,Z',
                        help='voxels that are looked at in one go (256,256,256)')  # fmt: skip
    parser.add_argument('--min_iou', type=float, default=defaults.min_iou, metavar='F',
                        help=f'overlap of the two results must be above ({defaults.min_iou})')  # fmt: skip
    parser.add_argument('--min_consistency', type=float, default=defaults.min_consistency,
                        metavar='F', help='part of either segment in either result must be above '
                        f'({defaults.min_consistency})')  # fmt: skip
    parser.add_argument('--max_deleted', type=float, default=defaults.max_deleted, metavar='F',
                        help='voxels taken back over voxels, of one result, must be below '
                        f'({defaults.max_deleted})')  # fmt: skip
    parser.add_argument('--output_volume', default='', metavar='VOLUME', help='the labels with joined '
                        'ids: FILE.h5:DATASET, or zarr://, zarr3://, n5:// or precomputed:// before a '
                        'path; voxel_size is in nanometres for the last (none)')  # fmt: skip
    add_where(parser.add_argument)
    return parser


if __name__ == '__main__':
    show_log()
    run_tool(main)
