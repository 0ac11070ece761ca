"""Labels drawn over images, in the three orthogonal planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

# (√5 - 1) / 2, times 2^64.
_GOLDEN_RATIO = np.uint64(11400714819323198485)


def label_colors(labels: np.ndarray) -> np.ndarray:
    """Returns colours that depend on the id alone, bright and distinct for consecutive ids.

    Args:
      labels: integer array of any shape, 0 is background.

    Returns:
      uint8 array of that shape plus three channels; background is black.
    """
    ids = labels.astype(np.uint64)
    # Multiples of the golden ratio spread hues evenly, however many ids there are. They are taken modulo
    # 2^64: as floats, neighbouring ids would get one colour from 2^53 on.
    with np.errstate(over='ignore'):
        hue = ids * _GOLDEN_RATIO / 2.0**64 % 1.0
    value = 0.75 + 0.25 * ((ids % 3) / 2)
    phase = (hue[..., np.newaxis] + np.array([0, 2 / 3, 1 / 3])) % 1.0
    rgb = np.clip(np.abs(phase * 6 - 3) - 1, 0.15, 1) * value[..., np.newaxis] * 255
    return np.where(labels[..., np.newaxis] != 0, rgb, 0).astype(np.uint8)


def boundaries(labels: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label: bool [rows, columns]."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:-1] |= labels[:-1] != labels[1:]
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return edge


def overlay(image: np.ndarray, labels: np.ndarray | None, alpha: float = 0.4) -> np.ndarray:
    """Draws labels over a plane of the image.

    Args:
      image: uint8 [rows, columns].
      labels: integer [rows, columns]; None draws the image alone.
      alpha: opacity of objects; outlines are always opaque.

    Returns:
      uint8 [rows, columns, 3].
    """
    gray = np.repeat(image[..., np.newaxis], 3, axis=-1).astype(np.float32)
    if labels is None:
        return gray.astype(np.uint8)
    colors = label_colors(labels).astype(np.float32)
    strength = np.where(labels != 0, np.float32(alpha), 0)[..., np.newaxis]
    strength = np.where((boundaries(labels) & (labels != 0))[..., np.newaxis], 1, strength)
    return (gray * (1 - strength) + colors * strength).astype(np.uint8)


def orthogonal_planes(
    volume: np.ndarray, center_zyx: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts the planes xy, xz and yz through a voxel.

    Args:
      volume: [z, y, x].
      center_zyx: the voxel.

    Returns:
      [y, x], [z, x] and [z, y].
    """
    z, y, x = center_zyx
    return volume[z], volume[:, y], volume[:, :, x]


def planes_picture(
    image: np.ndarray,
    labels: np.ndarray | None,
    center_zyx: Sequence[int] | None = None,
    zoom: int = 2,
    gap: int = 8,
) -> Image.Image:
    """Puts the planes xy, xz and yz side by side, labels over image.

    Args:
      image: uint8 [z, y, x].
      labels: integer [z, y, x], or None.
      center_zyx: voxel where the planes meet; default: the centre.
      zoom: pixels per voxel.
      gap: pixels between planes.
    """
    center = center_zyx or tuple(n // 2 for n in image.shape)
    cuts = orthogonal_planes(image, center)
    label_cuts = (None,) * 3 if labels is None else orthogonal_planes(labels, center)
    tiles = [
        overlay(i, c).repeat(zoom, 0).repeat(zoom, 1) for i, c in zip(cuts, label_cuts, strict=True)
    ]
    height = max(tile.shape[0] for tile in tiles)
    width = sum(tile.shape[1] for tile in tiles) + gap * (len(tiles) - 1)
    sheet = np.full((height, width, 3), 255, dtype=np.uint8)
    left = 0
    for tile in tiles:
        sheet[: tile.shape[0], left : left + tile.shape[1]] = tile
        left += tile.shape[1] + gap
    return Image.fromarray(sheet)
