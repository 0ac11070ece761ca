"""Where two segments meet: how large the contact is, how the image looks along it, how they lie to each other.

All of it is measured in a box around a decision point, in which the two need not touch: a gap between them is first
shared between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
from scipy import ndimage

from ffn.utils.geometry import relative_edges
from ffn.utils.rounding import reach

# Voxels from which an axis is estimated.
_MIN_VOXELS = 8


class Contact(NamedTuple):
    """The contact of two segments.

    Attributes:
      area: of the faces between the two, in the unit of the voxel size squared.
      normal: float64 [3], z, y, x: mean normal of these faces, from a to b; shorter than 1 where they are not flat,
        0 without a contact.
      voxels: bool [z, y, x], on either side of it.
    """

    area: float
    normal: np.ndarray
    voxels: np.ndarray


def find_contact(a: np.ndarray, b: np.ndarray, voxel_size_zyx: Sequence[float]) -> Contact:
    """Finds the faces between two segments.

    Where they do not touch, the voxels between them where they are closest are shared: each goes to the nearer one. Those
    that are as near to both go once to one and once to the other: area and normal are the mean of both ways.

    Args:
      a: bool [z, y, x].
      b: bool, same shape, without common voxels.
      voxel_size_zyx: size of a voxel.
    """
    voxels = np.zeros(a.shape, bool)
    normal = np.zeros(3)
    if not (a.any() and b.any()):
        return Contact(0.0, normal, voxels)
    ways = [(a, b)] if _touch(a, b) else _share_gap(a, b, voxel_size_zyx)
    ordered = [(*sides, 1) for sides in ways] + [(b, a, -1) for a, b in ways]
    area = 0.0
    for axis in range(3):
        size = float(np.prod([n for i, n in enumerate(voxel_size_zyx) if i != axis])) / len(ways)
        first, second = ([slice(None)] * 3 for _ in range(2))
        first[axis], second[axis] = slice(-1), slice(1, None)
        for one, other, sign in ordered:
            faces = one[tuple(first)] & other[tuple(second)]
            voxels[tuple(first)] |= faces
            voxels[tuple(second)] |= faces
            count = np.count_nonzero(faces)
            area += count * size
            normal[axis] += sign * count * size
    return Contact(area, normal / area if area else normal, voxels)


def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.any(ndimage.binary_dilation(a) & b))


def _share_gap(
    a: np.ndarray, b: np.ndarray, voxel_size_zyx: Sequence[float]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Adds the voxels between two segments to them, to within the shortest edge of a voxel with which they meet.

    Returns:
      The two segments twice: with those that are as near to both in the first, and in the second.
    """
    edges = relative_edges(voxel_size_zyx)
    to_a, to_b = (edt.edt(np.ascontiguousarray(~mask), anisotropy=edges) for mask in (a, b))
    for_a, for_b = to_a <= reach(to_b), to_b <= reach(to_a)
    between, ways = to_a + to_b, [(a, b)]
    for slack in sorted(set(edges)):
        near = ~a & ~b & (between <= reach(between.min() + slack))
        ways = [
            (a | (near & for_a), b | (near & ~for_a)),
            (a | (near & ~for_b), b | (near & for_b)),
        ]
        if all(_touch(*sides) for sides in ways):
            break
    return ways


class ImageAtContact(NamedTuple):
    """The image along a contact, in standard deviations from its mean inside the two segments.

    Attributes:
      mean: over the voxels of the contact.
      low: a tenth of them is below this.
      high: a tenth of them is above this.
      spread: their standard deviation.
    """

    mean: float
    low: float
    high: float
    spread: float


def image_at(contact: np.ndarray, inside: np.ndarray, image: np.ndarray) -> ImageAtContact:
    """Compares the image along a contact with that inside the segments; 0 where there is too little of either.

    Args:
      contact: bool [z, y, x].
      inside: bool, same shape: both segments; the contact itself is left out.
      image: any number type, same shape.
    """
    here, there = image[contact].astype(np.float64), image[inside & ~contact].astype(np.float64)
    spread = float(there.std()) if len(there) else 0.0
    if not len(here) or spread == 0:
        return ImageAtContact(0.0, 0.0, 0.0, 0.0)
    values = (here - there.mean()) / spread
    low, high = np.quantile(values, (0.1, 0.9)).tolist()
    return ImageAtContact(float(values.mean()), low, high, float(values.std()))


class Shape(NamedTuple):
    """How a segment lies in a box.

    Attributes:
      centre: float64 [3], z, y, x, of its voxels, in the unit of the voxel size.
      axis: float64 [3], unit vector along which it is longest; 0 with too few voxels.
      elongation: from 0, as long along another axis, to 1, a line.
    """

    centre: np.ndarray
    axis: np.ndarray
    elongation: float


def shape_of(mask: np.ndarray, voxel_size_zyx: Sequence[float]) -> Shape:
    """Finds centre and principal axis of a segment.

    Args:
      mask: bool [z, y, x].
      voxel_size_zyx: size of a voxel.
    """
    places = np.argwhere(mask) * np.asarray(voxel_size_zyx, np.float64)
    if len(places) < _MIN_VOXELS:
        return Shape(places.mean(axis=0) if len(places) else np.zeros(3), np.zeros(3), 0.0)
    lengths, axes = np.linalg.eigh(np.cov(places.T))
    longest = max(float(lengths[2]), 1e-12)
    elongation = 1 - np.sqrt(max(float(lengths[1]), 0.0) / longest)
    return Shape(places.mean(axis=0), axes[:, 2], float(elongation))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Absolute cosine of the angle between two vectors, 0 where one is 0."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return abs(float(a @ b)) / lengths if lengths else 0.0
