"""`ffn evaluate`: scores a segmentation against ground truth."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Sequence

from absl import logging

from ffn.cli.comparison_flags import (
    VOLUME_HELP,
    add_comparison_flags,
    check_comparison_flags,
    find_voxel_size,
    make_view_command,
    make_viewer_link,
    open_image,
    read_box_and_offset,
    write_scores,
)
from ffn.cli.flags import make_parser
from ffn.evaluation.evaluation import Evaluation, evaluate_volumes
from ffn.evaluation.skeletons import (
    DEFAULT_MIN_VOXELS,
    Skeletons,
    check_size,
    read_skeletons,
    skeletonize_truth,
)
from ffn.evaluation.sources import open_segmentation, open_truth, shared_box
from ffn.evaluation.text_report import format_evaluation
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, whole_voxels
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.unlabelled import UNLABELLED_HELP
from ffn.volumes.volume import Volume

DEFAULT_BOUNDARY = 2


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Scores a segmentation, prints the scores, and writes what the flags ask for.

    Raises:
      UserError: an input that does not fit.
    """
    args = _parser().parse_args(argv)
    check_comparison_flags(args)
    if args.merge_threshold is not None and not 0 <= args.merge_threshold < math.inf:
        raise UserError(f'--merge_threshold is {args.merge_threshold:g}; expected 0 or more')
    if args.merge_threshold is not None and not (args.skeletons or args.skeletons_from_groundtruth):
        raise UserError(
            '--merge_threshold is for the run length along --skeletons or --skeletons_from_groundtruth'
        )
    wanted, offset = read_box_and_offset(args)
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(
            open_truth(args.groundtruth, args.groundtruth_transforms, args.unlabelled, args.missing)
        )
        segmentation = stack.enter_context(
            open_segmentation(args.segmentation, args.split_cc, missing=args.missing)
        )
        segmentation, box = shared_box(truth, segmentation, offset, wanted)
        image = open_image(args, stack, box)
        known = find_voxel_size(args, truth, segmentation, image)
        voxel_size = known.xyz if known else (1.0, 1.0, 1.0)
        found = evaluate_volumes(
            truth,
            segmentation,
            box,
            boundary=_parse_boundary(args.boundary, known),
            worst=args.worst,
            skeletons=_skeletons(args, truth, box, known),
            voxel_size_xyz=voxel_size,
            merge_threshold=args.merge_threshold,
            quiet=args.quiet,
        )
        try:
            print(format_evaluation(found), flush=True)
        finally:  # also where nobody reads that
            write_scores(args, ('segmentation', 'groundtruth'), found.as_json())
            if args.html:
                _write_page(args, found, truth, segmentation, image, known)
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
    add('--unlabelled', type=int, metavar='N', help=f'in the ground truth, {UNLABELLED_HELP}')
    add(
        '--boundary',
        default=str(DEFAULT_BOUNDARY),
        metavar='WIDTH',
        help='a second set of scores excludes voxels this close to another label in the truth: N voxels, '
        'X,Y,Z voxels along each axis (2,2,0: only within sections), or nanometres (20nm); 0: no second '
        'set',
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


def _parse_boundary(text: str, voxel_size: KnownVoxelSize | None) -> int | Xyz:
    """Reads --boundary: voxels, voxels along each axis, or nanometres."""
    number = text.removesuffix('nm')
    widths: list[int] = []
    if number != text and voxel_size is None:
        raise UserError(f'--boundary {text} needs the voxel size: give --voxel_size X,Y,Z')
    try:
        if number != text and voxel_size is not None:
            widths = [whole_voxels(float(number), size) for size in voxel_size.xyz]
            widths = widths if float(number) >= 0 else []
        else:
            widths = [int(part) for part in text.split(',')]
    except (ValueError, OverflowError):
        pass
    if len(widths) not in (1, 3) or min(widths) < 0:
        raise UserError(
            f'--boundary is {text}; expected 0 or more voxels, X,Y,Z voxels, or nanometres such as 20nm'
        )
    if number != text and voxel_size is not None and not any(widths) and float(number):
        logging.warning(
            '--boundary %s is less than a voxel, x,y,z %s nm, along each axis: no second set of scores',
            *(text, ','.join(f'{n:g}' for n in voxel_size.xyz)),
        )
    return widths[0] if len(widths) == 1 else Xyz(*widths)


def _skeletons(
    args: argparse.Namespace, truth: Volume, box: Box, known: KnownVoxelSize | None
) -> Skeletons | None:
    voxel_size = known.xyz if known else (1.0, 1.0, 1.0)
    if args.skeletons and args.skeletons_from_groundtruth:
        raise UserError('--skeletons and --skeletons_from_groundtruth are given; choose one')
    if args.skeletons:
        if known is None and args.skeleton_unit == 'physical':
            logging.warning(
                'no voxel size is known: positions and lengths of the skeletons count voxels; give '
                '--voxel_size X,Y,Z, or --skeleton_unit voxels if that is meant'
            )
        unit = voxel_size if args.skeleton_unit == 'physical' else (1, 1, 1)
        return read_skeletons(args.skeletons, unit)
    if args.skeletons_from_groundtruth:
        check_size(box)
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
    voxel_size: KnownVoxelSize | None,
) -> None:
    from ffn.evaluation.case_figures import ReportVolumes
    from ffn.evaluation.report_page import (
        format_numbers,
        make_sections,
        write_report,
    )

    facts = {
        'segmentation': args.segmentation,
        'ground truth': args.groundtruth,
        'box': found.box,
        'voxel size': voxel_size or 'unknown, taken for a cube',
    }
    names = ('ground truth', 'segmentation')
    size = voxel_size.xyz if voxel_size else (1.0, 1.0, 1.0)
    link = make_viewer_link(args, (args.groundtruth, args.segmentation), names, voxel_size)
    shown = [('--truth', args.groundtruth), ('--labels', args.segmentation)]
    command = make_view_command(args, shown)
    write_report(
        args.html,
        'Segmentation and ground truth',
        facts,
        format_numbers(found),
        ReportVolumes(
            truth,
            segmentation,
            image,
            size,
            'nm' if voxel_size else 'voxels',
            names,
            link,
            command,
        ),
        make_sections(found),
        found.box,
        found.matches,
        args.quiet,
    )
