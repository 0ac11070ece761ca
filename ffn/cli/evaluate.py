"""`ffn evaluate`: scores a segmentation against ground truth."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Sequence

from ffn import __version__
from ffn.cli.comparison_flags import (
    VOLUME_HELP,
    add_comparison_flags,
    check_comparison_flags,
    make_viewer_link,
    open_image,
    read_box_and_offset,
    read_voxel_size,
)
from ffn.cli.flags import make_parser
from ffn.evaluation.evaluation import Evaluation, evaluate_volumes
from ffn.evaluation.skeletons import (
    DEFAULT_MIN_VOXELS,
    Skeletons,
    read_skeletons,
    skeletonize_truth,
)
from ffn.evaluation.sources import open_segmentation, open_truth, shared_box
from ffn.evaluation.text_report import format_evaluation
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.volumes.volume import Volume

DEFAULT_BOUNDARY = 2


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Scores a segmentation, prints the scores, and writes what the flags ask for.

    Raises:
      UserError: an input that does not fit.
    """
    args = _parser().parse_args(argv)
    check_comparison_flags(args)
    if args.boundary < 0:
        raise UserError(f'--boundary is {args.boundary}; expected 0 or more')
    if args.merge_threshold is not None and not 0 <= args.merge_threshold < math.inf:
        raise UserError(f'--merge_threshold is {args.merge_threshold:g}; expected 0 or more')
    voxel_size = read_voxel_size(args)
    wanted, offset = read_box_and_offset(args)
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(open_truth(args.groundtruth, args.groundtruth_transforms))
        segmentation = stack.enter_context(open_segmentation(args.segmentation, args.split_cc))
        segmentation, box = shared_box(truth, segmentation, offset, wanted)
        image = open_image(args, stack)
        found = evaluate_volumes(
            truth,
            segmentation,
            box,
            boundary=args.boundary,
            worst=args.worst,
            skeletons=_skeletons(args, truth, box, voxel_size),
            voxel_size_xyz=voxel_size,
            merge_threshold=args.merge_threshold,
            quiet=args.quiet,
        )
        if args.json:
            given = {
                'version': __version__,
                'segmentation': args.segmentation,
                'groundtruth': args.groundtruth,
                'split_cc': args.split_cc,
            }
            write_json(args.json, given | found.as_json())
        print(format_evaluation(found), flush=True)
        if args.html:
            _write_page(args, found, truth, segmentation, image, voxel_size)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'evaluate',
        'Scores a segmentation against ground truth, and lists where it fails. Volumes may be\n'
        'larger than memory; positions are x,y,z in coordinates of the ground truth.',
        'ffn evaluate --segmentation results --groundtruth train.h5:labels \\\n'
        '  --json scores.json --html scores.html --image train.h5:raw',
    )
    add = parser.add_argument_group('What is scored').add_argument
    add('--segmentation', required=True, metavar='DIR-or-VOLUME', help=VOLUME_HELP)
    add('--groundtruth', required=True, metavar='VOLUME', help='the ground truth')
    add(
        '--groundtruth_transforms',
        metavar='PATH:DATASET',
        help='N×2 table: id in the ground truth, id of its object',
    )
    add(
        '--boundary',
        type=int,
        default=DEFAULT_BOUNDARY,
        metavar='N',
        help='a second set of scores excludes voxels this close to another label in the truth, in '
        'voxels; 0: no second set',
    )
    add = parser.add_argument_group('Expected run length').add_argument
    add('--skeletons', nargs='+', metavar='FILE', help='SWC files, one per neuron')
    add(
        '--skeleton_unit',
        choices=('physical', 'voxels'),
        default='physical',
        help='unit of the SWC files: that of --voxel_size, or voxels',
    )
    add(
        '--skeletons_from_groundtruth',
        action='store_true',
        help='skeletonize the ground truth, in memory',
    )
    add(
        '--skeleton_min_voxels',
        type=int,
        default=DEFAULT_MIN_VOXELS,
        metavar='N',
        help='smaller objects get no skeleton',
    )
    add(
        '--merge_threshold',
        type=float,
        metavar='LENGTH',
        help='a segment that covers this much of two neurons is a merger, in the unit of --voxel_size '
        '(default: 50 times the shortest edge of a voxel)',
    )
    add_comparison_flags(parser)
    return parser


def _skeletons(
    args: argparse.Namespace, truth: Volume, box: Box, voxel_size: tuple[float, float, float]
) -> Skeletons | None:
    if args.skeletons and args.skeletons_from_groundtruth:
        raise UserError('--skeletons and --skeletons_from_groundtruth are given; choose one')
    if args.skeletons:
        unit = voxel_size if args.skeleton_unit == 'physical' else (1, 1, 1)
        return read_skeletons(args.skeletons, unit)
    if args.skeletons_from_groundtruth:
        return skeletonize_truth(
            truth.read(box), box, voxel_size, args.skeleton_min_voxels, args.quiet
        )
    return None


def _write_page(
    args: argparse.Namespace,
    found: Evaluation,
    truth: Volume,
    segmentation: Volume,
    image: Volume | None,
    voxel_size: tuple[float, float, float],
) -> None:
    from ffn.evaluation.report_page import (
        ReportVolumes,
        format_numbers,
        make_sections,
        write_report,
    )

    facts = {
        'segmentation': args.segmentation,
        'ground truth': args.groundtruth,
        'box': found.box,
        'voxel size x, y, z': ', '.join(f'{size:g}' for size in voxel_size),
    }
    names = ('ground truth', 'segmentation')
    link = make_viewer_link(args, (args.groundtruth, args.segmentation), names)
    write_report(
        args.html,
        'Segmentation and ground truth',
        facts,
        format_numbers(found),
        ReportVolumes(truth, segmentation, image, voxel_size, names, link),
        make_sections(found),
        args.quiet,
    )
