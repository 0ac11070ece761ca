"""Geometric augmentation: where each voxel of a patch comes from.

All changes are one map from the voxels of the patch to positions in the block that was read around
it, with the centre, index (n - 1) // 2 along each axis, fixed. From the patch inwards: each section
is stretched, sheared and displaced, then all of it is rotated in physical space. Sections are
therefore those of the patch that the network sees, as they are in the volumes that it will see.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from ffn.training.augmentation_kinds import (
    Affine,
    Augmentation,
    Elastic,
    Misalignment,
    Rotation3d,
    happens,
)
from ffn.utils.geometry import Zyx

if TYPE_CHECKING:
    from ffn.training.augmentation_config import AugmentationConfig

_GEOMETRIC = {'affine', 'elastic', 'misalignment', 'rotation_2d', 'rotation_3d'}
# Rounding to float32 may put a position so far outside that is meant to be on the border.
_TOLERANCE = 1e-3
# A Gaussian narrower than this, in sections, leaves them independent of each other.
_INDEPENDENT = 0.5


@dataclass(frozen=True)
class Warp:
    """Where voxels come from, relative to the centre, in voxels z, y, x.

    Voxel p of section z comes from rotation · (section[z] · p + displacement).

    Attributes:
      rotation: float64 [3, 3], of voxels: physical where these are anisotropic.
      sections: float64 [sections, 3, 3], or [1, 3, 3] where all are alike.
      displacement: float32 [z, y, x, 2] along y and x, each axis whole or of length 1.
    """

    rotation: np.ndarray
    sections: np.ndarray
    displacement: np.ndarray

    def coordinates(self, size: Zyx, center_zyx: Sequence[int]) -> np.ndarray:
        """Positions that the voxels of a patch come from.

        Args:
          size: of the patch.
          center_zyx: where its centre is in the block.

        Returns:
          float32 [3, z, y, x], the index z, y, x into the block.
        """
        axes = np.ogrid[tuple(slice(-((n - 1) // 2), n // 2 + 1) for n in size)]
        matrices = (self.rotation @ self.sections)[..., np.newaxis, np.newaxis]
        source = np.empty((3, *size), np.float32)
        for row, (target, center) in enumerate(zip(source, center_zyx, strict=True)):
            target[...] = center
            for column, axis in enumerate(axes):
                target += (matrices[:, row, column] * axis).astype(np.float32)
            for column in (1, 2):
                factor = np.float32(self.rotation[row, column])
                if factor and self.displacement.any():
                    target += factor * self.displacement[..., column - 1]
        return source


def rotation_matrix(axis_zyx: Sequence[float], radians: float) -> np.ndarray:
    """Rotation around an axis (Rodrigues' formula).

    Args:
      axis_zyx: direction of any length but 0.
      radians: angle; around the axis z, y goes towards x. The picture goes the other way, because
        the matrix tells where it is taken from.

    Returns:
      float64 [3, 3], to be applied to z, y, x.
    """
    z, y, x = np.asarray(axis_zyx, np.float64) / np.linalg.norm(axis_zyx)
    cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
    return np.eye(3) + math.sin(radians) * cross + (1 - math.cos(radians)) * cross @ cross


def draw(config: AugmentationConfig, size: Zyx, rng: np.random.Generator) -> Warp | None:
    """Draws a map at random.

    Args:
      config: what is wanted.
      size: of the patch.
      rng: source of chance.

    Returns:
      None when nothing moves.
    """
    voxel = np.array(config.voxel_size[::-1])
    sections = np.eye(3)[np.newaxis]
    displacement = np.zeros((1, 1, 1, 2), np.float32)
    rotation = np.eye(3)
    moved = False
    if happens(config.affine, rng):
        moved, sections = True, _draw_affine(config.affine, size, voxel, rng)
    if happens(config.elastic, rng):
        moved, displacement = True, _draw_elastic(config.elastic, size, voxel, rng)
    if happens(config.misalignment, rng):
        moved, displacement = True, displacement + _draw_slips(config.misalignment, size, rng)
    if happens(config.rotation_2d, rng):
        limit = math.radians(config.rotation_2d.max_degrees)
        moved, rotation = True, rotation_matrix((1, 0, 0), rng.uniform(-limit, limit))
    if happens(config.rotation_3d, rng):
        moved, rotation = True, _draw_rotation(config.rotation_3d, rng) @ rotation
    return Warp(_in_voxels(rotation, voxel), sections, displacement) if moved else None


def _in_voxels(matrix: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """A matrix [..., 3, 3] of physical space, as one of voxels of this size z, y, x."""
    return matrix * voxel / voxel[:, np.newaxis]


def _draw_affine(
    kind: Affine, size: Zyx, voxel: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws stretching and shearing: float64 [sections or 1, 3, 3] of voxels."""
    count = size.z if kind.per_section else 1
    matrices = np.zeros((count, 3, 3))
    matrices[:, 0, 0] = 1 + rng.uniform(-kind.max_scale_z, kind.max_scale_z, count)
    matrices[:, 1:, 1:] = rng.uniform(-kind.max_shear, kind.max_shear, (count, 2, 2))
    for axis in (1, 2):
        matrices[:, axis, axis] = 1 + rng.uniform(-kind.max_scale, kind.max_scale, count)
    if not kind.per_section:
        matrices[:, 1:, 0] = rng.uniform(-kind.max_shear, kind.max_shear, (count, 2))
    return _in_voxels(matrices, voxel)


def _draw_elastic(
    kind: Elastic, size: Zyx, voxel: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws a smooth displacement: float32 [z, y, x, 2], 0 in the centre, at most the amplitude."""
    sigma = kind.smoothness * voxel[2] / voxel
    z, y, x = (_gaussians(n, s) for n, s in zip(size, sigma, strict=True))
    if kind.per_section or sigma[0] < _INDEPENDENT:
        z = np.eye(size.z, dtype=np.float32)
    noise = rng.standard_normal((2, z.shape[1], y.shape[1], x.shape[1]), dtype=np.float32)
    strength = kind.amplitude * rng.random()
    # One axis after the other, in products so small that no library starts threads for them.
    field = np.einsum('zp,cpyx->czyx', z, noise)
    field = y @ field @ x.T
    field -= field[(slice(None), *((n - 1) // 2 for n in size))].reshape(2, 1, 1, 1)
    field *= strength / max(np.abs(field).max(), np.finfo(np.float32).tiny)
    return np.moveaxis(field, 0, -1)


def _gaussians(count: int, sigma: float) -> np.ndarray:
    """Weights by which coarse noise becomes smooth: [count, points], points `sigma` apart.

    Gaussians so far apart still add up to a constant, to 1e-8.
    """
    sigma = max(sigma, _INDEPENDENT)
    points = np.arange(-4 * sigma, count - 1 + 4 * sigma + 1e-9, sigma)
    distances = np.arange(count)[:, np.newaxis] - points
    return np.exp(-0.5 * (distances / sigma) ** 2).astype(np.float32)


def _draw_slips(kind: Misalignment, size: Zyx, rng: np.random.Generator) -> np.ndarray:
    """Draws which sections are displaced: float32 [z, 1, 1, 2], whole voxels, 0 in the centre."""
    moved = np.zeros((size.z, 1, 1, 2), np.float32)
    limit = kind.max_displacement
    if rng.random() < kind.slip_probability:
        moved[rng.integers(size.z)] += rng.integers(-limit, limit, 2, endpoint=True)
    if rng.random() < kind.shift_probability and size.z > 1:
        moved[rng.integers(1, size.z) :] += rng.integers(-limit, limit, 2, endpoint=True)
    return moved - moved[(size.z - 1) // 2]


def _draw_rotation(kind: Rotation3d, rng: np.random.Generator) -> np.ndarray:
    """Draws a rotation of physical space: float64 [3, 3]."""
    if kind.uniform:
        # A quaternion that points anywhere, as evenly as a normal distribution of four numbers.
        scalar, *axis = rng.standard_normal(4)
        return rotation_matrix(axis, 2 * math.atan2(float(np.linalg.norm(axis)), scalar))
    limit = math.radians(kind.max_degrees)
    return rotation_matrix(rng.standard_normal(3), rng.uniform(-limit, limit))


def margin(config: AugmentationConfig, size: Zyx) -> Zyx:
    """How far beyond the patch any map that `draw` may draw reaches; see AugmentationConfig.margin.

    Args:
      config: what may be drawn.
      size: of the patch.

    Returns:
      Voxels on each side.
    """
    may = {key: kind for key, kind in config.chosen().items() if kind.probability > 0}
    if not may.keys() & _GEOMETRIC:
        return Zyx(0, 0, 0)
    half = np.array([n // 2 for n in size], np.float64)
    reach = _reach(may, half, np.array(config.voxel_size[::-1]))
    # Of an even size, there is one voxel less before the centre than behind it.
    before = [(n - 1) // 2 for n in size]
    return Zyx.of(np.maximum(np.ceil(reach - before - _TOLERANCE), 0))


def _reach(may: Mapping[str, Augmentation], half: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """The farthest that a voxel comes from, in voxels z, y, x from the centre: float64 [3].

    Args:
      may: what may be drawn, by key.
      half: of the patch, voxels z, y, x from the centre to the border.
      voxel: physical size z, y, x.
    """
    reach = half * voxel
    if affine := may.get('affine'):
        shear, along_z = affine.max_shear, 0 if affine.per_section else 1
        z, y, x = reach
        reach = np.array([
            z * (1 + affine.max_scale_z),
            y * (1 + affine.max_scale) + shear * (x + along_z * z),
            x * (1 + affine.max_scale) + shear * (y + along_z * z),
        ])  # fmt: skip
    within = voxel * (0, 1, 1)
    if elastic := may.get('elastic'):
        reach = reach + elastic.amplitude * within
    if slips := may.get('misalignment'):
        times = (slips.slip_probability > 0) + (slips.shift_probability > 0)
        reach = reach + times * slips.max_displacement * within
    # No rotation takes a voxel farther from the centre than the corner is.
    corner = float(np.linalg.norm(reach))
    if rotation := may.get('rotation_2d'):
        reach[1:] = _turned(reach[1:], math.radians(rotation.max_degrees))
    if rotation := may.get('rotation_3d'):
        reach = np.minimum(_turned(reach, math.radians(rotation.max_degrees)), corner)
    return reach / voxel


def _turned(reach: np.ndarray, limit: float) -> np.ndarray:
    """How far a box reaches along its axes when it is turned by up to `limit`.

    Its corners reach farthest, and those that are within `limit` of an axis get onto it.
    """
    corner = max(float(np.linalg.norm(reach)), np.finfo(float).tiny)
    angles = np.arccos(np.clip(reach / corner, 0, 1))
    return corner * np.cos(np.maximum(angles - limit, 0))


def resample(
    image: np.ndarray, labels: np.ndarray, weights: np.ndarray, size: Zyx, warp: Warp
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Takes a patch out of the middle of a block, through a map.

    Args:
      image: float32 [z, y, x]; interpolated linearly.
      labels: of that shape and any type; the nearest voxel's, as it is.
      weights: float32 of that shape; the nearest voxel's.
      size: of the patch.
      warp: the map.

    Returns:
      Image, labels and weights of the patch. Where the map leaves the block, the nearest voxels of
      the block are repeated, and weights are 0.
    """
    center = [(n - s) // 2 + (s - 1) // 2 for n, s in zip(image.shape, size, strict=True)]
    source = warp.coordinates(size, center)
    nearest, inside = [], True
    for positions, length in zip(source, image.shape, strict=True):
        if positions.min() < -_TOLERANCE or positions.max() > length - 1 + _TOLERANCE:
            inside &= (positions >= -_TOLERANCE) & (positions <= length - 1 + _TOLERANCE)
        nearest.append(np.clip(np.rint(positions).astype(np.intp), 0, length - 1))
    # Indices, because what interpolates goes by float64, which large labels do not survive.
    index = np.ravel_multi_index(tuple(nearest), image.shape)
    moved_weights = weights.ravel()[index]
    if inside is not True:
        moved_weights *= inside
    moved = ndimage.map_coordinates(image, source, np.float32, order=1, mode='nearest')
    return moved, labels.ravel()[index], moved_weights
