"""The cases of a page: planes through the place, the whole object in 3-d, and a caption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from PIL import Image

from ffn.evaluation.case_solids import close_up, whole_solid
from ffn.evaluation.error_cases import ErrorCase, MissedObject
from ffn.evaluation.second_look import SecondLook
from ffn.utils.geometry import Xyz
from ffn.visualization.case_pictures import (
    OBJECT_COLORS,
    SEGMENT_COLORS,
    Rgb,
    case_picture,
    encode_png,
)
from ffn.visualization.page import figure
from ffn.visualization.render import render, view_of
from ffn.volumes.volume import Volume

Link = Callable[[Xyz, Sequence[int], Sequence[int]], str | None]
"""Position, ids of objects, ids of segments → URL of a viewer, or None."""
# Pixels of a picture in 3-d, and between two.
_SOLID, _GAP = (440, 400), 5
MISSING: Rgb = (255, 190, 0)
_SQUARE = '<span style="background:rgb({},{},{});border:1px solid #888">&emsp;</span> '


@dataclass(frozen=True)
class ReportVolumes:
    """The volumes that the pictures are cut from.

    Attributes:
      truth: labels, drawn as outlines.
      segmentation: labels in the same coordinates, drawn as areas.
      image: one channel, in the same coordinates; None: grey.
      voxel_size_xyz: physical size of a voxel.
      unit: of this size, 'nm' or 'voxels'.
      names: captions for the two sides.
      link: returns the URL of a place in a viewer.
      command: of `ffn view`, to which a position is added; '': none.
    """

    truth: Volume
    segmentation: Volume
    image: Volume | None = None
    voxel_size_xyz: Sequence[float] = (1, 1, 1)
    unit: str = 'voxels'
    names: tuple[str, str] = ('ground truth', 'segmentation')
    link: Link = lambda at, objects, segments: None
    command: str = ''


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


def format_case(
    section: Section, case: ErrorCase | MissedObject, volumes: ReportVolumes, look: SecondLook
) -> Markup:
    """Makes the figure of a case.

    Args:
      section: what kind of case it is.
      case: the case.
      volumes: what the pictures are cut from.
      look: extents of the objects and segments that the cases are about.

    Raises:
      UserError: a volume cannot be read.
    """
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
    if volumes.command:
        command = f'{volumes.command} --position {",".join(map(str, case.at_xyz))}'
        caption += Markup('<br><code>{}</code>').format(command)
    # Of a missed object, what has no segment stands out.
    pieces_in_3d = {0: MISSING} if isinstance(case, MissedObject) else other
    pictures = [picture, _draw_solids(section, case, volumes, look, pieces_in_3d)]
    return figure(
        [encode_png(each) for each in pictures], caption, alt=f'{case.id} at x,y,z {position}'
    )


def _draw_solids(
    section: Section,
    case: ErrorCase | MissedObject,
    volumes: ReportVolumes,
    look: SecondLook,
    pieces: Mapping[int, Rgb],
) -> Image.Image:
    """Draws the case's object or segment in 3-d, in the colours of its pieces: all of it, and the place."""
    own, other = volumes.truth, volumes.segmentation
    extents = look.objects
    if section.of_segments:
        own, other, extents = other, own, look.segments
    size = volumes.voxel_size_xyz
    whole = whole_solid(own, other, case.id, pieces, extents[case.id], size)
    near = close_up(own, other, case.id, pieces, case.at_xyz, size)
    marker = [(a + 0.5) * edge for a, edge in zip(case.at_xyz, size, strict=True)]
    view = view_of(whole, marker)
    sheet = Image.new('RGB', (2 * _SOLID[0] + _GAP, _SOLID[1]), 'white')
    for column, solid in enumerate((whole, near)):
        drawn = render(solid, _SOLID, view=view, marker_xyz=marker, unit=volumes.unit)
        sheet.paste(drawn, (column * (_SOLID[0] + _GAP), 0))
    return sheet


def _describe(case: ErrorCase | MissedObject, colors: Mapping[int, Rgb]) -> str:
    if isinstance(case, MissedObject):
        square = Markup(_SQUARE).format(*MISSING)
        return Markup('{} of its {} voxels are missing ({}in 3-d).').format(
            f'{case.missing:,}', f'{case.voxels:,}', square
        )
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
    return Markup(_SQUARE + '{}').format(*colors[number], number)
