"""Pictures of a segmentation's errors, in three planes: the image, and the image with both sides.

Segments are drawn as areas, objects of the ground truth as outlines; those that the case is about stand
out.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ffn.utils.geometry import Box, Xyz
from ffn.visualization.overlay import boundaries, label_colors, orthogonal_planes
from ffn.volumes.volume import Volume

Rgb = tuple[int, int, int]
SEGMENT_COLORS: tuple[Rgb, ...] = (
    (235, 80, 50),
    (50, 130, 245),
    (70, 190, 80),
    (190, 90, 230),
    (250, 170, 30),
)
OBJECT_COLORS: tuple[Rgb, ...] = (
    (255, 240, 0),
    (0, 255, 255),
    (255, 120, 255),
    (150, 255, 120),
    (255, 190, 130),
)
_CROSS = (255, 255, 255)
_OUTSIDE = (60, 60, 70)
_FLAT_GRAY = 120
# Size of a plane in pixels, and pixels along the shortest edge of a voxel.
_TILE, _ZOOM, _GAP, _CROSS_GAP = 291, 3, 6, 18
_FOCUS_ALPHA, _OTHER_ALPHA = 0.5, 0.18


def window(at: Xyz, voxel_size_xyz: Sequence[float] = (1, 1, 1)) -> Box:
    """Returns the box around a voxel that its picture shows; its physical size is the same on all axes."""
    shortest = min(voxel_size_xyz)
    half = [max(round(_TILE // _ZOOM // 2 * shortest / size), 1) for size in voxel_size_xyz]
    return Box(
        Xyz(*(a - h for a, h in zip(at, half, strict=True))), Xyz(*(2 * h + 1 for h in half))
    )


def read_window(volume: Volume, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Reads a box that may extend beyond the volume.

    Returns:
      Values [z, y, x], 0 outside; bool [z, y, x], which voxels are inside.
    """
    values, inside = np.zeros(box.size.zyx, volume.dtype), np.zeros(box.size.zyx, bool)
    part = volume.box.intersection(box)
    if part is not None:
        index = part.relative_to(box.start).slices_zyx
        values[index], inside[index] = volume.read(part), True
    return values, inside


def as_gray(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Converts an image to uint8, from black to white by its finite values; 8-bit images are left unchanged.

    Args:
      image: [z, y, x].
      inside: bool [z, y, x], which voxels have values.
    """
    if image.dtype == np.uint8 or not inside.any():
        return image.astype(np.uint8)
    image = image.astype(np.uint8) if image.dtype.kind == 'b' else image
    values = image[inside & np.isfinite(image)]
    low, high = np.percentile(values, (0.5, 99.5)) if len(values) else (0, 1)
    scaled = (image.astype(np.float64) - low) * 255 / max(high - low, 1e-9)
    return np.clip(np.nan_to_num(scaled), 0, 255).astype(np.uint8)


def case_picture(
    truth: Volume,
    segmentation: Volume,
    image: Volume | None,
    at: Xyz,
    objects: Mapping[int, Rgb],
    segments: Mapping[int, Rgb],
    voxel_size_xyz: Sequence[float] = (1, 1, 1),
) -> Image.Image:
    """Draws the planes xy, xz and yz through a voxel: the image above, both sides on it below.

    Args:
      truth: labels.
      segmentation: labels, in the same coordinates.
      image: one channel, in the same coordinates; None: uniform grey.
      at: voxel where the planes meet, under the cross.
      objects: id → colour of the outline.
      segments: id → colour of the area.
      voxel_size_xyz: physical size of a voxel.
    """
    box = window(at, voxel_size_xyz)
    labels, inside = read_window(truth, box)
    found, _ = read_window(segmentation, box)
    gray = np.full(box.size.zyx, _FLAT_GRAY, np.uint8)
    if image is not None:
        gray = as_gray(*read_window(image, box))
    center = [n // 2 for n in box.size.zyx]
    sheet = np.full((2 * _TILE + _GAP, 3 * _TILE + 2 * _GAP, 3), 255, np.uint8)
    cuts = [orthogonal_planes(volume, center) for volume in (gray, labels, found, inside)]
    for column in range(3):
        left = column * (_TILE + _GAP)
        gray_tile, *label_tiles = (_enlarge(planes[column]) for planes in cuts)
        tiles = _draw_tiles(gray_tile, *label_tiles, objects=objects, segments=segments)
        for row, tile in enumerate(tiles):
            _draw_cross(tile)
            top = row * (_TILE + _GAP)
            sheet[top : top + _TILE, left : left + _TILE] = tile
    return Image.fromarray(sheet)


def _enlarge(plane: np.ndarray) -> np.ndarray:
    rows, columns = (np.arange(_TILE) * n // _TILE for n in plane.shape)
    return plane[rows[:, np.newaxis], columns]


def _draw_tiles(
    gray: np.ndarray,
    labels: np.ndarray,
    found: np.ndarray,
    inside: np.ndarray,
    *,
    objects: Mapping[int, Rgb],
    segments: Mapping[int, Rgb],
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the image alone, and the image with both sides: uint8 [rows, columns, 3]."""
    plain = np.repeat(gray[..., np.newaxis], 3, axis=-1)
    plain[~inside] = _OUTSIDE
    found = np.where(found > 0, found, 0)
    colors, alpha = label_colors(found), np.where(found > 0, _OTHER_ALPHA, 0.0)
    for segment, color in segments.items():
        colors[found == segment], alpha[found == segment] = color, _FOCUS_ALPHA
    drawn = plain * (1 - alpha[..., np.newaxis]) + colors * alpha[..., np.newaxis]
    drawn[boundaries(labels)] = (200, 200, 200)
    for number, color in objects.items():
        drawn[_outline(labels == number)] = color
    drawn[~inside] = _OUTSIDE
    return plain, drawn.astype(np.uint8)


def _outline(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels of a mask at its border, two wide."""
    core = mask.copy()
    for _ in range(2):
        padded = np.pad(core, 1, mode='edge')
        core = core & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return mask & ~core


def _draw_cross(tile: np.ndarray) -> None:
    middle = _TILE // 2
    for part in (slice(0, middle - _CROSS_GAP), slice(middle + _CROSS_GAP, _TILE)):
        tile[part, middle], tile[middle, part] = _CROSS, _CROSS


def encode_png(picture: Image.Image) -> bytes:
    """Encodes a picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG')
    return buffer.getvalue()
