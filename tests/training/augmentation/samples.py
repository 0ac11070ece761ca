"""Configs that the tests of augmentation share, and blocks to apply them to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import strategies as st

from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.config import AugmentationConfig, parse_augmentation
from ffn.training.augmentation.margin import required_margin
from ffn.utils.geometry import Zyx

# Odd, and different along all axes.
SIZE = Zyx(9, 13, 17)
ISOTROPIC, FLAT = (1, 1, 1), (4, 5, 20)
# Strong, so that what is wrong by little shows; each is tested with both voxel sizes.
GEOMETRIC = {
    'rotation_2d': {'rotation_2d': {}},
    'rotation_2d small': {'rotation_2d': {'max_degrees': 20}},
    'rotation_3d': {'rotation_3d': {}},
    'rotation_3d small': {'rotation_3d': {'max_degrees': 25}},
    'rotation_3d uniform': {'rotation_3d': {'uniform': True}},
    'affine': {'affine': {'max_scale': 0.5, 'max_scale_z': 0.5, 'max_shear': 0.4}},
    'affine sections': {'affine': {'max_scale': 0.5, 'max_shear': 0.4, 'per_section': True}},
    'elastic': {'elastic': {'amplitude': 4, 'smoothness': 6}},
    'elastic sections': {'elastic': {'amplitude': 4, 'smoothness': 6, 'per_section': True}},
    'misalignment': {
        'misalignment': {'max_displacement': 3, 'slip_probability': 1, 'shift_probability': 1}
    },
    'all': {
        'rotation_2d': {}, 'rotation_3d': {}, 'elastic': {'amplitude': 3},
        'affine': {'max_scale': 0.3, 'max_scale_z': 0.2, 'max_shear': 0.2},
        'misalignment': {'max_displacement': 2, 'slip_probability': 1, 'shift_probability': 1},
    },
    'all of sections': {
        'rotation_2d': {'max_degrees': 30}, 'rotation_3d': {'max_degrees': 5},
        'elastic': {'per_section': True}, 'affine': {'per_section': True}, 'misalignment': {},
    },
}  # fmt: skip
INTENSITY = {
    'contrast': {'contrast': {}},
    'contrast sections': {'contrast': {'per_section': True}},
    'brightness': {'brightness': {}},
    'brightness sections': {'brightness': {'per_section': True}},
    'gamma': {'gamma': {}},
    'gamma sections': {'gamma': {'per_section': True}},
    'occlusion': {'occlusion': {'min_boxes': 3, 'max_boxes': 5}},
    'out_of_focus_section': {'out_of_focus_section': {'section_probability': 0.5}},
    'partially_missing_section': {'partially_missing_section': {'section_probability': 0.5}},
    'missing_section': {'missing_section': {'section_probability': 0.5}},
    'noise': {'noise': {'min_sigma': 0.1}},
}


SEEDS = st.integers(0, 2**32 - 1)
CENTER = tuple((n - 1) // 2 for n in SIZE)
each_geometric = pytest.mark.parametrize('values', GEOMETRIC.values(), ids=GEOMETRIC)
both_voxel_sizes = pytest.mark.parametrize('voxel_size', [ISOTROPIC, FLAT])


def make_config(values: dict, voxel_size: tuple = ISOTROPIC) -> AugmentationConfig:
    """Makes a config as a user does."""
    return parse_augmentation(json.dumps({'voxel_size': voxel_size, **values}))


def block_shape(config: AugmentationConfig, size: Zyx = SIZE) -> tuple[int, ...]:
    """Shape of what has to be read for a patch."""
    return tuple(n + 2 * m for n, m in zip(size, required_margin(config, size)))


def random_block(config: AugmentationConfig, size: Zyx = SIZE) -> tuple[np.ndarray, ...]:
    """Image, labels and weights (all 1) of a block with the margin that the config asks for."""
    rng = np.random.default_rng(9)
    shape = block_shape(config, size)
    image = rng.standard_normal(shape, dtype=np.float32)
    return image, rng.integers(0, 99, shape, np.uint32), np.ones(shape, np.float32)


def sources(config: AugmentationConfig, seed: int, size: Zyx = SIZE) -> np.ndarray:
    """Where a patch comes from: [3, z, y, x], z, y, x from the centre, in voxels.

    Seen from outside: images that hold a coordinate show where their voxels went, because what is
    linear is interpolated without error.
    """
    shape = block_shape(config, size)
    weights, labels = np.ones(shape, np.float32), np.zeros(shape, np.uint8)
    moved = []
    for axis, length in enumerate(shape):
        ramp = np.arange(length, dtype=np.float32) - (length - 1) // 2
        image = np.broadcast_to(np.expand_dims(ramp, [a for a in range(3) if a != axis]), shape)
        moved.append(augment(image, labels, weights, size, config, np.random.default_rng(seed))[0])
    return np.stack(moved)
