"""`ffn compare`: shows where two segmentations differ."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence

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
from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.comparison import Comparison
from ffn.evaluation.sources import open_segmentation, shared_box
from ffn.evaluation.text_report import format_comparison
from ffn.utils.errors import UserError
from ffn.volumes.units import KnownVoxelSize
from ffn.volumes.unlabelled import UNLABELLED_HELP
from ffn.volumes.volume import Volume


def main(argv: Sequence[str] | None = None) -> Comparison:
    """Compares two segmentations, prints the differences, and writes what the flags ask for.

    Raises:
      UserError: an input that does not fit.
    """
    args = _parser().parse_args(argv)
    check_comparison_flags(args)
    wanted, offset = read_box_and_offset(args)
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(
            open_segmentation(args.a, args.split_cc, args.unlabelled, args.missing)
        )
        b = stack.enter_context(
            open_segmentation(args.b, args.split_cc, args.unlabelled, args.missing)
        )
        b, box = shared_box(a, b, offset, wanted, ('A', 'B'))
        image = open_image(args, stack, box)
        size = find_voxel_size(args, a, b, image)  # tells what contradicts
        found = Comparison.of(compare_volumes(a, b, box, quiet=args.quiet), args.worst)
        if not found.objects_a and not found.objects_b:
            raise UserError(f'neither A nor B has a label in box {box}')
        try:
            print(format_comparison(found), flush=True)
        finally:  # also where nobody reads that
            write_scores(args, ('a', 'b'), found.as_json())
            if args.html:
                _write_page(args, found, a, b, image, size)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        'compare',
        'Shows where two segmentations differ; neither is taken for the truth. Positions are\n'
        'x,y,z in coordinates of A.',
        'ffn compare results/a results/b --json ab.json --html ab.html',
    )
    add = parser.add_argument_group('What is compared').add_argument
    add('a', metavar='A', help=VOLUME_HELP)
    add('b', metavar='B', help=VOLUME_HELP)
    add('--unlabelled', type=int, metavar='N', help=f'in A and B, {UNLABELLED_HELP}')
    add_comparison_flags(parser)
    return parser


def _write_page(
    args: argparse.Namespace,
    found: Comparison,
    a: Volume,
    b: Volume,
    image: Volume | None,
    size: KnownVoxelSize | None,
) -> None:
    from ffn.evaluation.case_figures import ReportVolumes, Section
    from ffn.evaluation.report_page import format_differences, write_report

    sections = [
        Section(title, cases, of_segments=i in (1, 3))
        for i, (title, cases) in enumerate(found.titled_cases())
    ]
    names = ('A', 'B')
    link = make_viewer_link(args, (args.a, args.b), names, size)
    write_report(
        args.html,
        'Two segmentations side by side',
        {'A': args.a, 'B': args.b, 'box': found.box},
        format_differences(found),
        ReportVolumes(
            a,
            b,
            image,
            size.xyz if size else (1, 1, 1),
            'nm' if size else 'voxels',
            names,
            link,
            make_view_command(args, [('--labels', args.a), ('--labels', args.b)]),
        ),
        sections,
        found.box,
        found.matches,
        args.quiet,
    )
