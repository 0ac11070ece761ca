"""The page of a whole-volume report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ffn.evaluation.run_report import pictures
from ffn.evaluation.run_report.joins import Decision, Joins
from ffn.evaluation.run_report.object_summaries import STEPS_PER_DECADE, Spans
from ffn.evaluation.run_report.report import RunReport
from ffn.evaluation.run_report.subvolume_summaries import Borders, Times
from ffn.utils.geometry import Xyz
from ffn.visualization.neuroglancer_link import Layer, link
from ffn.visualization.page import figure, table, write_html
from ffn.volumes.volume import Volume


@dataclass(frozen=True)
class Viewer:
    """How a place is opened.

    Attributes:
      command: of `ffn view`, to which a position is added; '': none.
      url: of a Neuroglancer that links lead to; '': no links.
      image: volume shown there; '': none.
      labels: volume shown there; '': none.
      voxel_size_xyz: nanometres; None: unknown.
    """

    command: str = ''
    url: str = ''
    image: str = ''
    labels: str = ''
    voxel_size_xyz: Sequence[float] | None = None

    def show(self, at: Xyz | None, selected: Sequence[int] = ()) -> Markup:
        """Returns a command to copy, and a link if a browser can fetch the volumes."""
        if at is None:
            return Markup('')
        place = pictures.position(at)
        text = f'{self.command} --position {place}' if self.command else place
        shown = Markup('<code>{}</code>').format(text)
        layers = [Layer('image', self.image)] if self.image else []
        layers += [Layer('labels', self.labels, selected)] if self.labels else []
        target = link(self.url, layers, at, self.voxel_size_xyz) if self.url else None
        return shown + Markup(' <a href="{}">open</a>').format(target) if target else shown


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, object],
    report: RunReport,
    labels: Volume | None,
    image: Volume | None,
    viewer: Viewer,
) -> None:
    """Writes the page, atomically.

    Args:
      path: HTML file.
      title: heading.
      facts: rows at its top.
      report: what it shows.
      labels: the volume, for planes; None: none are drawn.
      image: below it.
      viewer: how places are opened.

    Raises:
      UserError: a volume cannot be read.
    """
    body: list[str] = [table(list((dict(facts) | _facts(report)).items()))]
    body += _concerns(report, viewer)
    if labels is not None and report.box is not None:
        body.append(
            Markup('<h2>Overview</h2><p>White lines are the borders between subvolumes.</p>')
        )
        planes = pictures.draw_planes(
            labels, image, report.box, report.tiling, report.voxel_size_xyz
        )
        body += [figure([png], f'{caption}.', caption) for caption, png in planes]
    body += _objects(report, viewer)
    if report.spans is not None:
        body += _spans(report.spans)
    body += _fill(report)
    if report.borders is not None:
        body += _borders(report, report.borders, viewer)
    if report.joins is not None:
        body += _joins(report.joins, viewer)
    if report.times is not None:
        body += _times(report, report.times, viewer)
    write_html(path, title, body)


def _facts(report: RunReport) -> dict[str, object]:
    rows: dict[str, object] = {}
    if report.box is not None:
        rows['box'] = report.box
    size = ','.join(f'{n:g}' for n in report.voxel_size_xyz)
    rows['voxel size x,y,z'] = f'{size} nm' if report.unit == 'nm' else 'unknown, taken for a cube'
    if report.subvolumes is not None:
        total, present = report.subvolumes
        rows['subvolumes'] = f'{present:,} of {total:,} have a result'
    if report.filled_fraction is not None:
        rows['labelled'] = f'{report.filled_fraction:.1%} of the box'
    if report.sizes is not None:
        rows['objects'] = f'{report.sizes.objects:,}'
    return rows


def _heading(text: str) -> Markup:
    return Markup('<h2>{}</h2>').format(text)


def _paragraph(text: str) -> Markup:
    return Markup('<p>{}</p>').format(text)


def _concerns(report: RunReport, viewer: Viewer) -> list[Markup]:
    if not report.concerns:
        return [_heading('Worth a look'), _paragraph('Nothing stands out.')]
    items = Markup('').join(
        Markup('<li>{} {}</li>').format(
            one.text, viewer.show(one.at_xyz, [one.object] if one.object is not None else [])
        )
        for one in report.concerns
    )
    return [_heading('Worth a look'), Markup('<ul>{}</ul>').format(items)]


def _objects(report: RunReport, viewer: Viewer) -> list[Markup]:
    if report.sizes is None:
        return []
    sizes = report.sizes
    edges = [10 ** (i / STEPS_PER_DECADE) for i in range(len(sizes.histogram) + 1)]
    histogram = pictures.draw_bars(edges, [('', sizes.histogram)], 'voxels', 'objects', log=True)
    header = ['object', 'voxels', 'share', f'span, {report.unit}', 'where']
    rows = [
        [
            one.id,
            f'{one.voxels:,}',
            f'{one.voxels / sizes.voxels:.1%}',
            '–' if one.span is None else f'{one.span:,.0f}',
            viewer.show(one.at_xyz, [one.id]),
        ]
        for one in report.largest
    ]
    parts = [
        _heading('Sizes'),
        _paragraph(
            f'{sizes.objects:,} objects with {sizes.voxels:,} voxels; half of them have fewer than about '
            f'{sizes.median:,}.'
        ),
        figure([histogram], 'Objects by size.', 'histogram of sizes'),
        table(rows, header, 'numbers'),
    ]
    if report.census is not None:
        drawn = pictures.draw_largest(
            report.census, report.largest, report.voxel_size_xyz, report.unit
        )
        parts += [figure([png], f'{caption}.', caption) for caption, png in drawn]
    return parts


def _spans(spans: Spans) -> list[Markup]:
    edges = np.linspace(0, spans.diagonal, len(spans.histogram) + 1).tolist()
    rows = {
        'objects': f'{spans.objects:,}',
        'median': f'{spans.median:,.0f} {spans.unit}',
        'mean, by voxel': f'{spans.mean_by_voxel:,.0f} {spans.unit}',
        'largest': f'{spans.largest:,.0f} {spans.unit}',
        'diagonal of the box': f'{spans.diagonal:,.0f} {spans.unit}',
        'from one face to the opposite one': f'{spans.crossing:,} objects',
    }
    return [
        _heading('Run length'),
        _paragraph(
            f'The span of an object is the diagonal of the box around it, at most the length of a path along it from '
            f'end to end; objects of fewer than {spans.min_voxels:,} voxels are left out. The mean by voxel is '
            'the span of the object that a labelled voxel belongs to, on average.'
        ),
        table(list(rows.items()), kind='numbers'),
        figure(
            [pictures.draw_bars(edges, [('', spans.histogram)], f'span, {spans.unit}', 'objects')],
            'Objects by span.',
            'histogram of spans',
        ),
    ]


def _fill(report: RunReport) -> list[Markup]:
    heading = _heading('Fill')
    if report.facts is not None and report.tiling is not None and report.facts['filled'].any():
        facts = report.facts
        known = facts['present'] & (facts['core'] > 0)
        share = np.where(known, facts['filled'] / np.maximum(facts['core'], 1), np.nan)
        grid, what = pictures.grid_of(report.tiling, share), 'subvolume'
    elif report.census is not None:
        grid, what = report.census.filled, 'block'
    else:
        return []
    drawn = pictures.draw_map(grid, 'labelled share', low=0.0)
    caption = f'Share of voxels that have a label, for each {what}; grey: no result.'
    return [heading, figure([drawn], caption, 'map of fill')]


def _borders(report: RunReport, borders: Borders, viewer: Viewer) -> list[Markup]:
    rows = {
        'overlaps': f'{borders.overlaps:,}',
        'labelled voxels in them': f'{borders.voxels:,}',
        'both sides give one object': f'{borders.agreement:.1%}',
        'they give two objects': f'{borders.differ:.1%}',
        'one side gives none': f'{borders.one_sided:.1%}',
        'ids in overlaps, of both sides': f'{borders.ids:,}',
        'their object goes on across the border': f'{borders.continued:.1%}',
        'it ends at the border: nothing is there': f'{borders.ended:.1%}',
        'it ends at another object': f'{borders.blocked:.1%}',
    }
    names = {
        'candidates': 'pairs of ids that share voxels',
        'edges': 'of these, taken for one object',
        'conflicts': 'ids that matched several of a neighbour',
        'joined_within_subvolumes': 'joins of ids of one subvolume, through others',
    }
    for key, name in names.items():
        if report.matching and key in report.matching:
            rows[name] = f'{report.matching[key]:,}'
    parts = [
        _heading('Borders between subvolumes'),
        _paragraph(
            'Two neighbours both see the voxels of their overlap. Where they do not agree, the border has an effect, '
            'which a larger overlap may lessen.'
        ),
        table(list(rows.items()), kind='numbers'),
    ]
    if report.facts is not None and report.tiling is not None:
        facts = report.facts
        agree = facts['agree'].sum(axis=1)
        labelled = agree + (facts['differ'] + facts['one_sided']).sum(axis=1)
        share = np.where(labelled > 0, agree / np.maximum(labelled, 1), np.nan)
        if np.isfinite(share).any():
            drawn = pictures.draw_map(pictures.grid_of(report.tiling, share), 'agreement')
            caption = (
                'Share of labelled voxels to which a subvolume and the next ones along x, y and z give one object; '
                'grey: there is none.'
            )
            parts.append(figure([drawn], caption, 'map of agreement'))
    worst = [
        [one.along, f'{one.voxels:,}', f'{one.agreement:.1%}', viewer.show(one.at_xyz)]
        for one in borders.worst
    ]
    if worst:
        parts += [
            _paragraph('Overlaps with the most voxels on which the two sides do not agree:'),
            table(worst, ['along', 'voxels', 'agreement', 'middle'], 'numbers'),
        ]
    return parts


def _joins(joins: Joins, viewer: Viewer) -> list[Markup]:
    edges = np.linspace(0, 1, len(joins.histogram_accepted) + 1).tolist()
    series = [('joined', joins.histogram_accepted), ('not joined', joins.histogram_rejected)]
    name = {'iou': 'intersection over union'}.get(joins.score, joins.score)

    def rows(decisions: Sequence[Decision]) -> list[list[object]]:
        return [
            [f'{d.ids[0]}, {d.ids[1]}', f'{d.score:.3f}', viewer.show(d.at_xyz, d.ids)]
            for d in decisions
        ]

    header = ['segments', name, 'where']
    return [
        _heading('Merges by agglomeration'),
        _paragraph(
            f'{joins.accepted:,} pairs were joined, {joins.rejected:,} were not; {joins.not_scored:,} of them have '
            'no score, as one or both of their segments could not be grown again.'
        ),
        figure(
            [pictures.draw_bars(edges, series, name, 'pairs')],
            'Pairs by score.',
            'histogram of scores',
        ),
        _paragraph('Joined, with the lowest scores:'),
        table(rows(joins.weakest_accepted), header, 'numbers'),
        _paragraph('Not joined, with the highest:'),
        table(rows(joins.strongest_rejected), header, 'numbers'),
    ]


def _times(report: RunReport, times: Times, viewer: Viewer) -> list[Markup]:
    total = max(times.seconds, 1e-9)
    rows = {
        'subvolumes with counters': f'{times.subvolumes:,}',
        'time of all, one after the other': _format_time(times.seconds),
        'network steps': f'{times.steps:,}, {times.step_ms:.1f} ms each, waiting included',
        'seeds': f'{times.seeds:,}; rejected: '
        + ', '.join(f'{count:,} {why}' for why, count in times.rejected.items()),
    }
    spent = [
        ('objects that were kept', times.kept_seconds),
        ('objects that became too weak', times.weak_seconds),
        ('objects that were too small', times.small_seconds),
        ('the rest: looking for seeds, reading, writing', times.other_seconds),
    ]
    parts = [
        _heading('Time'),
        table(list(rows.items())),
        _paragraph('Where it went:'),
        table([[n, _format_time(s), f'{s / total:.1%}'] for n, s in spent], kind='numbers'),
    ]
    if report.facts is not None and report.tiling is not None:
        facts = report.facts
        seconds = np.where(facts['counted'], facts['time'] / 1e3, np.nan)
        drawn = pictures.draw_map(pictures.grid_of(report.tiling, seconds), 'seconds', low=0.0)
        parts.append(figure([drawn], 'Seconds for each subvolume.', 'map of time'))
    slowest = [
        [
            pictures.position(one.corner_xyz),
            _format_time(one.seconds),
            f'{one.steps:,}',
            f'{one.step_ms:.1f}',
            viewer.show(one.corner_xyz),
        ]
        for one in times.slowest
    ]
    header = ['subvolume at x,y,z', 'time', 'steps', 'ms per step', 'where']
    return [*parts, _paragraph('The slowest:'), table(slowest, header, 'numbers')]


def _format_time(seconds: float) -> str:
    if seconds < 600:
        return f'{seconds:,.1f} s'
    return f'{seconds / 3600:,.1f} h' if seconds >= 36_000 else f'{seconds / 60:,.1f} min'
