"""Pictures of one object while it grows, in three planes, and of what it became.

Orange is the object, shaded by probability; blue is what the network has seen and rejected. The yellow
frame is the field of view, dashed if it lies in front of or behind the plane. The cross is the start, a
dot if the plane does not pass through it. See recorder.py for growing an object and watching it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.special import expit

from ffn.inference.core.canvas import Canvas
from ffn.utils.geometry import Position, Xyz, Zyx
from ffn.visualization.overlay import orthogonal_planes, overlay

OBJECT, OTHER = (255, 120, 20), (30, 90, 255)
FIELD_OF_VIEW, START = (255, 235, 0), (0, 255, 255)
# Opacity of the mask where it is the object, and where it is not.
_OBJECT_ALPHA, _OTHER_ALPHA = 0.5, 0.15
_PALETTE_GRAYS = 62
# An id that `label_colors` draws in the colour of OBJECT.
_ORANGE_ID = 26

# Planes in the order of `orthogonal_planes`: the axes across, down and to the right, of z, y, x.
_PLANES = ((0, 1, 2), (1, 0, 2), (2, 0, 1))
_AXES = 'zyx'

# Pixels.
_WIDTH, _MAX_SCALE = 1000, 8
_GAP, _MIN_PANEL, _LINE, _FONT = 12, 118, 17, 13
# Above the planes: two lines of text, the legend, and two lines for each plane.
_TOP = 5 * _LINE + _GAP


def object_size(canvas: Canvas) -> int:
    """Counts the voxels of the object on a canvas, as a segment would be made of it."""
    extent = canvas.visited_extent()
    likely = canvas.seed[extent] >= canvas.options.segment_threshold
    return int(np.count_nonzero(likely & (canvas.segmentation[extent] <= 0)))


def absolute(canvas: Canvas, position_zyx: Sequence[int]) -> Xyz:
    """Converts a position within a canvas to coordinates of the volume."""
    return Zyx(*(p + c for p, c in zip(position_zyx, canvas.corner_zyx, strict=True))).xyz


def shade(gray: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Draws a growing mask over a plane of the image.

    Args:
      gray: uint8 [rows, columns].
      probability: float [rows, columns] of the object; NaN, where no field of view has been, leaves
        the image as it is.

    Returns:
      uint8 [rows, columns, 3].
    """
    seen = ~np.isnan(probability)[..., np.newaxis]
    p = np.nan_to_num(probability)[..., np.newaxis].astype(np.float32)
    color = p * np.array(OBJECT, np.float32) + (1 - p) * np.array(OTHER, np.float32)
    alpha = np.where(seen, p * _OBJECT_ALPHA + (1 - p) * _OTHER_ALPHA, 0)
    return np.rint(gray[..., np.newaxis] * (1 - alpha) + color * alpha).astype(np.uint8)


@functools.cache
def _palette() -> Image.Image:
    """Returns an image with the palette of all frames: every kind of mask over greys, and the marks."""
    grays = np.rint(np.linspace(0, 255, _PALETTE_GRAYS)).astype(np.uint8)
    kinds = [shade(grays[np.newaxis], np.full((1, len(grays)), p)) for p in (np.nan, 0, 0.5, 1)]
    marks = np.array([[OBJECT, OTHER, FIELD_OF_VIEW, START]], np.uint8)
    colors = np.concatenate([*kinds, marks], axis=1)[0]
    image = Image.new('P', (1, 1))
    image.putpalette(colors.tobytes())
    return image


def to_palette(picture: np.ndarray) -> Image.Image:
    """Reduces a picture to the 256 colours shared by all frames of an animation.

    Args:
      picture: uint8 [rows, columns, 3].

    Returns:
      Image with a palette; the marks keep their colours.
    """
    return Image.fromarray(picture).quantize(palette=_palette(), dither=Image.Dither.NONE)


class FloodView:
    """Draws the object that grows on a canvas, in a fixed layout.

    Attributes:
      scale: pixels per voxel, along the axes along which voxels are smallest.
      pixels_zyx: pixels per voxel along each axis, in the proportions of the voxel; need not be whole numbers.
      corners: pixel (row, column) at which each of the planes xy, xz and yz begins.
    """

    def __init__(
        self,
        canvas: Canvas,
        fov: Xyz,
        start_zyx: Sequence[int],
        *,
        through_zyx: Sequence[int] | None = None,
        follow: bool = False,
        scale: int | None = None,
    ):
        """Makes a view.

        Args:
          canvas: its image and seed are drawn in their current state.
          fov: field of view of the model (`runner.info.input_image_size`).
          start_zyx: seed of the object, within the canvas.
          through_zyx: voxel where the planes meet, within the canvas; default: the start.
          follow: cut through the centre of the field of view instead.
          scale: pixels along the shortest edge of a voxel; default: as many as fit into 1000 pixels, at most 8.
        """
        self._canvas, self._fov, self._start = canvas, fov.zyx, Zyx.of(start_zyx)
        self._through = Zyx.of(self._start if through_zyx is None else through_zyx)
        self._follow = follow
        size = canvas.view.voxel_size_zyx
        ratios = [edge / min(size) for edge in size]
        width = sum(canvas.shape[right] * ratios[right] for _, _, right in _PLANES)
        self.scale = scale or min(max(int(_WIDTH / width), 1), _MAX_SCALE)
        self.pixels_zyx = tuple(self.scale * ratio for ratio in ratios)
        sides = [round(n * p) for n, p in zip(canvas.shape, self.pixels_zyx, strict=True)]
        height = max(sides[down] for _, down, _ in _PLANES)
        panels = [max(sides[right], _MIN_PANEL) for _, _, right in _PLANES]
        self.corners = [(_TOP, sum(panels[:i]) + (i + 1) * _GAP) for i in range(len(panels))]
        self._size = sum(panels) + (len(panels) + 1) * _GAP, _TOP + height + _GAP
        # A sample of voxels suffices to tell dark from bright.
        step = math.ceil((canvas.image.size / 1e6) ** (1 / 3))
        sample = canvas.image[::step, ::step, ::step]
        sample = sample[np.isfinite(sample)]
        low, high = np.percentile(sample, (0.5, 99.5)) if len(sample) else (0, 1)
        self._black, self._contrast = low, 255 / max(high - low, 1e-6)

    def gray(self, image: np.ndarray) -> np.ndarray:
        """Converts normalized intensities to uint8, scaled to the range that occurs on the canvas."""
        gray = np.nan_to_num((image - self._black) * self._contrast)
        return np.clip(gray, 0, 255).astype(np.uint8)

    def moment(self, step: int, position_zyx: Sequence[int]) -> np.ndarray:
        """Draws the state after a network step.

        Args:
          step: its number, from 1.
          position_zyx: centre of the field of view, within the canvas.

        Returns:
          uint8 [rows, columns, 3], planes xy, xz and yz from left to right.
        """
        canvas = self._canvas
        through = Zyx.of(position_zyx) if self._follow else self._through
        cuts = zip(
            _PLANES,
            orthogonal_planes(canvas.image, through),
            orthogonal_planes(canvas.seed, through),
            strict=True,
        )
        tiles = []
        for plane, image, logits in cuts:
            tile = self._enlarged(shade(self.gray(image), expit(logits)), plane)
            self._mark_fov(tile, plane, position_zyx, through)
            self._mark_start(tile, plane, through)
            tiles.append(tile)
        title = (
            f'step {step}: {object_size(canvas)} voxels',
            f'field of view at {absolute(canvas, position_zyx)}',
        )
        return self._sheet(tiles, through, title, legend=True)

    def labels(self, labels: np.ndarray, title: str) -> np.ndarray:
        """Draws objects over the image, with outlines.

        Args:
          labels: [z, y, x] of the canvas' shape: integer, 0 is background, every other id has a colour
            of its own; or bool, one object, which is orange.
          title: first line of the picture.

        Returns:
          uint8 [rows, columns, 3], of the size that `moment` has.
        """
        tiles = []
        cuts = (orthogonal_planes(volume, self._through) for volume in (self._canvas.image, labels))
        for plane, image, drawn in zip(_PLANES, *cuts, strict=True):
            ids = drawn * _ORANGE_ID if drawn.dtype == bool else drawn
            tiles.append(self._enlarged(overlay(self.gray(image), ids), plane))
            self._mark_start(tiles[-1], plane, self._through)
        return self._sheet(
            tiles, self._through, (title, f'start at {absolute(self._canvas, self._start)}')
        )

    def _enlarged(self, tile: np.ndarray, plane: Position) -> np.ndarray:
        rows, columns = (
            (np.arange(round(n * self.pixels_zyx[axis])) / self.pixels_zyx[axis]).astype(int)
            for n, axis in zip(tile.shape, plane[1:], strict=False)
        )
        enlarged: np.ndarray = tile[np.ix_(rows, columns)]
        return enlarged

    @property
    def _stroke(self) -> int:
        """Width of lines in pixels."""
        return 1 if self.scale < 3 else 2

    def _mark_fov(
        self, tile: np.ndarray, plane: Position, position: Sequence[int], through: Position
    ) -> None:
        first = [p - n // 2 for p, n in zip(position, self._fov, strict=True)]
        across, *within = plane
        rows, columns = (
            slice(*(round(n * self.pixels_zyx[a]) for n in (first[a], first[a] + self._fov[a])))
            for a in within
        )
        frame = np.zeros(tile.shape[:2], bool)
        frame[rows, columns] = True
        edge = self._stroke
        frame[rows.start + edge : rows.stop - edge, columns.start + edge : columns.stop - edge] = (
            False
        )
        if not first[across] <= through[across] < first[across] + self._fov[across]:
            y, x = np.ogrid[: tile.shape[0], : tile.shape[1]]
            along = abs(y - rows.start) + abs(x - columns.start)
            frame &= along // (2 * self._stroke) % 2 == 0
        tile[frame] = FIELD_OF_VIEW

    def _mark_start(self, tile: np.ndarray, plane: Position, through: Position) -> None:
        across, *within = plane
        row, column = (int((self._start[a] + 0.5) * self.pixels_zyx[a]) for a in within)
        half = self._stroke // 2
        arm = max(6, self.scale) if self._start[across] == through[across] else half + 1
        for r, c in ((half, arm), (arm, half)):
            tile[max(row - r, 0) : row + r + 1, max(column - c, 0) : column + c + 1] = START

    def _sheet(
        self,
        tiles: Sequence[np.ndarray],
        through: Position,
        title: tuple[str, str],
        legend: bool = False,
    ) -> np.ndarray:
        """Arranges planes side by side under their names."""
        sheet = Image.new('RGB', self._size, 'white')
        draw = ImageDraw.Draw(sheet)
        for i, line in enumerate(title):
            _write(draw, (_GAP, _GAP // 3 + i * _LINE), line)
        if legend:
            _draw_legend(draw, (_GAP, _GAP // 3 + 2 * _LINE))
        at = absolute(self._canvas, through).zyx
        for (across, down, right), tile, (top, left) in zip(
            _PLANES, tiles, self.corners, strict=True
        ):
            name = f'{_plane_name(across)} at {_AXES[across]}={at[across]}'
            _write(draw, (left, top - 2 * _LINE), name)
            _write(draw, (left, top - _LINE), f'{_AXES[right]} right, {_AXES[down]} down')
            sheet.paste(Image.fromarray(tile), (left, top))
        return np.asarray(sheet)


def _plane_name(across: int) -> str:
    return _AXES.replace(_AXES[across], '')[::-1]


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT)


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str) -> float:
    """Writes a line and returns where it ends."""
    draw.text(corner, text, fill='black', font=_font())
    return corner[0] + draw.textlength(text, font=_font())


def _draw_legend(draw: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    left, top = corner
    for color, word in (
        (OBJECT, 'object'),
        (OTHER, 'not object'),
        (FIELD_OF_VIEW, 'field of view'),
        (START, 'start'),
    ):
        draw.rectangle((left, top + 3, left + 10, top + 13), fill=color, outline='black')
        left = int(_write(draw, (left + 15, top), word)) + _GAP
