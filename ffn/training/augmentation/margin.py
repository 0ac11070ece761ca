"""How far beyond a patch the geometric changes of an augmentation reach."""

from __future__ import annotations

import math

import numpy as np

from ffn.training.augmentation.config import AugmentationConfig
from ffn.utils.geometry import Zyx

# Rounding to float32 may put a position this far beyond the border on which it is meant to lie.
TOLERANCE = 1e-3


def required_margin(config: AugmentationConfig, size: Zyx) -> Zyx:
    """The margin that has to be read around a patch.

    Sufficient for all configured changes together, whatever is drawn: a block with this margin on each
    side holds every voxel that `augment` takes the patch from.

    Args:
      config: what may be changed.
      size: of the patch, in voxels.

    Returns:
      Voxels on each side; 0, 0, 0 without geometric changes.
    """
    kinds = (
        config.affine,
        config.elastic,
        config.misalignment,
        config.rotation_2d,
        config.rotation_3d,
    )
    if not any(kind is not None and kind.probability > 0 for kind in kinds):
        return Zyx(0, 0, 0)
    half = np.array([n // 2 for n in size], np.float64)
    reach = _reach(config, half, np.array(config.voxel_size[::-1]))
    # With an even size, there is one voxel less before the centre than after it.
    before = [(n - 1) // 2 for n in size]
    return Zyx.of(np.maximum(np.ceil(reach - before - TOLERANCE), 0))


def _reach(config: AugmentationConfig, half: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """The farthest that a voxel comes from, in voxels z, y, x from the centre: float64 [3].

    Args:
      config: what may be changed.
      half: of the patch, voxels z, y, x from the centre to the border.
      voxel: physical size z, y, x.
    """
    reach = half * voxel
    if (affine := config.affine) and affine.probability > 0:
        shear, along_z = affine.max_shear, 0 if affine.per_section else 1
        z, y, x = reach
        reach = np.array(
            [
                z * (1 + affine.max_scale_z),
                y * (1 + affine.max_scale) + shear * (x + along_z * z),
                x * (1 + affine.max_scale) + shear * (y + along_z * z),
            ]
        )
    in_plane = voxel * (0, 1, 1)
    if (elastic := config.elastic) and elastic.probability > 0:
        reach = reach + elastic.amplitude * in_plane
    if (slips := config.misalignment) and slips.probability > 0:
        times = (slips.slip_probability > 0) + (slips.shift_probability > 0)
        reach = reach + times * slips.max_displacement * in_plane
    # No rotation takes a voxel farther from the centre than the corner is.
    corner = float(np.linalg.norm(reach))
    if (rotation_2d := config.rotation_2d) and rotation_2d.probability > 0:
        reach[1:] = _reach_rotated(reach[1:], math.radians(rotation_2d.max_degrees))
    if (rotation_3d := config.rotation_3d) and rotation_3d.probability > 0:
        limit = math.radians(rotation_3d.max_degrees)
        reach = np.minimum(_reach_rotated(reach, limit), corner)
    farthest: np.ndarray = reach / voxel
    return farthest


def _reach_rotated(reach: np.ndarray, limit: float) -> np.ndarray:
    """How far a box reaches along its axes when it is rotated by up to `limit` radians.

    Its corners reach farthest, and those that are within `limit` of an axis get onto it.
    """
    corner = max(float(np.linalg.norm(reach)), np.finfo(float).tiny)
    angles = np.arccos(np.clip(reach / corner, 0, 1))
    rotated: np.ndarray = corner * np.cos(np.maximum(angles - limit, 0))
    return rotated
