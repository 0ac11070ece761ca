"""Joins the pieces of a whole segmentation: candidates, resegmentation, scores, merges.

    python -m ffn.assembly.agglomerate --resegmentation_request REQUEST.pbtxt \
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
import threading
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from absl import logging
from google.protobuf import json_format

from ffn.assembly import candidates as candidates_of
from ffn.assembly import manifest, merges
from ffn.assembly.candidates import Candidate
from ffn.assembly.joined_volume import write_joined
from ffn.assembly.merges import Judged
from ffn.assembly.outputs import OutputSpec, absolute_spec
from ffn.inference import inference_pb2, resegmentation
from ffn.inference.request import complete_request, read_box, voxel_size_zyx
from ffn.inference.resegmentation_analysis import Thresholds, evaluate_pair
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz
from ffn.utils.progress import progress
from ffn.utils.protos import read_text_or_file
from ffn.utils.signals import stop_on_signal
from ffn.utils.startup import startup_messages_hidden
from ffn.utils.volumes import open_decorated

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
    request: inference_pb2.ResegmentationRequest, options: Options, quiet: bool = False
) -> list[Judged]:
    """Finds, segments again and judges all pairs, and writes the tables.

    Args:
      request: its points are not used; with inference complete.
      options: see there.
      quiet: no progress bars.

    Returns:
      All candidates with what became of them.

    Raises:
      UserError: something does not fit, or the folder holds the results of other settings.
      SystemExit: stopped by a signal; what has been done is kept.
    """
    resegmentation.check_request(request)
    directory = Path(request.output_directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest.claim(directory, _configuration(request, options))
    with open_decorated(request.inference.init_segmentation, 'init_segmentation') as volume:
        labels = volume.require_labels()
        table = directory / 'candidates.csv'
        if not table.exists():
            size = voxel_size_zyx(request.inference)[::-1]
            found = candidates_of.find_candidates(
                labels, options.box, size, options.max_distance, options.block_size, quiet
            )
            candidates_of.write_candidates(table, found)
        pairs = candidates_of.read_candidates(table)
        notes = resegment(request, pairs, quiet)
        judged = []
        for pair in progress(pairs, desc='judging', unit='pair', quiet=quiet):
            if pair in notes:
                judged.append(Judged(pair, None, accepted=False, note=notes[pair]))
                continue
            path = resegmentation.result_path(request, point_of(pair))
            judged.append(merges.judge(pair, evaluate_pair(path, labels).eval, options.thresholds))
    merges.write_table(directory / 'merges.csv', judged)
    merges.write_equivalences(directory / 'equivalences.csv', equivalences(judged))
    return judged


def equivalences(judged: Sequence[Judged]) -> dict[int, int]:
    """Every id that is joined with another → the lowest id of those that it is one with."""
    accepted = [one.candidate for one in judged if one.accepted]
    return merges.joined([(pair.id_a, pair.id_b) for pair in accepted])


def point_of(pair: Candidate) -> inference_pb2.ResegmentationPoint:
    """A candidate as a point of a request."""
    return inference_pb2.ResegmentationPoint(
        id_a=pair.id_a, id_b=pair.id_b, point=pair.point.to_proto()
    )


def resegment(
    request: inference_pb2.ResegmentationRequest, pairs: Sequence[Candidate], quiet: bool = False
) -> dict[Candidate, str]:
    """Segments pairs again, as many at a time as concurrent_requests says; what exists stays.

    Args:
      request: with inference complete.
      pairs: the candidates.
      quiet: no progress bar.

    Returns:
      Pairs for which it was not possible → why.

    Raises:
      SystemExit: stopped by a signal.
      Exception: what the network raised.
    """
    todo = [p for p in pairs if not resegmentation.result_path(request, point_of(p)).exists()]
    notes: dict[Candidate, str] = {}
    if not todo:
        return notes
    with (
        Runner() as runner,
        stop_on_signal(runner.stop),
        progress(total=len(todo), desc='resegmentation', unit='pair', quiet=quiet) as bar,
    ):
        runner.start(request.inference)
        with futures.ThreadPoolExecutor(
            min(request.inference.concurrent_requests, len(todo)), 'pair'
        ) as pool:
            pending = {pool.submit(_one, request, runner, pair): pair for pair in todo}
            try:
                for future in futures.as_completed(pending):
                    if note := future.result():
                        notes[pending[future]] = note
                    bar.update()
            except BaseException:
                runner.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        _leave_if_stopped(runner.stop, request.output_directory)
    if notes:
        logging.warning('%d of %d pairs could not be segmented again, among them %s',
                        len(notes), len(todo), next(iter(notes.items())))  # fmt: skip
    return notes


def _one(request: inference_pb2.ResegmentationRequest, runner: Runner, pair: Candidate) -> str:
    """Segments one pair again; returns why not, '' if all is well."""
    if runner.stop.is_set():
        return 'stopped'
    try:
        resegmentation.process_point(request, runner, point_of(pair))
    except UserError as error:
        return ' '.join(str(error).split())
    return ''


def _leave_if_stopped(stop: threading.Event, directory: str) -> None:
    if stop.is_set():
        print(f'stopped; run again to go on from the results in {directory}')
        raise SystemExit(128 + 15)


def _configuration(
    request: inference_pb2.ResegmentationRequest, options: Options
) -> dict[str, Any]:
    """What the results of resegmentation depend on, as JSON."""
    deciding = inference_pb2.ResegmentationRequest()
    deciding.CopyFrom(request)
    for name in ('points', 'inference', 'output_directory'):
        deciding.ClearField(name)
    return {
        'resegmentation': json_format.MessageToDict(deciding, preserving_proto_field_name=True),
        'inference': manifest.deciding(request.inference),
        'box': str(options.box), 'max_distance': options.max_distance,
        'block_size': list(options.block_size),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> list[Judged]:
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
    with startup_messages_hidden():
        from ffn.inference import precision

        precision.gpu_capability()
    complete_request(request.inference)
    with open_decorated(request.inference.init_segmentation, 'init_segmentation') as volume:
        whole = volume.require_labels().box
    box = whole
    if args.bounding_box:
        box = read_box(args.bounding_box).intersection(whole)
        if box is None:
            raise UserError(f'--bounding_box lies outside the segmentation, which covers {whole}')
    options = Options(
        box, args.max_distance, Xyz.parse(args.block_size, '--block_size'),
        Thresholds(args.min_iou, args.min_consistency, args.max_deleted),
    )  # fmt: skip
    judged = agglomerate(request, options, args.quiet)
    if args.output_volume:
        size = voxel_size_zyx(request.inference)[::-1]
        output = OutputSpec(absolute_spec(args.output_volume), box, CHUNK, size)
        with open_decorated(request.inference.init_segmentation, 'init_segmentation') as volume:
            write_joined(
                volume.require_labels(), equivalences(judged), output,
                Path(request.output_directory, 'joined_volume.json'), args.quiet,
            )  # fmt: skip
    accepted, table = sum(one.accepted for one in judged), equivalences(judged)
    print(
        f'{len(judged)} pairs, {accepted} accepted; {len(table)} segments become '
        f'{len(set(table.values()))}; tables are in {request.output_directory}'
    )
    return judged


def _parser() -> argparse.ArgumentParser:
    defaults = Thresholds()
    parser = argparse.ArgumentParser(
        prog='python -m ffn.assembly.agglomerate', description=__doc__.splitlines()[0]
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
    parser.add_argument('--quiet', action='store_true', help='no progress bars')
    return parser


if __name__ == '__main__':
    run_tool(main)
