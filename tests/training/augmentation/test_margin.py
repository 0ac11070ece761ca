"""How far beyond a patch geometric changes reach."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings

from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.margin import required_margin
from ffn.utils.geometry import Zyx
from tests.training.augmentation.samples import (
    CENTER,
    SEEDS,
    SIZE,
    both_voxel_sizes,
    each_geometric,
    make_config,
    random_block,
    sources,
)


@each_geometric
@both_voxel_sizes
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_the_margin_is_enough(values, voxel_size, seed):
    config = make_config(values, voxel_size)
    _, _, weights = augment(*random_block(config), SIZE, config, np.random.default_rng(seed))
    assert (weights == 1).all()


@each_geometric
@both_voxel_sizes
def test_the_margin_is_not_far_too_large(values, voxel_size):
    config = make_config(values, voxel_size)
    half, margin = np.array(CENTER), np.array(required_margin(config, SIZE))
    most = np.max([np.abs(sources(config, seed)).max(axis=(1, 2, 3)) for seed in range(40)], axis=0)
    assert (most <= half + margin + 1e-3).all()
    # All extremes at once are rare: what reaches halfway shows that it is the right bound.
    assert (most >= half + margin * 0.4 - 2).all()


def test_margins_by_hand():
    size = Zyx(9, 21, 41)
    assert required_margin(make_config({}), size) == Zyx(0, 0, 0)
    assert required_margin(make_config({'noise': {}, 'occlusion': {}}), size) == Zyx(0, 0, 0)
    # The corner, half 10 and 20, is √500 = 22.4 away.
    assert required_margin(make_config({'rotation_2d': {}}), size) == Zyx(0, 13, 3)
    never = {'rotation_2d': {'probability': 0}, 'elastic': {'amplitude': 0}}
    assert required_margin(make_config(never), size) == Zyx(0, 0, 0)
    # √(4² + 10² + 20²) = 22.7
    assert required_margin(make_config({'rotation_3d': {}}), size) == Zyx(19, 13, 3)
    # In physical space: half 40, 10, 20, the corner at 45.8.
    assert required_margin(make_config({'rotation_3d': {}}, (1, 1, 10)), size) == Zyx(1, 36, 26)
    both = {'rotation_2d': {}, 'rotation_3d': {}}
    assert required_margin(make_config(both), size) == Zyx(19, 13, 3)
    assert required_margin(make_config({'elastic': {'amplitude': 1.5}}), size) == Zyx(0, 2, 2)
    scaled = {'affine': {'max_scale': 0.1, 'max_scale_z': 0.25, 'max_shear': 0}}
    assert required_margin(make_config(scaled), size) == Zyx(1, 1, 2)
