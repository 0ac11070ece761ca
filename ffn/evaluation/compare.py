"""Shows where two segmentations differ; neither of them is taken for the truth.

    python -m ffn.evaluation.compare results/a results/b --json ab.json --html ab.html

Positions are x,y,z in coordinates of the first.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.contingency import Contingency, Counted
from ffn.evaluation.evaluate import (
    PRINTED_CASES,
    add_volume_flags,
    box_and_offset,
    case_row,
    check_flags,
    open_image,
    parse_size,
    viewer_link,
    write_json,
)
from ffn.evaluation.evaluation import plain
from ffn.evaluation.rand import rand_of
from ffn.evaluation.sources import open_segmentation, shared_box
from ffn.evaluation.voi import voi_of
from ffn.evaluation.worst import Case, Missing, most_missing, worst_cuts
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box
from ffn.volumes.volume import Volume

_COUNTED: tuple[Counted, ...] = ('either', 'both')


@dataclass(frozen=True)
class Distance:
    """How far apart A and B are, over one choice of voxels.

    Attributes:
      voxels: how many.
      voi_b_given_a: H(B | A), bits; grows where B cuts objects of A.
      voi_a_given_b: H(A | B), bits; grows where B joins objects of A.
      rand_error: adapted Rand error, the same both ways.
    """

    voxels: int
    voi_b_given_a: float
    voi_a_given_b: float
    rand_error: float


@dataclass(frozen=True)
class Comparison:
    """Two segmentations side by side.

    Attributes:
      box: what was compared, in coordinates of A.
      scores: over the voxels that 'either' labels and that 'both' label; None where there are none.
      objects_a: objects of A.
      objects_b: objects of B.
      identical: objects that have the same voxels in both.
      cut_in_b: objects of A that B has in several pieces, the worst first.
      joined_in_b: objects of B that hold several of A, the worst first.
      missing_in_b: objects of A without a label in B, wholly or in part.
      missing_in_a: the other way round.
    """

    box: Box
    scores: dict[Counted, Distance | None]
    objects_a: int
    objects_b: int
    identical: int
    cut_in_b: tuple[Case, ...]
    joined_in_b: tuple[Case, ...]
    missing_in_b: tuple[Missing, ...]
    missing_in_a: tuple[Missing, ...]

    @classmethod
    def of(cls, table: Contingency, worst: int = 10) -> Comparison:
        """Compares what a table has counted, A in the place of the truth.

        Args:
          table: all voxels.
          worst: how many cases to list at most.
        """
        return cls(
            table.box, {counted: _distance(table, counted) for counted in _COUNTED},
            *(len(np.unique(ids[ids > 0])) for ids in (table.truth, table.segmentation)),
            _identical(table), worst_cuts(table, worst), worst_cuts(table.swapped(), worst),
            most_missing(table, worst), most_missing(table.swapped(), worst),
        )  # fmt: skip


def _distance(table: Contingency, counted: Counted) -> Distance | None:
    rows = table.where(counted)
    if not rows.any():
        return None
    chosen = table.rows(rows)
    return Distance(int(chosen.voxels.sum()), *voi_of(chosen), rand_of(chosen).error)


def _identical(table: Contingency) -> int:
    """Counts the pairs that share all voxels of both: their ids are in no other row."""
    alone = np.ones(len(table.truth), bool)
    for ids in (table.truth, table.segmentation):
        _, group, counts = np.unique(ids, return_inverse=True, return_counts=True)
        alone &= (counts[group] == 1) & (ids > 0)
    return int(np.count_nonzero(alone))


def text_of(found: Comparison) -> str:
    """A comparison as lines of text."""
    lines = [f'box {found.box}']
    for name, d in found.scores.items():
        lines.append(f'voxels labelled in {name}: there is none' if d is None else (
            f'voxels labelled in {name}: {d.voxels}; VOI H(B | A) {d.voi_b_given_a:.4f}, H(A | B) '
            f'{d.voi_a_given_b:.4f}; Rand error {d.rand_error:.4f}'
        ))  # fmt: skip
    lines.append(
        f'{found.objects_a} objects in A, {found.objects_b} in B; {found.identical} are identical'
    )
    for title, cases in _titled(found):
        if cases:
            lines += [f'{title}:', *map(case_row, cases[:PRINTED_CASES])]
    return '\n'.join(lines)


def _titled(found: Comparison) -> list[tuple[str, tuple[Case, ...] | tuple[Missing, ...]]]:
    return [
        ('Objects of A that B cuts', found.cut_in_b),
        ('Objects of B that join several of A', found.joined_in_b),
        ('Objects of A that are missing in B', found.missing_in_b),
        ('Objects of B that are missing in A', found.missing_in_a),
    ]


def _write_page(
    args: argparse.Namespace, found: Comparison, volumes: tuple[Volume, Volume],
    image: Volume | None,
) -> None:  # fmt: skip
    from ffn.evaluation.report_page import Field, Section, write_field_report
    from ffn.visualization.page import table

    rows = [
        [f'labelled in {name}', *(['0', *['–'] * 3] if d is None else [
            f'{d.voxels:,}', f'{d.voi_b_given_a:.4f}', f'{d.voi_a_given_b:.4f}', f'{d.rand_error:.4f}',
        ])]
        for name, d in found.scores.items()
    ]  # fmt: skip
    numbers = [
        table(rows, ['voxels', 'number', 'H(B | A)', 'H(A | B)', 'Rand error'], 'numbers'),
        f'<p>{found.objects_a:,} objects in A, {found.objects_b:,} in B; {found.identical:,} are '
        'identical.</p>',
    ]
    sections = [
        Section(title, cases, of_segments=i in (1, 3))
        for i, (title, cases) in enumerate(_titled(found))
    ]
    names, size = ('A', 'B'), parse_size(args.voxel_size or '1,1,1', '--voxel_size')
    field = Field(*volumes, image, size, names, viewer_link(args, (args.a, args.b), names))
    facts = {'A': args.a, 'B': args.b, 'box': found.box}
    write_field_report(
        args.html, 'Two segmentations side by side', facts, numbers, field, sections, args.quiet
    )


def main(argv: Sequence[str] | None = None) -> Comparison:
    """Compares as the command line says.

    Raises:
      UserError: something that was given does not fit.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.evaluation.compare', description=__doc__.splitlines()[0]
    )
    what = 'a folder of results, a .npz, or a volume, path:dataset'
    parser.add_argument('a', metavar='A', help=what)
    parser.add_argument('b', metavar='B', help=what)
    add_volume_flags(parser)
    args = parser.parse_args(argv)
    check_flags(args)
    wanted, offset = box_and_offset(args)
    with contextlib.ExitStack() as stack:
        a, b = (
            stack.enter_context(open_segmentation(spec, args.split_cc)) for spec in (args.a, args.b)
        )
        b, box = shared_box(a, b, offset, wanted, ('A', 'B'))
        image = open_image(args, stack)
        found = Comparison.of(compare_volumes(a, b, box, quiet=args.quiet), args.worst)
        if not found.objects_a and not found.objects_b:
            raise UserError(f'neither A nor B has a label in box {box}')
        if args.json:
            numbers = plain(found)
            numbers['box'] = {'start_xyz': list(box.start), 'size_xyz': list(box.size)}
            given = {'a': args.a, 'b': args.b, 'split_cc': args.split_cc}
            write_json(args.json, given | numbers)
        print(text_of(found), flush=True)
        if args.html:
            _write_page(args, found, (a, b), image)
    return found


if __name__ == '__main__':
    run_tool(main)
