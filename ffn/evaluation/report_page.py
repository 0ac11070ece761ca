"""A page on two label volumes side by side: numbers, and pictures of where they differ most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.evaluation.evaluation import Evaluation, Scores
from ffn.evaluation.worst import Case, Missing
from ffn.utils.geometry import Xyz
from ffn.utils.progress import progress
from ffn.visualization.case_picture import (
    OBJECT_COLORS,
    SEGMENT_COLORS,
    Rgb,
    case_picture,
    png_of,
)
from ffn.visualization.page import figure, table, text, write_html
from ffn.volumes.volume import Volume

Link = Callable[[Xyz, Sequence[int], Sequence[int]], str | None]
"""Position, ids of objects and of segments → URL of a viewer; None: there is none."""


@dataclass(frozen=True)
class Field:
    """What the pictures are made of.

    Attributes:
      truth: labels, drawn as outlines.
      segmentation: labels in the same coordinates, drawn as areas.
      image: one channel, in the same coordinates; None: grey.
      voxel_size_xyz: physical size of a voxel.
      names: what the two sides are called.
      link: makes links to a viewer.
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
      cases: the worst first.
      of_segments: whether they are segments, not objects of the truth.
    """

    title: str
    cases: Sequence[Case | Missing]
    of_segments: bool = False


def sections_of(found: Evaluation) -> list[Section]:
    """The cases of an evaluation."""
    return [
        Section('Objects that are cut', found.splits),
        Section('Segments that join objects', found.mergers, of_segments=True),
        Section('Objects that are missing', found.missing),
    ]


def write_field_report(
    path: str | Path, title: str, facts: Mapping[str, object], numbers: Sequence[str],
    field: Field, sections: Sequence[Section], quiet: bool = True,
) -> None:  # fmt: skip
    """Writes the page.

    Args:
      path: the HTML file.
      title: heading.
      facts: rows of a table at the top.
      numbers: HTML that comes before the pictures.
      field: what the pictures are made of.
      sections: what is shown.
      quiet: no progress bar.

    Raises:
      UserError: a volume cannot be read.
    """
    body = [table([(text(name), text(value)) for name, value in facts.items()]), *numbers]
    cases = [(section, case) for section in sections for case in section.cases]
    shown = {
        id(case): _case(section, case, field)
        for section, case in progress(cases, desc='pictures', unit='case', quiet=quiet)
    }
    body.append(
        f'<p>Pictures: planes xy, xz and yz through the cross; above the image, below it outlines of '
        f'{text(field.names[0])} and areas of {text(field.names[1])}. A click selects a position.</p>'
    )
    for section in sections:
        body.append(f'<h2>{text(section.title)}</h2>')
        body += [shown[id(case)] for case in section.cases] or ['<p>None.</p>']
    write_html(path, title, body)


def numbers_of(found: Evaluation) -> list[str]:
    """The numbers of an evaluation, HTML."""
    header = ['voxels', 'number', 'VOI split', 'VOI merge', 'Rand error', 'precision', 'recall']
    rows = [_score_row(f'labelled in {name}', s) for name, s in found.scores.items()]
    for name, s in (found.inner_scores or {}).items():
        rows.append(_score_row(f'labelled in {name}, {found.boundary} at borders left out', s))
    parts = ['<h2>Scores</h2>', table(rows, header, 'numbers')]
    c = found.coverage
    parts.append(
        f'<p>{c.covered_fraction:.1%} of the {c.truth_voxels:,} labelled voxels have a segment. Of '
        f'{c.objects:,} objects, {c.objects_covered:,} are covered at least by half and '
        f'{c.objects_missing:,} not at all; there are {c.segments:,} segments.</p>'
    )
    if found.erl:
        e = found.erl
        rows = [
            ('expected run length', f'{e.erl:,.6g}'), ('of a perfect segmentation', f'{e.perfect_erl:,.6g}'),
            ('normalised', f'{e.normalised_erl:.4f}'), ('length of all skeletons', f'{e.length:,.6g}'),
            *((name, f'{getattr(e, name) / e.length:.1%}')
              for name in ('correct', 'split', 'omitted', 'merged')),
            ('neurons, trees, nodes', f'{e.neurons:,}, {e.trees:,}, {e.nodes:,}'),
            ('voxel size x, y, z', ', '.join(f'{v:g}' for v in e.voxel_size_xyz)),
            ('merge threshold', f'{e.merge_threshold:g}'),
            ('segments that merge neurons', f'{len(e.mergers):,}'),
        ]  # fmt: skip
        parts += ['<h2>Expected run length</h2>', table(rows, kind='numbers')]
    return parts


def _score_row(name: str, scores: Scores | None) -> list[str]:
    if scores is None:
        return [name, '0', *['–'] * 5]
    s = scores
    values = (s.voi_split, s.voi_merge, s.rand_error, s.rand_precision, s.rand_recall)
    return [name, f'{s.voxels:,}', *(f'{value:.4f}' for value in values)]


def _case(section: Section, case: Case | Missing, field: Field) -> str:
    pieces = [] if isinstance(case, Missing) else [p.id for p in case.pieces]
    segments = [case.id] if section.of_segments else pieces
    objects = pieces if section.of_segments else [case.id]
    object_colors = dict(zip(objects, OBJECT_COLORS, strict=False))
    segment_colors = dict(zip(segments, SEGMENT_COLORS, strict=False))
    picture = case_picture(
        field.truth, field.segmentation, field.image, case.at_xyz, object_colors, segment_colors,
        field.voxel_size_xyz,
    )  # fmt: skip
    own, other = (
        (segment_colors, object_colors) if section.of_segments else (object_colors, segment_colors)
    )
    position = ', '.join(map(str, case.at_xyz))
    url = field.link(case.at_xyz, objects, segments)
    there = f' <a href="{text(url)}">open</a>' if url else ''
    caption = f'{_marked(case.id, own)}: {_what(case, other)} At <code>{position}</code>{there}'
    return figure(png_of(picture), caption, alt=f'{case.id} at x,y,z {position}')


def _what(case: Case | Missing, colors: Mapping[int, Rgb]) -> str:
    if isinstance(case, Missing):
        return f'{case.missing:,} of its {case.voxels:,} voxels are missing.'
    pieces = ', '.join(f'{_marked(p.id, colors)} ({p.voxels:,})' for p in case.pieces)
    more = f' and {case.number - len(case.pieces):,} more' if case.number > len(case.pieces) else ''
    return f'{case.bits:.4f} bits, {case.voxels:,} voxels in {pieces}{more}.'


def _marked(number: int, colors: Mapping[int, Rgb]) -> str:
    """An id with its colour in the picture before it."""
    if number not in colors:
        return str(number)
    r, g, b = colors[number]
    return f'<span style="background:rgb({r},{g},{b});border:1px solid #888">&emsp;</span> {number}'
