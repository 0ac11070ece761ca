"""Draws what augmentation does to a patch, one picture for each kind.

    python -m ffn.visualization.show_augmentations --image train.h5:raw --labels train.h5:labels \
      --center 120,130,80 --size 65,65,33 --augmentation configs/augmentation.json --output look.png

Each panel is the plane xy, and below it the plane xz through the middle, of the image with outlines
of the labels. Of several draws the one that changes most is shown, and of kinds that change single sections
the section that changes most; a mark beside xz says which one it is. What has weight 0 is red.
Without --augmentation all kinds are shown, stronger than is good for training; without --image, on a
generated sample.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffn import synthetic
from ffn.training.augmentation import augment
from ffn.training.augmentation_config import AugmentationConfig, describe, parse_augmentation
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.visualization.overlay import label_colors
from ffn.volumes.volume import open_volume

# Strong, so that each is seen.
STRONG = (
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
    {'occlusion': {'min_boxes': 4, 'max_boxes': 4, 'min_size': [8, 8, 4], 'max_size': [20, 20, 12]}},
    {'out_of_focus_section': {'section_probability': 0.15, 'min_sigma': 3, 'max_sigma': 4}},
    {'partially_missing_section': {'section_probability': 0.15}},
    {'missing_section': {'section_probability': 0.1}},
    {'noise': {'min_sigma': 0.7, 'max_sigma': 0.8}},
)  # fmt: skip
_OF_SECTIONS = (
    'misalignment', 'occlusion', 'out_of_focus_section', 'partially_missing_section', 'missing_section',
)  # fmt: skip
# Panels that show everything in a file together, and draws that the other panels choose from.
_TOGETHER, _DRAWS = 3, 8

# Pixels, but for the last: standard deviations of the image between black and white.
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
      draws: so many are made, and the one that changes most is shown.
      of_sections: whether to look for the section that changes most.
    """

    title: str
    caption: str
    config: AugmentationConfig
    draws: int = 1
    of_sections: bool = False


def panels_of(config: AugmentationConfig) -> list[Panel]:
    """Lists what there is to see of a config.

    Args:
      config: its kinds, each alone and with probability 1, and several times all together; one
        without any kind gives the strong examples for this voxel size.

    Returns:
      The original first.
    """
    unchanged = AugmentationConfig(config.voxel_size)
    panels = [Panel('original', 'above xy, below xz', unchanged)]
    chosen = config.chosen()
    for key, kind in chosen.items():
        sure = dataclasses.replace(kind, probability=1)
        default = type(kind)()
        caption = {
            item.name: getattr(kind, item.name)
            for item in dataclasses.fields(kind)
            if getattr(kind, item.name) != getattr(default, item.name)
        }
        alone = dataclasses.replace(unchanged, **{key: sure})
        panels.append(Panel(key, _caption(caption), alone, _DRAWS, key in _OF_SECTIONS))
    if chosen:
        return panels + [Panel('together', 'as configured', config)] * _TOGETHER
    for example in STRONG:
        ((key, values),) = example.items()
        only = parse_augmentation(json.dumps({'voxel_size': config.voxel_size, **example}))
        panels.append(Panel(key, _caption(values), only, _DRAWS, key in _OF_SECTIONS))
    return panels


def _caption(values: dict) -> str:
    return ', '.join(
        name
        if value is True
        else f'{name} {",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value:g}"}'
        for name, value in values.items()
    )


def draw_panels(
    panels: Sequence[Panel], block: Patch, size: Zyx, seed: int, zoom: int | None = None
) -> Image.Image:
    """Draws panels in a grid.

    Args:
      panels: what to show; the first is what others are compared with.
      block: of the patch and a margin around it.
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
        # [draw, z]
        changes = np.array(
            [np.abs(patch.image - original.image).mean(axis=(1, 2)) for patch in patches]
        )
        z = (size.z - 1) // 2
        most = changes.mean(axis=1).argmax()
        if panel.of_sections:
            most, z = np.unravel_index(changes.argmax(), changes.shape)
        tiles.append(_tile(panel, patches[most], int(z), zoom))
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(_COLUMNS, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new('RGB', (columns * width + _GAP, rows * height + _GAP), 'white')
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (_GAP + column * width, _GAP + row * height))
    return sheet


def _tile(panel: Panel, patch: Patch, z: int, zoom: int) -> Image.Image:
    """One panel: text, xy at z, xz; with the gap to the next on its right and below."""
    x_size, _, z_size = panel.config.voxel_size
    deep = max(1, round(zoom * z_size / x_size))
    middle = (patch.image.shape[1] - 1) // 2
    section = _plane(patch, np.s_[z], zoom, zoom)
    across = _plane(patch, np.s_[:, middle], deep, zoom)
    top = (1 + _CAPTION_LINES) * _LINE + 4
    width = section.shape[1]
    height = top + len(section) + _GAP // 2 + len(across) + _GAP
    tile = Image.new('RGB', (width + _GAP, height), 'white')
    tile.paste(Image.fromarray(section), (0, top))
    below = top + len(section) + _GAP // 2
    tile.paste(Image.fromarray(across), (0, below))
    write = ImageDraw.Draw(tile)
    font = ImageFont.load_default(size=_FONT)
    title = f'{panel.title}, z {z} of {len(patch.image)}' if panel.of_sections else panel.title
    write.text((0, 0), title, fill='black', font=font)
    lines = textwrap.wrap(panel.caption, max(10, int(width / (0.5 * _FONT))))[:_CAPTION_LINES]
    for number, line in enumerate(lines, 1):
        write.text((0, number * _LINE), line, fill=(90, 90, 90), font=font)
    if panel.of_sections:
        level = below + z * deep + deep // 2
        write.line([(width + 1, level), (width + _GAP // 2, level)], fill='red', width=2)
    return tile


def _plane(patch: Patch, index: int | tuple, tall: int, wide: int) -> np.ndarray:
    """A plane of a patch, enlarged: uint8 [rows, columns, 3]."""
    image, labels, weights = (array[index].repeat(tall, 0).repeat(wide, 1) for array in patch)
    gray = np.clip((image / _CONTRAST + 1) * 127.5, 0, 255).astype(np.uint8)
    rgb = np.where(_outlines(labels)[..., np.newaxis], label_colors(labels), gray[..., np.newaxis])
    rgb[weights == 0, 1:] //= 2
    return rgb


def _outlines(labels: np.ndarray) -> np.ndarray:
    """Pixels of objects, of which one of four neighbours is something else: bool [rows, columns]."""
    edges = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        edges |= np.insert(differs, 0, False, axis) | np.append(
            differs, np.zeros_like(edges.take([0], axis)), axis
        )
    return edges & (labels != 0)


def read_block(
    image_spec: str, labels_spec: str, center: Xyz | None, size: Zyx, margin: Zyx,
    normalization: tuple[float, float] | None,
) -> Patch:  # fmt: skip
    """Reads a patch, with as much of the margin as the volume has on both sides.

    Args:
      image_spec: image volume.
      labels_spec: label volume.
      center: of the patch, in coordinates of the volume; None for that of the volume.
      size: of the patch.
      margin: wanted on each side.
      normalization: mean and standard deviation of the image; None for those of the block.

    Raises:
      UserError: the patch is not inside the volumes, or these do not fit each other.
    """
    with open_volume(image_spec) as images, open_volume(labels_spec) as segments:
        images, segments = images.single_channel(), segments.require_labels()
        if images.box != segments.box:
            raise UserError(
                f'{image_spec} covers {images.box}, {labels_spec} covers {segments.box}; they must '
                'be equal'
            )
        whole = images.box
        if center is None:
            center = Xyz(*(s + n // 2 for s, n in zip(whole.start, whole.size, strict=True)))
        start = [c - (n - 1) // 2 for c, n in zip(center, size.xyz, strict=True)]
        patch = Box(Xyz(*start), size.xyz)
        if not whole.contains(patch):
            raise UserError(
                f'the patch of --size {both_orders(size)} around --center {center} is {patch}, not '
                f'inside {image_spec}, which covers {whole}'
            )
        room = zip(margin.xyz, patch.start, whole.start, whole.end, patch.end, strict=True)
        block = patch.grow(Xyz(*(min(m, s - a, b - e) for m, s, a, b, e in room)))
        image, labels = images.read(block), segments.read(block)
    return _normalized(image, labels, normalization)


def _normalized(
    image: np.ndarray, labels: np.ndarray, normalization: tuple[float, float] | None
) -> Patch:
    mean, stddev = normalization or (image.mean(), image.std() or 1)
    image = (image.astype(np.float32) - np.float32(mean)) / np.float32(stddev)
    return Patch(image, labels, np.ones(labels.shape, np.float32))


def _sample(
    size: Zyx, margin: Zyx, voxel_size: tuple[float, float, float],
    normalization: tuple[float, float] | None,
) -> Patch:  # fmt: skip
    """Generates a patch and the margin around it, voxels as wide as the thinnest neurites need."""
    needed = [n + 2 * m for n, m in zip(size, margin, strict=True)]
    # What is too small to be generated is cut from the middle.
    whole = [n + 2 * max(0, math.ceil((16 - n) / 2)) for n in needed]
    voxel_zyx = [v / min(voxel_size) for v in reversed(voxel_size)]
    sample = synthetic.generate(whole, seed=1, voxel_size_zyx=voxel_zyx)
    cut = tuple(slice((w - n) // 2, (w + n) // 2) for w, n in zip(whole, needed, strict=True))
    return _normalized(sample.image[cut], sample.labels[cut], normalization)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool.

    Raises:
      UserError: what was given does not fit.
    """
    args = _arguments(argv)
    if args.keys:
        print(describe())
        return
    size = Xyz.parse(args.size, '--size').zyx
    if min(size) < 1:
        raise UserError(f'--size is {size.xyz}; expected positive numbers')
    center = None if args.center is None else Xyz.parse(args.center, '--center')
    panels = panels_of(parse_augmentation(args.augmentation))
    margins = [panel.config.margin(size) for panel in panels]
    margin = Zyx.of(np.max(margins, axis=0))
    normalization = None if args.image_mean is None else (args.image_mean, args.image_stddev)
    if args.image:
        block = read_block(args.image, args.labels, center, size, margin, normalization)
    else:
        block = _sample(size, margin, panels[0].config.voxel_size, normalization)
    picture = draw_panels(panels, block, size, args.seed, args.zoom)
    with atomic_path(args.output) as path:
        picture.quantize(256).save(path, format='PNG', optimize=True)
    print(f'{args.output}: {len(panels)} panels, patches of {size.xyz}, margin {margin.xyz}')


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses and checks what needs no volume."""
    parser = argparse.ArgumentParser(
        prog='python -m ffn.visualization.show_augmentations', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--image', metavar='VOLUME', help='default: a generated sample')
    parser.add_argument('--labels', metavar='VOLUME', help='needed with --image')
    parser.add_argument('--center', metavar='X,Y,Z', help='of the patch (of the volume)')
    parser.add_argument('--size', metavar='X,Y,Z', default='65,65,33', help='(65,65,33)')
    parser.add_argument(
        '--augmentation', default='', metavar='JSON', help='the object, or a file with it; with '
        'nothing but voxel_size in it, and without it, all kinds are shown',
    )  # fmt: skip
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='of what is drawn (0)')
    parser.add_argument('--image_mean', type=float, help='default: of what is read')
    parser.add_argument('--image_stddev', type=float, help='default: of what is read')
    parser.add_argument('--zoom', type=int, metavar='K', help='pixels per voxel (by the size)')
    parser.add_argument('--output', type=Path, metavar='FILE.png')
    parser.add_argument('--keys', action='store_true', help='list what JSON may hold, and end')
    args = parser.parse_args(argv)
    if args.keys:
        return args
    if args.output is None:
        parser.error('--output is needed')
    if args.output.suffix.lower() != '.png':
        raise UserError(f'--output is {str(args.output)!r}; expected a name that ends in .png')
    if bool(args.image) != bool(args.labels):
        raise UserError('--image and --labels are needed together')
    if args.center and not args.image:
        raise UserError('--center is of a volume; give --image and --labels too')
    if (args.image_mean is None) != (args.image_stddev is None):
        raise UserError('--image_mean and --image_stddev are needed together')
    if args.image_stddev is not None and not args.image_stddev > 0:
        raise UserError(f'--image_stddev is {args.image_stddev:g}; expected more than 0')
    for name, least in (('seed', 0), ('zoom', 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f'--{name} is {value}; expected {least} or more')
    return args


if __name__ == '__main__':
    run_tool(main)
