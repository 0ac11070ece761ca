"""Evaluations and comparisons as lines of text, the way the commands print them."""

from __future__ import annotations

from collections.abc import Mapping

from ffn.evaluation.comparison import Comparison
from ffn.evaluation.contingency import Counted
from ffn.evaluation.error_cases import ErrorCase, MissedObject
from ffn.evaluation.evaluation import Evaluation, Scores

PRINTED_CASES = 5


def _score_rows(title: str, scores: Mapping[Counted, Scores | None]) -> list[str]:
    rows = [f'{title:<24}{"voxels":>14} VOI split   merge    Rand precision recall']
    for counted, s in scores.items():
        numbers = (
            '           0 there is none'
            if s is None
            else (
                f'{s.voxels:>14} {s.voi_split:9.4f} {s.voi_merge:7.4f} {s.rand_error:7.4f} '
                f'{s.rand_precision:9.4f} {s.rand_recall:6.4f}'
            )
        )
        rows.append(f'  labelled in {counted:<12}{numbers}')
    return rows


def format_case(case: ErrorCase | MissedObject) -> str:
    """Formats a case as a line of text."""
    if isinstance(case, MissedObject):
        what = f'{case.missing} of {case.voxels} voxels'
    else:
        pieces = ', '.join(f'{p.id} ({p.voxels})' for p in case.pieces)
        more = ', …' if case.number > len(case.pieces) else ''
        what = f'{case.bits:.4f} bits, {case.number} pieces: {pieces}{more}'
    return f'  {case.id} at {",".join(map(str, case.at_xyz))}: {what}'


def format_evaluation(found: Evaluation) -> str:
    """Formats an evaluation as lines of text."""
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
            f'expected run length {e.erl:.6g} of {e.max_erl:.6g}, normalised '
            f'{e.normalised_erl:.4f}; length {e.length:.6g}: correct {e.correct / e.length:.1%}, '
            f'split {e.split / e.length:.1%}, omitted {e.omitted / e.length:.1%}, merged '
            f'{e.merged / e.length:.1%}; voxel size x,y,z '
            f'{",".join(f"{v:g}" for v in e.voxel_size_xyz)}, merge threshold {e.merge_threshold:g}, '
            f'{e.neurons} neurons, {len(e.mergers)} segments merge some'
        )
    for title, cases in (
        ('objects that are split', found.splits),
        ('segments that merge objects', found.mergers),
        ('objects that are missing', found.missing),
    ):
        if cases:
            lines += [f'{title}, the worst:', *map(format_case, cases[:PRINTED_CASES])]
    return '\n'.join(lines)


def format_comparison(found: Comparison) -> str:
    """Formats a comparison as lines of text."""
    lines = [f'box {found.box}']
    for name, d in found.scores.items():
        lines.append(
            f'voxels labelled in {name}: there is none'
            if d is None
            else (
                f'voxels labelled in {name}: {d.voxels}; VOI H(B | A) {d.voi_b_given_a:.4f}, H(A | B) '
                f'{d.voi_a_given_b:.4f}; Rand error {d.rand_error:.4f}'
            )
        )
    lines.append(
        f'{found.objects_a} objects in A, {found.objects_b} in B; {found.identical} are identical'
    )
    for title, cases in found.titled_cases():
        if cases:
            lines += [f'{title}:', *map(format_case, cases[:PRINTED_CASES])]
    return '\n'.join(lines)
