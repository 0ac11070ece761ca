"""Geometric augmentation: where each voxel of a patch comes from.

All changes together are one map from the voxels of the patch to positions in the block that was read
around it. The centre, index (n - 1) // 2 along each axis, is fixed. Starting from the patch, each section
is stretched, sheared and displaced, then the whole is rotated in physical space. Sections are therefore
the patch's own, across z, as in the volumes that the network will see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ffn.training.augmentation.config import AugmentationConfig
from ffn.training.augmentation.kinds import (
    Affine,
    Elastic,
    Misalignment,
    Rotation3d,
)
from ffn.training.augmentation.margin import TOLERANCE
from ffn.training.augmentation.parameters import should_apply
from ffn.utils.geometry import Zyx

# A Gaussian narrower than this, in sections, leaves them independent of each other.
_INDEPENDENT = 0.5


@dataclass(frozen=True)
class Warp:
    """Where voxels come from, relative to the centre, in voxels z, y, x.

    Voxel p of section z comes from rotation · (section[z] · p + displacement).

    Attributes:
      rotation: float64 [3, 3], a rotation of physical space, in voxels.
      sections: float64 [sections, 3, 3], or [1, 3, 3] if all are equal.
      displacement: float32 [z, y, x, 2] along y and x; each of z, y, x is whole or of length 1.
    """

    rotation: np.ndarray
    sections: np.ndarray
    displacement: np.ndarray

    def coordinates(self, size: Zyx, center_zyx: Sequence[int]) -> np.ndarray:
        """Positions that the voxels of a patch come from.

        Args:
          size: of the patch.
          center_zyx: index of its centre in the block.

        Returns:
          float32 [3, z, y, x], fractional indices z, y, x into the block.
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


def rotation_matrix(axis_zyx: ArrayLike, radians: float) -> np.ndarray:
    """Rotation around an axis.

    Args:
      axis_zyx: float [3], direction of any length but 0.
      radians: angle; around the axis z, y goes towards x. The picture turns the other way, because
        the matrix tells where it is taken from.

    Returns:
      float64 [3, 3], to be applied to z, y, x.
    """
    axis = np.asarray(axis_zyx, np.float64)
    matrix: np.ndarray = Rotation.from_rotvec(radians * axis / np.linalg.norm(axis)).as_matrix()
    return matrix


def draw(config: AugmentationConfig, size: Zyx, rng: np.random.Generator) -> Warp | None:
    """Draws a map at random.

    Args:
      config: what may be changed.
      size: of the patch.
      rng: random generator.

    Returns:
      The map; None if nothing moves.
    """
    voxel = np.array(config.voxel_size[::-1])
    sections = np.eye(3)[np.newaxis]
    displacement = np.zeros((1, 1, 1, 2), np.float32)
    rotation = np.eye(3)
    moved = False
    if (affine := config.affine) and should_apply(affine, rng):
        moved, sections = True, _draw_affine(affine, size, voxel, rng)
    if (elastic := config.elastic) and should_apply(elastic, rng):
        moved, displacement = True, _draw_elastic(elastic, size, voxel, rng)
    if (slips := config.misalignment) and should_apply(slips, rng):
        moved, displacement = True, displacement + _draw_slips(slips, size, rng)
    if (rotation_2d := config.rotation_2d) and should_apply(rotation_2d, rng):
        limit = math.radians(rotation_2d.max_degrees)
        moved, rotation = True, rotation_matrix((1, 0, 0), rng.uniform(-limit, limit))
    if (rotation_3d := config.rotation_3d) and should_apply(rotation_3d, rng):
        moved, rotation = True, _draw_rotation(rotation_3d, rng) @ rotation
    return Warp(_in_voxels(rotation, voxel), sections, displacement) if moved else None


def _in_voxels(matrix: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """Converts matrices [..., 3, 3] from physical space to voxels of this size z, y, x."""
    scaled: np.ndarray = matrix * voxel / voxel[:, np.newaxis]
    return scaled


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
    moved -= moved[(size.z - 1) // 2].copy()
    return moved


def _draw_rotation(kind: Rotation3d, rng: np.random.Generator) -> np.ndarray:
    """Draws a rotation of physical space: float64 [3, 3]."""
    if kind.uniform:
        # Four independent normal numbers are a quaternion whose direction is uniform.
        scalar, *axis = rng.standard_normal(4)
        matrix: np.ndarray = Rotation.from_quat([*axis, scalar]).as_matrix()
        return matrix
    limit = math.radians(kind.max_degrees)
    return rotation_matrix(rng.standard_normal(3), rng.uniform(-limit, limit))


def resample(
    image: np.ndarray, labels: np.ndarray, weights: np.ndarray, size: Zyx, warp: Warp
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resamples a patch from the middle of a block, through a map.

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
        if positions.min() < -TOLERANCE or positions.max() > length - 1 + TOLERANCE:
            inside &= (positions >= -TOLERANCE) & (positions <= length - 1 + TOLERANCE)
        nearest.append(np.clip(np.rint(positions).astype(np.intp), 0, length - 1))
    # Indexed, because SciPy interpolates in float64, which cannot hold all ids above 2**53.
    index = np.ravel_multi_index(tuple(nearest), image.shape)
    moved_weights = weights.ravel()[index]
    if inside is not True:
        moved_weights *= inside
    moved = ndimage.map_coordinates(image, source, np.float32, order=1, mode='nearest')
    return moved, labels.ravel()[index], moved_weights
