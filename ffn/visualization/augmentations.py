"""Pictures of what augmentation does to a patch, a panel for each kind of change.

Each panel shows the xy plane, and below it the xz plane through the middle, of the image with outlines of
the labels. Of several random draws the one that changes most is shown; for kinds that change single
sections, the section that changes most, marked beside the xz plane. Voxels of weight 0 are red.
"""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

from ffn import synthetic
from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.config import AugmentationConfig, parse_augmentation
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.utils.labels import renumber
from ffn.visualization.overlay import label_colors
from ffn.volumes.provenance import open_complete
from ffn.volumes.volume import check_place

# Stronger than is good for training, so that each is easy to see.
STRONG: tuple[dict[str, dict[str, Any]], ...] = (
    {'rotation_2d': {'max_degrees': 60}},
    {'rotation_3d': {'uniform': True}},
    {'affine': {'max_scale': 0.3, 'max_shear': 0.3}},
    {'affine': {'max_scale': 0.1, 'max_shear': 0.1, 'per_section': True}},
    {'elastic': {'amplitude': 8, 'smoothness': 12}},
    {'elastic': {'amplitude': 3, 'smoothness': 12, 'per_section': True}},
    {'misalignment': {'max_displacement': 12, 'slip_probability': 1, 'shift_probability': 1}},
    {'contrast': {'min_factor': 0.4, 'max_factor': 0.6}},
    {'brightness': {'max_shift': 1, 'per_section': True}},
    {'gamma': {'min_exponent': 2.5, 'max_exponent': 3}},
    {
        'occlusion': {
            'min_boxes': 4,
            'max_boxes': 4,
            'min_size': [8, 8, 4],
            'max_size': [20, 20, 12],
        }
    },
    {'out_of_focus_section': {'section_probability': 0.15, 'min_sigma': 3, 'max_sigma': 4}},
    {'partially_missing_section': {'section_probability': 0.15}},
    {'missing_section': {'section_probability': 0.1}},
    {'noise': {'min_sigma': 0.7, 'max_sigma': 0.8}},
)
_CHANGE_SECTIONS = (
    'misalignment',
    'occlusion',
    'out_of_focus_section',
    'partially_missing_section',
    'missing_section',
)
# Panels that show all configured kinds together, and draws that the other panels choose from.
_COMBINED_PANELS, _DRAWS = 3, 8

# All in pixels, except the last: standard deviations of the image from mid-gray to black or white.
_PANEL, _GAP, _LINE, _FONT, _COLUMNS, _CAPTION_LINES = 195, 14, 15, 12, 4, 3
_CONTRAST = 2.5


class Patch(NamedTuple):
    """A patch, or a block around it.

    Attributes:
      image: float32 [z, y, x], normalised.
      labels: integer [z, y, x].
      weights: float32 [z, y, x].
    """

    image: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Panel:
    """What one picture shows.

    Attributes:
      title: its first line.
      caption: below the title.
      config: how the patch is changed.
      draws: number of random draws, of which the one that changes most is shown.
      changes_sections: whether to show the section that changes most.
    """

    title: str
    caption: str
    config: AugmentationConfig
    draws: int = 1
    changes_sections: bool = False


def choose_panels(config: AugmentationConfig) -> list[Panel]:
    """Chooses the panels that show a config.

    Args:
      config: each of its kinds gets a panel, alone and with probability 1, followed by several panels
        of all kinds together. A config without any kind gives the examples in STRONG, for its voxel
        size.

    Returns:
      The panels, the unchanged patch first.
    """
    unchanged = AugmentationConfig(config.voxel_size)
    panels = [Panel('original', 'above xy, below xz', unchanged)]
    chosen = config.chosen()
    for key, kind in chosen.items():
        certain = dataclasses.replace(kind, probability=1)
        default = type(kind)()
        caption = {
            item.name: getattr(kind, item.name)
            for item in dataclasses.fields(kind)
            if getattr(kind, item.name) != getattr(default, item.name)
        }
        only: dict[str, Any] = {key: certain}
        alone = dataclasses.replace(unchanged, **only)
        panels.append(Panel(key, _format(caption), alone, _DRAWS, key in _CHANGE_SECTIONS))
    if chosen:
        return panels + [Panel('together', 'as configured', config)] * _COMBINED_PANELS
    for example in STRONG:
        ((key, values),) = example.items()
        alone = parse_augmentation(json.dumps({'voxel_size': config.voxel_size, **example}))
        panels.append(Panel(key, _format(values), alone, _DRAWS, key in _CHANGE_SECTIONS))
    return panels


def _format(parameters: Mapping[str, Any]) -> str:
    """Parameters as a caption: 'max_degrees 60, per_section'."""
    texts = []
    for name, value in parameters.items():
        if value is True:
            texts.append(name)
        elif isinstance(value, list | tuple):
            texts.append(f'{name} {",".join(map(str, value))}')
        else:
            texts.append(f'{name} {value:g}')
    return ', '.join(texts)


def draw_panels(
    panels: Sequence[Panel], block: Patch, size: Zyx, seed: int, zoom: int | None = None
) -> Image.Image:
    """Draws panels in a grid.

    Args:
      panels: what to show; the first is what others are compared with.
      block: the patch with a margin around it.
      size: of the patch.
      seed: of all panels; each has a random generator of its own.
      zoom: pixels per voxel; default: by the size of the patch.
    """
    zoom = zoom or max(1, round(_PANEL / size.x))
    original = Patch(*augment(*block, size, AugmentationConfig(), np.random.default_rng(0)))
    tiles = []
    for number, panel in enumerate(panels):
        patches = [
            Patch(*augment(*block, size, panel.config, np.random.default_rng((seed, number, draw))))
            for draw in range(panel.draws)
        ]
        draw, z = _greatest_change(patches, original, panel.changes_sections)
        tiles.append(_draw_tile(panel, patches[draw], z, zoom))
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new('RGB', (columns * width + _GAP, rows * height + _GAP), 'white')
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (_GAP + column * width, _GAP + row * height))
    return sheet


def _greatest_change(
    patches: Sequence[Patch], original: Patch, of_a_section: bool
) -> tuple[int, int]:
    """Finds the patch that differs most from the original, as a whole or in one section.

    Returns:
      Index of the patch, and the z to show: that of the section, or of the centre.
    """
    # [patch, z]
    changes = np.array([np.abs(p.image - original.image).mean(axis=(1, 2)) for p in patches])
    if of_a_section:
        number, z = np.unravel_index(changes.argmax(), changes.shape)
        return int(number), int(z)
    return int(changes.mean(axis=1).argmax()), (changes.shape[1] - 1) // 2


def _draw_tile(panel: Panel, patch: Patch, z: int, zoom: int) -> Image.Image:
    """Draws one panel: text, xy at z, xz; with the gap to the next on its right and below."""
    x_size, _, z_size = panel.config.voxel_size
    deep = max(1, round(zoom * z_size / x_size))
    middle = (patch.image.shape[1] - 1) // 2
    section = _draw_plane(patch, np.s_[z], zoom, zoom)
    across = _draw_plane(patch, np.s_[:, middle], deep, zoom)
    top = (1 + _CAPTION_LINES) * _LINE + 4
    width = section.shape[1]
    height = top + len(section) + _GAP // 2 + len(across) + _GAP
    tile = Image.new('RGB', (width + _GAP, height), 'white')
    tile.paste(Image.fromarray(section), (0, top))
    below = top + len(section) + _GAP // 2
    tile.paste(Image.fromarray(across), (0, below))
    write = ImageDraw.Draw(tile)
    font = ImageFont.load_default(size=_FONT)
    title = f'{panel.title}, z {z} of {len(patch.image)}' if panel.changes_sections else panel.title
    write.text((0, 0), title, fill='black', font=font)
    lines = textwrap.wrap(panel.caption, max(10, int(width / (0.5 * _FONT))))[:_CAPTION_LINES]
    for number, line in enumerate(lines, 1):
        write.text((0, number * _LINE), line, fill=(90, 90, 90), font=font)
    if panel.changes_sections:
        level = below + z * deep + deep // 2
        write.line([(width + 1, level), (width + _GAP // 2, level)], fill='red', width=2)
    return tile


def _draw_plane(patch: Patch, index: Any, tall: int, wide: int) -> np.ndarray:
    """Draws a plane of a patch, enlarged: uint8 [rows, columns, 3]."""
    image, labels, weights = (array[index].repeat(tall, 0).repeat(wide, 1) for array in patch)
    gray = np.clip((image / _CONTRAST + 1) * 127.5, 0, 255).astype(np.uint8)
    outlines = find_outlines(labels)[..., np.newaxis]
    rgb: np.ndarray = np.where(outlines, label_colors(labels), gray[..., np.newaxis])
    rgb[weights == 0, 1:] //= 2
    return rgb


def find_outlines(labels: np.ndarray) -> np.ndarray:
    """Finds the outermost pixels of objects, neighbours across an edge: bool [rows, columns]."""
    # SciPy compares as float64, which cannot tell apart all ids above 2**53.
    small, _ = renumber(labels)
    outlines: np.ndarray = find_boundaries(small, connectivity=1, mode='inner')
    return outlines


def read_block(
    image_spec: str,
    labels_spec: str,
    center: Xyz | None,
    size: Zyx,
    margin: Zyx,
    normalization: tuple[float, float] | None,
    config: AugmentationConfig | None = None,
) -> Patch:
    """Reads a patch, with as much of the margin as the labels have on both sides.

    Args:
      image_spec: image volume.
      labels_spec: labels of the image, or of a part of it that says where it lies.
      center: of the patch, in coordinates of the volumes; None for the centre of the labels.
      size: of the patch.
      margin: wanted on each side.
      normalization: mean and standard deviation of the image; None for those of the block.
      config: what the patch is for; warns if the volumes say that voxels have other proportions.

    Raises:
      UserError: the patch is not inside the volumes, or these do not fit each other.
    """
    with open_complete(image_spec) as images, open_complete(labels_spec) as segments:
        images, segments = images.single_channel(), segments.require_labels()
        check_place(segments, images, what=f'{image_spec} covers')
        for volume in (images, segments):
            if config is not None and volume.voxel_size is not None:
                config.warn_of_contradiction(volume.voxel_size.of(volume.name))
        whole = segments.box
        if center is None:  # that of an even patch comes before the middle, so that it fits exactly
            sizes = zip(whole.start, whole.size, size.xyz, strict=True)
            center = Xyz(*(s + (n - (k == n)) // 2 for s, n, k in sizes))
        start = [c - (n - 1) // 2 for c, n in zip(center, size.xyz, strict=True)]
        patch = Box(Xyz(*start), size.xyz)
        if not whole.contains(patch):
            raise UserError(
                f'the patch of --size {both_orders(size)} around --center {center} is {patch}, not '
                f'inside {labels_spec}, which covers {whole}'
            )
        room = zip(margin.xyz, patch.start, whole.start, whole.end, patch.end, strict=True)
        block = patch.grow(Xyz(*(min(m, s - a, b - e) for m, s, a, b, e in room)))
        image, labels = images.read(block), segments.read(block)
    return _normalized(image, labels, normalization)


def _normalized(
    image: np.ndarray, labels: np.ndarray, normalization: tuple[float, float] | None
) -> Patch:
    finite = image[np.isfinite(image)] if normalization is None else image
    mean, stddev = normalization or (finite.mean(), finite.std() or 1) if finite.size else (0, 1)
    image = (image.astype(np.float32) - np.float32(mean)) / np.float32(stddev)
    return Patch(image, labels, np.ones(labels.shape, np.float32))


def generate_block(
    size: Zyx,
    margin: Zyx,
    voxel_size: tuple[float, float, float],
    normalization: tuple[float, float] | None,
) -> Patch:
    """Generates a patch and the margin around it.

    Args:
      size: of the patch.
      margin: on each side.
      voxel_size: x, y, z, of any unit; the smallest side of a voxel counts as 1.
      normalization: mean and standard deviation of the image; None for those of the block.
    """
    needed = [n + 2 * m for n, m in zip(size, margin, strict=True)]
    # Samples have a minimum size; smaller blocks are cut from the middle of one.
    whole = [n + 2 * max(0, math.ceil((16 - n) / 2)) for n in needed]
    sample = synthetic.generate(whole, seed=1, voxel_size_zyx=voxel_size[::-1])
    cut = tuple(slice((w - n) // 2, (w + n) // 2) for w, n in zip(whole, needed, strict=True))
    return _normalized(sample.image[cut], sample.labels[cut], normalization)
