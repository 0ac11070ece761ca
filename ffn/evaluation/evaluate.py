"""Scores a segmentation against ground truth, and says where it errs.

    python -m ffn.evaluation.evaluate --segmentation results --groundtruth train.h5:labels \
      --json scores.json --html scores.html --image train.h5:raw

Volumes may be larger than memory. Positions are x,y,z in coordinates of the ground truth.
"""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ffn import __version__
from ffn.evaluation.evaluation import Evaluation, Scores, evaluate_volumes
from ffn.evaluation.skeletons import (
    DEFAULT_MIN_VOXELS,
    Skeletons,
    read_skeletons,
    skeletons_of_truth,
)
from ffn.evaluation.sources import open_segmentation, open_truth, shared_box
from ffn.evaluation.worst import Case, Missing
from ffn.utils import atomic
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume, open_volume

DEFAULT_BOUNDARY = 2
PRINTED_CASES = 5


def add_volume_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `evaluate` and `compare` share."""
    parser.add_argument('--bounding_box', metavar='BOX',
                        help='what to compare, BoundingBox, text format or a file (all)')  # fmt: skip
    parser.add_argument('--offset', metavar='X,Y,Z',
                        help='where the first voxel of the second volume lies in the first')  # fmt: skip
    parser.add_argument('--split_cc', action='store_true',
                        help='give every 6-connected component an id of its own (ids as stored)')  # fmt: skip
    parser.add_argument('--voxel_size', metavar='X,Y,Z',
                        help='physical size of a voxel, nm for links to the viewer (1,1,1)')  # fmt: skip
    parser.add_argument('--worst', type=int, default=10, metavar='N',
                        help='how many cases to list of each kind (10)')  # fmt: skip
    parser.add_argument('--json', type=Path, metavar='FILE', help='writes all numbers there')
    parser.add_argument('--html', type=Path, metavar='FILE', help='writes a page with pictures')
    parser.add_argument(
        '--image', metavar='VOLUME', help='what the pictures show below the objects'
    )
    parser.add_argument('--viewer_url', metavar='URL',
                        help='a Neuroglancer, for links from the page; volumes that are not on a '
                        'server get coordinates to copy')  # fmt: skip
    parser.add_argument('--quiet', action='store_true', help='no progress bar')


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m ffn.evaluation.evaluate', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--segmentation', required=True, metavar='DIR-or-VOLUME',
                        help='a folder of results, a .npz, or a volume, path:dataset')  # fmt: skip
    parser.add_argument('--groundtruth', required=True, metavar='VOLUME', help='the truth')
    parser.add_argument('--groundtruth_transforms', metavar='PATH:DATASET',
                        help='N×2: id in the ground truth, id of its object')  # fmt: skip
    parser.add_argument('--boundary', type=int, default=DEFAULT_BOUNDARY, metavar='N',
                        help='voxels this near to a change of the truth are left out of a second set '
                        f'of scores; 0: no such set ({DEFAULT_BOUNDARY})')  # fmt: skip
    skeletons = parser.add_argument_group('expected run length')
    skeletons.add_argument(
        '--skeletons', nargs='+', metavar='FILE', help='SWC, one for each neuron'
    )
    skeletons.add_argument('--skeleton_unit', choices=('physical', 'voxels'), default='physical',
                           help='of the SWC files: that of --voxel_size, or voxels (physical)')  # fmt: skip
    skeletons.add_argument('--skeletons_from_groundtruth', action='store_true',
                           help='make skeletons of the ground truth, in memory')  # fmt: skip
    skeletons.add_argument('--skeleton_min_voxels', type=int, default=DEFAULT_MIN_VOXELS, metavar='N',
                           help=f'smaller objects get none ({DEFAULT_MIN_VOXELS})')  # fmt: skip
    skeletons.add_argument('--merge_threshold', type=float, metavar='LENGTH',
                           help='a segment merges if it covers as much of two neurons, in the unit of '
                           '--voxel_size (50 times the shortest edge of a voxel)')  # fmt: skip
    add_volume_flags(parser)
    return parser.parse_args(argv)


def parse_size(text: str, what: str) -> tuple[float, float, float]:
    """Reads three positive numbers 'x,y,z'.

    Raises:
      UserError: they are not.
    """
    try:
        x, y, z = (float(part) for part in text.split(','))
    except ValueError:
        x = y = z = math.nan
    if not all(0 < n < math.inf for n in (x, y, z)):
        raise UserError(
            f'{what} is {text!r}; expected three positive numbers x,y,z, such as 4,4,40'
        )
    return x, y, z


def check_flags(args: argparse.Namespace) -> None:
    """Checks the flags that `evaluate` and `compare` share.

    Raises:
      UserError: one does not fit.
    """
    if args.worst < 0:
        raise UserError(f'--worst is {args.worst}; expected 0 or more')
    for name in ('image', 'viewer_url'):
        if getattr(args, name) and not args.html:
            raise UserError(f'--{name} is for the page; give --html FILE as well')


def box_and_offset(args: argparse.Namespace) -> tuple[Box | None, Xyz | None]:
    """Reads --bounding_box and --offset.

    Raises:
      UserError: they cannot be read.
    """
    from ffn.inference.request import read_box

    box = read_box(args.bounding_box) if args.bounding_box else None
    return box, Xyz.parse(args.offset, '--offset') if args.offset else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes an evaluation, whole or not at all."""
    atomic.write_json(path, {'version': __version__, **content})


def open_image(args: argparse.Namespace, stack: contextlib.ExitStack) -> Volume | None:
    """Opens --image, to be closed by `stack`.

    Raises:
      UserError: it cannot be opened, or has several channels.
    """
    return stack.enter_context(open_volume(args.image)).single_channel() if args.image else None


def viewer_link(
    args: argparse.Namespace, specs: tuple[str, str], names: tuple[str, str]
) -> Callable[[Xyz, Sequence[int], Sequence[int]], str | None]:
    """What makes links from a page to --viewer_url, if it is given.

    Args:
      args: the command line.
      specs: the volumes that are the truth and the segmentation.
      names: what they are called.
    """
    from ffn.visualization.neuroglancer_link import Layer, link

    size = None if args.voxel_size is None else parse_size(args.voxel_size, '--voxel_size')

    def make(at: Xyz, objects: Sequence[int], segments: Sequence[int]) -> str | None:
        layers = [Layer('image', args.image)] if args.image else []
        layers.append(Layer(names[0], specs[0], objects))
        if args.offset is None:  # else it lies elsewhere in the viewer
            layers.append(Layer(names[1], specs[1], segments))
        return link(args.viewer_url, layers, at, size) if args.viewer_url else None

    return make


def _skeletons(
    args: argparse.Namespace, truth: Volume, box: Box, voxel_size: tuple[float, float, float]
) -> Skeletons | None:
    if args.skeletons and args.skeletons_from_groundtruth:
        raise UserError('--skeletons and --skeletons_from_groundtruth are given; choose one')
    if args.skeletons:
        unit = voxel_size if args.skeleton_unit == 'physical' else (1, 1, 1)
        return read_skeletons(args.skeletons, unit)
    if args.skeletons_from_groundtruth:
        return skeletons_of_truth(
            truth.read(box), box, voxel_size, args.skeleton_min_voxels, args.quiet
        )
    return None


def _score_rows(title: str, scores: dict[str, Scores | None]) -> list[str]:
    rows = [f'{title:<24}{"voxels":>14} VOI split   merge    Rand precision recall']
    for counted, s in scores.items():
        numbers = '           0 there is none' if s is None else (
            f'{s.voxels:>14} {s.voi_split:9.4f} {s.voi_merge:7.4f} {s.rand_error:7.4f} '
            f'{s.rand_precision:9.4f} {s.rand_recall:6.4f}'
        )  # fmt: skip
        rows.append(f'  labelled in {counted:<12}{numbers}')
    return rows


def case_row(case: Case | Missing) -> str:
    """A case as a line of text."""
    if isinstance(case, Missing):
        what = f'{case.missing} of {case.voxels} voxels'
    else:
        pieces = ', '.join(f'{p.id} ({p.voxels})' for p in case.pieces)
        more = ', …' if case.number > len(case.pieces) else ''
        what = f'{case.bits:.4f} bits, {case.number} pieces: {pieces}{more}'
    return f'  {case.id} at {",".join(map(str, case.at_xyz))}: {what}'


def text_of(found: Evaluation) -> str:
    """An evaluation as lines of text."""
    lines = [f'box {found.box}', *_score_rows('all voxels', found.scores)]
    if found.inner_scores:
        lines += _score_rows(f'without {found.boundary} at borders', found.inner_scores)
    c = found.coverage
    lines.append(
        f'coverage: {c.covered_fraction:.1%} of the labelled voxels; of {c.objects} objects, '
        f'{c.objects_covered} at least by half, {c.objects_missing} not at all; {c.segments} segments'
    )
    if found.erl:
        e = found.erl
        lines.append(
            f'expected run length {e.erl:.6g} of {e.perfect_erl:.6g}, normalised '
            f'{e.normalised_erl:.4f}; length {e.length:.6g}: correct {e.correct / e.length:.1%}, '
            f'split {e.split / e.length:.1%}, omitted {e.omitted / e.length:.1%}, merged '
            f'{e.merged / e.length:.1%}; voxel size x,y,z '
            f'{",".join(f"{v:g}" for v in e.voxel_size_xyz)}, merge threshold {e.merge_threshold:g}, '
            f'{e.neurons} neurons, {len(e.mergers)} segments merge some'
        )
    for title, cases in (
        ('objects that are cut', found.splits), ('segments that join objects', found.mergers),
        ('objects that are missing', found.missing),
    ):  # fmt: skip
        if cases:
            lines += [f'{title}, the worst:', *map(case_row, cases[:PRINTED_CASES])]
    return '\n'.join(lines)


def _write_page(
    args: argparse.Namespace, found: Evaluation, truth: Volume, segmentation: Volume,
    image: Volume | None, voxel_size: tuple[float, float, float],
) -> None:  # fmt: skip
    from ffn.evaluation.report_page import (
        Field,
        numbers_of,
        sections_of,
        write_field_report,
    )

    facts = {
        'segmentation': args.segmentation, 'ground truth': args.groundtruth, 'box': found.box,
        'voxel size x, y, z': ', '.join(f'{size:g}' for size in voxel_size),
    }  # fmt: skip
    names = ('ground truth', 'segmentation')
    link = viewer_link(args, (args.groundtruth, args.segmentation), names)
    write_field_report(
        args.html, 'Segmentation beside its ground truth', facts, numbers_of(found),
        Field(truth, segmentation, image, voxel_size, names, link), sections_of(found), args.quiet,
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> Evaluation:
    """Evaluates as the command line says.

    Raises:
      UserError: something that was given does not fit.
    """
    args = parse_arguments(argv)
    check_flags(args)
    if args.boundary < 0:
        raise UserError(f'--boundary is {args.boundary}; expected 0 or more')
    if args.merge_threshold is not None and not 0 <= args.merge_threshold < math.inf:
        raise UserError(f'--merge_threshold is {args.merge_threshold:g}; expected 0 or more')
    voxel_size = parse_size(args.voxel_size or '1,1,1', '--voxel_size')
    wanted, offset = box_and_offset(args)
    with contextlib.ExitStack() as stack:
        truth = stack.enter_context(open_truth(args.groundtruth, args.groundtruth_transforms))
        segmentation = stack.enter_context(open_segmentation(args.segmentation, args.split_cc))
        segmentation, box = shared_box(truth, segmentation, offset, wanted)
        image = open_image(args, stack)
        found = evaluate_volumes(
            truth, segmentation, box, boundary=args.boundary, worst=args.worst,
            skeletons=_skeletons(args, truth, box, voxel_size), voxel_size_xyz=voxel_size,
            merge_threshold=args.merge_threshold, quiet=args.quiet,
        )  # fmt: skip
        if args.json:
            write_json(args.json, {
                'segmentation': args.segmentation, 'groundtruth': args.groundtruth,
                'split_cc': args.split_cc, **found.as_json(),
            })  # fmt: skip
        print(text_of(found), flush=True)
        if args.html:
            _write_page(args, found, truth, segmentation, image, voxel_size)
    return found


if __name__ == '__main__':
    run_tool(main)
