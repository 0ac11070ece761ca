"""An HTML page about two label volumes: numbers, and pictures of where they differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from ffn.evaluation.case_figures import ReportVolumes, Section, format_case
from ffn.evaluation.comparison import Comparison
from ffn.evaluation.evaluation import Evaluation, Scores
from ffn.evaluation.matches import Matches
from ffn.evaluation.overview_figures import draw_overview
from ffn.evaluation.second_look import look_again
from ffn.utils.geometry import Box
from ffn.utils.progress import progress
from ffn.visualization.page import table, write_html

_EXPLAINED = (
    'Pictures of cases: planes xy, xz and yz through the cross; the image above, and below it outlines of {} and '
    'areas of {}. Below that the whole object or segment in 3-d, in the colours of its pieces (grey: none of those '
    'that are named), and the surroundings of the place, which has a ring. A click selects a position.'
)


def make_sections(found: Evaluation) -> list[Section]:
    """Returns the cases of an evaluation, by kind."""
    return [
        Section('Objects that are split', found.splits),
        Section('Segments that merge objects', found.mergers, of_segments=True),
        Section('Objects that are missing', found.missing),
    ]


def write_report(
    path: str | Path,
    title: str,
    facts: Mapping[str, object],
    numbers: Sequence[str],
    volumes: ReportVolumes,
    sections: Sequence[Section],
    box: Box,
    matches: Matches,
    quiet: bool = True,
) -> None:
    """Writes the page.

    Args:
      path: the HTML file.
      title: heading.
      facts: rows of a table at the top.
      numbers: HTML shown before the pictures.
      volumes: what the pictures are cut from.
      sections: cases to show.
      box: what was compared.
      matches: which labels of the two volumes are taken for the same.
      quiet: no progress bar.

    Raises:
      UserError: a volume cannot be read.
    """
    cases = [(section, case) for section in sections for case in section.cases]
    segments, objects = (
        {c.id for s, c in cases if s.of_segments is side} for side in (True, False)
    )
    look = look_again(
        volumes.truth, volumes.segmentation, box, matches, objects, segments, quiet=quiet
    )
    body = [table(list(facts.items())), *numbers, *draw_overview(volumes, look, matches)]
    shown = {
        id(case): format_case(section, case, volumes, look)
        for section, case in progress(cases, desc='pictures', unit='case', quiet=quiet)
    }
    body.append(Markup('<p>{}</p>').format(_EXPLAINED.format(*volumes.names)))
    for section in sections:
        body.append(Markup('<h2>{}</h2>').format(section.title))
        body += [shown[id(case)] for case in section.cases] or [Markup('<p>None.</p>')]
    write_html(path, title, body)


def format_numbers(found: Evaluation) -> list[Markup]:
    """Formats the numbers of an evaluation as HTML."""
    header = ['voxels', 'number', 'VOI split', 'VOI merge', 'Rand error', 'precision', 'recall']
    rows = [_score_row(f'labelled in {name}', s) for name, s in found.scores.items()]
    for name, s in (found.inner_scores or {}).items():
        rows.append(_score_row(f'labelled in {name}, without {found.boundary} at borders', s))
    parts = [Markup('<h2>Scores</h2>'), table(rows, header, 'numbers')]
    c = found.coverage
    parts.append(
        Markup('<p>{}</p>').format(
            f'{c.covered_fraction:.1%} of the {c.truth_voxels:,} labelled voxels have a segment. Of '
            f'{c.objects:,} objects, {c.objects_covered:,} are covered at least by half and '
            f'{c.objects_missing:,} not at all; there are {c.segments:,} segments.'
        )
    )
    if found.erl:
        e = found.erl
        lengths = {
            'expected run length': f'{e.erl:,.6g}',
            'of a perfect segmentation': f'{e.max_erl:,.6g}',
            'normalised': f'{e.normalised_erl:.4f}',
            'length of all skeletons': f'{e.length:,.6g}',
            'correct': f'{e.correct / e.length:.1%}',
            'split': f'{e.split / e.length:.1%}',
            'omitted': f'{e.omitted / e.length:.1%}',
            'merged': f'{e.merged / e.length:.1%}',
            'neurons, trees, nodes': f'{e.neurons:,}, {e.trees:,}, {e.nodes:,}',
            'voxel size x, y, z': ', '.join(f'{v:g}' for v in e.voxel_size_xyz),
            'merge threshold': f'{e.merge_threshold:g}',
            'segments that merge neurons': f'{len(e.mergers):,}',
        }
        parts += [
            Markup('<h2>Expected run length</h2>'),
            table(list(lengths.items()), kind='numbers'),
        ]
    return parts


def format_differences(found: Comparison) -> list[Markup]:
    """Formats the numbers of a comparison as HTML."""
    rows = []
    for name, d in found.scores.items():
        numbers = ['0', '–', '–', '–']
        if d is not None:
            distances = (d.voi_b_given_a, d.voi_a_given_b, d.rand_error)
            numbers = [f'{d.voxels:,}', *(f'{value:.4f}' for value in distances)]
        rows.append([f'labelled in {name}', *numbers])
    header = ['voxels', 'number', 'H(B | A)', 'H(A | B)', 'Rand error']
    return [
        table(rows, header, 'numbers'),
        Markup('<p>{}</p>').format(
            f'{found.objects_a:,} objects in A, {found.objects_b:,} in B; {found.identical:,} are '
            'identical.'
        ),
    ]


def _score_row(name: str, scores: Scores | None) -> list[str]:
    if scores is None:
        return [name, '0', *['–'] * 5]
    s = scores
    values = (s.voi_split, s.voi_merge, s.rand_error, s.rand_precision, s.rand_recall)
    return [name, f'{s.voxels:,}', *(f'{value:.4f}' for value in values)]
