"""An HTML page about two label volumes: numbers, and pictures of where they differ most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ffn.evaluation.comparison import Comparison
from ffn.evaluation.error_cases import ErrorCase, MissedObject
from ffn.evaluation.evaluation import Evaluation, Scores
from ffn.utils.geometry import Xyz
from ffn.utils.progress import progress
from ffn.visualization.case_pictures import (
    OBJECT_COLORS,
    SEGMENT_COLORS,
    Rgb,
    case_picture,
    encode_png,
)
from ffn.visualization.page import figure, table, write_html
from ffn.volumes.volume import Volume

Link = Callable[[Xyz, Sequence[int], Sequence[int]], str | None]
"""Position, ids of objects, ids of segments → URL of a viewer, or None."""


@dataclass(frozen=True)
class ReportVolumes:
    """The volumes that the pictures are cut from.

    Attributes:
      truth: labels, drawn as outlines.
      segmentation: labels in the same coordinates, drawn as areas.
      image: one channel, in the same coordinates; None: grey.
      voxel_size_xyz: physical size of a voxel.
      names: captions for the two sides.
      link: returns the URL of a place in a viewer.
    """

    truth: Volume
    segmentation: Volume
    image: Volume | None = None
    voxel_size_xyz: Sequence[float] = (1, 1, 1)
    names: tuple[str, str] = ('ground truth', 'segmentation')
    link: Link = lambda at, objects, segments: None


@dataclass(frozen=True)
class Section:
    """Cases of one kind.

    Attributes:
      title: heading.
      cases: worst first.
      of_segments: whether the cases are segments rather than objects of the truth.
    """

    title: str
    cases: Sequence[ErrorCase | MissedObject]
    of_segments: bool = False


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
      quiet: no progress bar.

    Raises:
      UserError: a volume cannot be read.
    """
    body = [table(list(facts.items())), *numbers]
    cases = [(section, case) for section in sections for case in section.cases]
    shown = {
        id(case): _format_case(section, case, volumes)
        for section, case in progress(cases, desc='pictures', unit='case', quiet=quiet)
    }
    body.append(
        Markup(
            '<p>Pictures: planes xy, xz and yz through the cross; the image above, and below it outlines '
            'of {} and areas of {}. A click selects a position.</p>'
        ).format(*volumes.names)
    )
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


def _format_case(
    section: Section, case: ErrorCase | MissedObject, volumes: ReportVolumes
) -> Markup:
    pieces = [] if isinstance(case, MissedObject) else [p.id for p in case.pieces]
    segments = [case.id] if section.of_segments else pieces
    objects = pieces if section.of_segments else [case.id]
    object_colors = dict(zip(objects, OBJECT_COLORS, strict=False))
    segment_colors = dict(zip(segments, SEGMENT_COLORS, strict=False))
    picture = case_picture(
        volumes.truth,
        volumes.segmentation,
        volumes.image,
        case.at_xyz,
        object_colors,
        segment_colors,
        volumes.voxel_size_xyz,
    )
    own, other = (
        (segment_colors, object_colors) if section.of_segments else (object_colors, segment_colors)
    )
    position = ', '.join(map(str, case.at_xyz))
    url = volumes.link(case.at_xyz, objects, segments)
    there = Markup(' <a href="{}">open</a>').format(url) if url else ''
    caption = Markup('{}: {} At <code>{}</code>{}').format(
        _mark(case.id, own), _describe(case, other), position, there
    )
    return figure(encode_png(picture), caption, alt=f'{case.id} at x,y,z {position}')


def _describe(case: ErrorCase | MissedObject, colors: Mapping[int, Rgb]) -> str:
    if isinstance(case, MissedObject):
        return f'{case.missing:,} of its {case.voxels:,} voxels are missing.'
    pieces = Markup(', ').join(
        Markup('{} ({})').format(_mark(piece.id, colors), f'{piece.voxels:,}')
        for piece in case.pieces
    )
    more = f' and {case.number - len(case.pieces):,} more' if case.number > len(case.pieces) else ''
    return Markup('{} bits, {} voxels in {}{}.').format(
        f'{case.bits:.4f}', f'{case.voxels:,}', pieces, more
    )


def _mark(number: int, colors: Mapping[int, Rgb]) -> str:
    """Formats an id, preceded by its colour in the picture."""
    if number not in colors:
        return str(number)
    square = '<span style="background:rgb({},{},{});border:1px solid #888">&emsp;</span> {}'
    return Markup(square).format(*colors[number], number)
