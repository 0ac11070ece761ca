"""The planes at the top of a page: image, both sides in matched colours, and what differs."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from ffn.evaluation.case_figures import ReportVolumes
from ffn.evaluation.matches import Matches
from ffn.evaluation.second_look import SecondLook, classify
from ffn.visualization.case_pictures import as_gray, encode_png
from ffn.visualization.overlay import label_colors
from ffn.visualization.overview import PLANES, Panel, Sampling, draw_panels
from ffn.visualization.page import figure

# Of SPLIT, MERGED and MISSED, and what they are called.
KINDS = {
    'in a smaller piece': (40, 110, 255),
    'in a segment of another object': (235, 40, 30),
    'missed': (255, 190, 0),
}


def draw_overview(volumes: ReportVolumes, look: SecondLook, matches: Matches) -> list[Markup]:
    """Draws the planes xy, xz and yz, those with the most wrong voxels.

    Args:
      volumes: what is drawn.
      look: where most is wrong.
      matches: which labels are the same.

    Returns:
      Heading, explanation and figures.

    Raises:
      UserError: a volume cannot be read.
    """
    legend = Markup(', ').join(
        Markup('<span style="background:rgb({},{},{})">&emsp;</span> {}').format(*color, name)
        for name, color in KINDS.items()
    )
    text = Markup(
        '<p>Of each direction the plane with the most voxels that are split off or merged. An object and a segment that have their '
        'largest overlap with each other have one colour in both; what has no such partner is striped, pieces in '
        'the colour of the object that they belong to. Differences: {}. Missed are objects to which no segment belongs, '
        'where they have none; of an object that was found in part, the rest is not marked, and is in the list of errors.</p>'
    ).format(legend)
    figures = [_draw_plane(name, volumes, look, matches) for name in PLANES]
    return [Markup('<h2>Overview</h2>'), text, *figures]


def _draw_plane(name: str, volumes: ReportVolumes, look: SecondLook, matches: Matches) -> Markup:
    at = look.worst_place()
    sampling = Sampling.of(name, look.box, at, volumes.voxel_size_xyz)
    labels, found = sampling.read(volumes.truth), sampling.read(volumes.segmentation)
    gray = None
    if volumes.image is not None:
        image = sampling.read(volumes.image)
        gray = as_gray(image, np.ones(image.shape, bool))
    plain = gray is None

    def color_of_segments(segments: np.ndarray) -> np.ndarray:
        objects = matches.segments.partners(segments)
        return label_colors(np.where(objects > 0, objects, segments.astype(np.uint64)))

    unmatched = ~matches.objects.are_matched(labels), ~matches.segments.are_matched(found)
    panels = [
        Panel.of_labels(volumes.names[0], labels, striped=unmatched[0], plain=plain),
        Panel.of_labels(volumes.names[1], found, color_of_segments, unmatched[1], plain),
        Panel.of_kinds('differences', classify(labels, found, matches), list(KINDS.values())),
    ]
    across = PLANES[name][0]
    index = at[across] - look.box.start[across]
    caption = (
        f'Plane {name} at {"xyz"[across]} = {at[across]}: {look.wrong[across][index]:,} voxels are in a smaller '
        f'piece or in a segment of another object, {look.missed[across][index]:,} are of missed objects.'
    )
    picture = draw_panels(gray, panels, columns=2 if gray is not None else 3)
    return figure([encode_png(picture)], caption, alt=f'plane {name}')
