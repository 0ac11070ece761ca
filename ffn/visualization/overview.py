"""Whole planes of a comparison: image, truth and segmentation in matched colours, and where they differ.

Planes are sampled as a picture needs them, in physical proportions, and read in tiles, so that they may be of any
size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffn.utils.geometry import Box, Xyz
from ffn.visualization.overlay import boundaries, label_colors
from ffn.volumes.volume import Volume

# Pixels: at most of a panel, between panels, of its title, from stripe to stripe.
PANEL, _GAP, _TITLE, _STRIPES, _FONT = 470, 8, 20, 8, 13
# Voxels along an edge of the tiles that are read at a time.
_TILE = 2048
_AREA_ALPHA, _FLAT_GRAY = 0.5, 150
_STRIPE = (25, 25, 25)
# Axes across, down and to the right (0 is x) of the planes xy, xz and yz.
PLANES = {'xy': (2, 1, 0), 'xz': (1, 2, 0), 'yz': (0, 2, 1)}


@dataclass(frozen=True)
class Sampling:
    """Which voxels of a plane the pixels of a picture show.

    Attributes:
      name: 'xy', 'xz' or 'yz'.
      box: the plane, one voxel thick.
      rows: int [rows], voxel of each row of pixels, counted from the box.
      columns: int [columns], likewise.
    """

    name: str
    box: Box
    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(
        cls, name: str, box: Box, at: Xyz, voxel_size_xyz: Sequence[float], largest: int = PANEL
    ) -> Sampling:
        """Chooses voxels.

        Args:
          name: of the plane.
          box: what is shown of it.
          at: a voxel that the plane goes through.
          voxel_size_xyz: physical size of a voxel.
          largest: pixels along the longer side.
        """
        across, down, right = PLANES[name]
        start, size = list(box.start), list(box.size)
        start[across], size[across] = at[across], 1
        extents = [size[axis] * voxel_size_xyz[axis] for axis in (down, right)]
        pixel = max(extents) / largest
        index = [
            np.arange(n := max(round(extent / pixel), 1)) * size[axis] // n
            for extent, axis in zip(extents, (down, right), strict=True)
        ]
        return cls(name, Box(Xyz(*start), Xyz(*size)), *index)

    def read(self, volume: Volume) -> np.ndarray:
        """Reads the voxels of the pixels, [rows, columns]; 0 outside of the volume.

        Raises:
          UserError: the volume cannot be read.
        """
        _, down, right = PLANES[self.name]
        picture = np.zeros((len(self.rows), len(self.columns)), volume.dtype)
        for top in range(0, self.box.size[down], _TILE):
            rows = (self.rows >= top) & (self.rows < top + _TILE)
            for left in range(0, self.box.size[right], _TILE):
                columns = (self.columns >= left) & (self.columns < left + _TILE)
                tile = self._tile(top, left).intersection(volume.box)
                if tile is None or not rows.any() or not columns.any():
                    continue
                place = tile.relative_to(self.box.start).start
                plane = volume.read(tile).reshape(tile.size[down], tile.size[right])
                # Voxels of the tile that lie outside of the volume have no pixels.
                wanted = []
                for which, index, axis in ((rows, self.rows, down), (columns, self.columns, right)):
                    inside = (index >= place[axis]) & (index < place[axis] + tile.size[axis])
                    wanted.append(np.flatnonzero(which & inside))
                shown = np.ix_(
                    self.rows[wanted[0]] - place[down], self.columns[wanted[1]] - place[right]
                )
                picture[np.ix_(*wanted)] = plane[shown]
        return picture

    def _tile(self, top: int, left: int) -> Box:
        _, down, right = PLANES[self.name]
        start, size = list(self.box.start), list(self.box.size)
        for axis, offset in ((down, top), (right, left)):
            start[axis] += offset
            size[axis] = min(size[axis] - offset, _TILE)
        return Box(Xyz(*start), Xyz(*size))


@dataclass(frozen=True)
class Panel:
    """One view of a plane.

    Attributes:
      title: above it.
      colors: uint8 [rows, columns, 3] of areas.
      alpha: float [rows, columns], their opacity.
      edges: bool [rows, columns], outlines, opaque.
    """

    title: str
    colors: np.ndarray
    alpha: np.ndarray
    edges: np.ndarray

    @classmethod
    def of_labels(
        cls,
        title: str,
        labels: np.ndarray,
        color_of: Callable[[np.ndarray], np.ndarray] = label_colors,
        striped: np.ndarray | None = None,
        plain: bool = False,
    ) -> Panel:
        """Draws labels as areas with outlines.

        Args:
          title: above it.
          labels: integer [rows, columns].
          color_of: labels → uint8 [rows, columns, 3].
          striped: bool [rows, columns], which areas are striped.
          plain: whether there is no image below, so that areas are opaque.
        """
        inside = labels > 0
        colors = color_of(labels)
        if striped is not None:
            row, column = np.indices(labels.shape)
            colors = np.where(
                (striped & ((row + column) // (_STRIPES // 2) % 2 == 0))[..., np.newaxis],
                np.array(_STRIPE, np.uint8),
                colors,
            )
        alpha = np.where(inside, 0.85 if plain else _AREA_ALPHA, 0.0)
        return cls(title, colors, alpha, boundaries(labels) & inside)

    @classmethod
    def of_kinds(
        cls, title: str, kinds: np.ndarray, colors: Sequence[tuple[int, int, int]]
    ) -> Panel:
        """Draws numbers above 0 in the given colours, that of 1 first."""
        palette = np.array([(0, 0, 0), *colors], np.uint8)
        alpha = np.where(kinds > 0, 0.8, 0.0)
        return cls(title, palette[kinds], alpha, np.zeros(kinds.shape, bool))


def draw_panels(gray: np.ndarray | None, panels: Sequence[Panel], columns: int) -> Image.Image:
    """Draws panels beside and below each other; the image alone first, if there is one.

    Args:
      gray: uint8 [rows, columns] of the plane; None: no image, all grey.
      panels: what is drawn over it.
      columns: panels beside each other.
    """
    shape = panels[0].alpha.shape
    below = np.full(shape, _FLAT_GRAY, np.uint8) if gray is None else gray
    base = np.repeat(below[..., np.newaxis], 3, axis=-1)
    tiles = [] if gray is None else [('image', base)]
    for panel in panels:
        alpha = np.where(panel.edges, 1.0, panel.alpha)[..., np.newaxis]
        tiles.append((panel.title, (base * (1 - alpha) + panel.colors * alpha).astype(np.uint8)))
    lines = math.ceil(len(tiles) / columns)
    high, wide = shape[0] + _TITLE + _GAP, shape[1] + _GAP
    sheet = Image.new('RGB', (columns * wide - _GAP, lines * high - _GAP), 'white')
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_FONT)
    for number, (title, tile) in enumerate(tiles):
        line, column = divmod(number, columns)
        draw.text((column * wide, line * high), title, fill='black', font=font)
        sheet.paste(Image.fromarray(tile), (column * wide, line * high + _TITLE))
    return sheet
