"""Where voxels come from: what is fixed and what is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from ffn.training.augmentation import warps
from ffn.training.augmentation.augment import augment
from ffn.training.augmentation.margin import required_margin
from ffn.utils.geometry import Zyx
from tests.training.augmentation.samples import (
    CENTER,
    FLAT,
    GEOMETRIC,
    ISOTROPIC,
    SEEDS,
    SIZE,
    block_shape,
    both_voxel_sizes,
    each_geometric,
    make_config,
    random_block,
    sources,
)


def positions(size=SIZE):
    """[3, z, y, x], from the centre, in voxels."""
    index = np.indices(size, dtype=np.float32)
    return index - np.array([(n - 1) // 2 for n in size]).reshape(3, 1, 1, 1)


def physical(where, voxel_size):
    return where * np.array(voxel_size[::-1]).reshape(3, 1, 1, 1)


def rotated(axis_zyx, degrees, voxel_size=ISOTROPIC):
    """A map that only rotates."""
    voxel = np.array(voxel_size[::-1], float)
    matrix = warps.rotation_matrix(axis_zyx, math.radians(degrees))
    return warps.Warp(
        np.diag(1 / voxel) @ matrix @ np.diag(voxel), np.eye(3)[np.newaxis], np.zeros((1, 1, 1, 2))
    )


# For every geometric change.


@each_geometric
@both_voxel_sizes
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_the_centre_stays(values, voxel_size, seed):
    config = make_config(values, voxel_size)
    image, labels, weights = random_block(config)
    middle = tuple((n - 1) // 2 for n in image.shape)
    labels[middle] = 1000
    moved, moved_labels, _ = augment(
        image, labels, weights, SIZE, config, np.random.default_rng(seed)
    )
    assert moved[CENTER] == image[middle]
    assert moved_labels[CENTER] == 1000


@each_geometric
@pytest.mark.parametrize('size', [Zyx(1, 1, 1), Zyx(1, 13, 1), Zyx(8, 6, 10), Zyx(5, 1, 7)])
def test_other_sizes(values, size):
    config = make_config(values)
    image, labels, weights = random_block(config, size)
    middle = tuple(m + (n - 1) // 2 for n, m in zip(size, required_margin(config, size)))
    center = tuple((n - 1) // 2 for n in size)
    for seed in range(5):
        moved, moved_labels, moved_weights = augment(
            image, labels, weights, size, config, np.random.default_rng(seed)
        )
        assert moved.shape == size
        assert moved[center] == image[middle]
        assert moved_labels[center] == labels[middle]
        assert (moved_weights == 1).all()


@each_geometric
@both_voxel_sizes
def test_labels_move_with_the_image(values, voxel_size):
    config = make_config(values, voxel_size)
    z, y, x = positions(block_shape(config))
    labels = (np.sin(z / 3) + np.sin(y / 5) + np.cos(x / 4) > 0).astype(np.uint8)
    image = labels.astype(np.float32)
    weights = 1 + image
    for seed in range(3):
        moved, moved_labels, moved_weights = augment(
            image, labels, weights, SIZE, config, np.random.default_rng(seed)
        )
        np.testing.assert_array_equal(moved_weights, 1 + moved_labels)
        # In between voxels of two kinds neither is right; the nearest of eight has an eighth or more.
        sure = (moved < 0.12) | (moved > 0.88)
        np.testing.assert_array_equal(moved_labels[sure], moved[sure] > 0.5)
        assert sure.mean() > 0.3


@each_geometric
def test_what_is_not_in_the_block_is_repeated_with_weight_zero(values):
    config = make_config(values)
    image = np.random.default_rng(0).uniform(5, 6, SIZE).astype(np.float32)
    labels, weights = (image > 5.5).astype(np.int64), np.full(SIZE, 3, np.float32)
    beyond = []
    for seed in range(6):
        moved, moved_labels, moved_weights = augment(
            image, labels, weights, SIZE, config, np.random.default_rng(seed)
        )
        where = sources(config, seed)
        outside = (np.abs(where) > np.array(CENTER).reshape(3, 1, 1, 1) + 1e-2).any(axis=0)
        inside = (np.abs(where) < np.array(CENTER).reshape(3, 1, 1, 1) - 1e-2).all(axis=0)
        assert (moved_weights[outside] == 0).all()
        assert (moved_weights[inside] == 3).all()
        assert np.isin(moved_labels, [0, 1]).all()
        assert moved.min() >= image.min()
        assert moved.max() <= image.max()
        beyond.append(outside.any())
    assert any(beyond)


def test_less_than_the_margin_is_used_as_far_as_it_goes():
    config = make_config({'rotation_2d': {}})
    image, labels, weights = random_block(config)
    lost = tuple(slice(1 if n > s else 0, n - (n > s)) for n, s in zip(image.shape, SIZE))
    whole = augment(image, labels, weights, SIZE, config, np.random.default_rng(3))
    cut = augment(image[lost], labels[lost], weights[lost], SIZE, config, np.random.default_rng(3))
    known = cut[2] == 1
    assert 0.5 < known.mean() <= 1
    np.testing.assert_array_equal(whole[1][known], cut[1][known])
    np.testing.assert_allclose(whole[0][known], cut[0][known], atol=1e-4)


# Rotations.


@pytest.mark.parametrize(('degrees', 'turns'), [(90, 1), (180, 2), (-90, 3)])
def test_right_angles_around_z_are_rot90(degrees, turns):
    image = np.random.default_rng(0).standard_normal((5, 21, 21), dtype=np.float32)
    labels = (image * 1000).astype(np.int16)
    size = Zyx(5, 13, 17)
    moved, moved_labels, weights = warps.resample(
        image, labels, np.ones_like(image), size, rotated((1, 0, 0), degrees, (4, 4, 30))
    )
    # y comes from x: rot90 turns y towards x, so this is the other way round.
    expected = np.rot90(image, -turns, (1, 2))[:, 4:17, 2:19]
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    np.testing.assert_array_equal(moved_labels, np.rot90(labels, -turns, (1, 2))[:, 4:17, 2:19])
    assert (weights == 1).all()


def test_a_right_angle_around_y_of_voxels_three_times_as_deep():
    # A line along x of 18 voxels is one along z of 6 sections.
    where = rotated((0, 1, 0), 90, (2, 2, 6)).coordinates(Zyx(3, 5, 13), (0, 0, 0))
    z, y, x = positions(Zyx(3, 5, 13))
    np.testing.assert_allclose(where[1], y, atol=1e-5)
    np.testing.assert_allclose(np.abs(where[0]), np.abs(x / 3), atol=1e-5)
    np.testing.assert_allclose(np.abs(where[2]), np.abs(z * 3), atol=1e-5)
    assert where[0][1, 2, 0] == -where[0][1, 2, -1]


@pytest.mark.parametrize('key', ['rotation_2d', 'rotation_3d', 'rotation_3d uniform', 'both'])
@both_voxel_sizes
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_rotations_keep_physical_distances(key, voxel_size, seed):
    values = GEOMETRIC.get(key, {'rotation_2d': {}, 'rotation_3d': {'max_degrees': 70}})
    where = physical(sources(make_config(values, voxel_size), seed), voxel_size)
    plain = physical(positions(), voxel_size)
    np.testing.assert_allclose(
        np.linalg.norm(where, axis=0), np.linalg.norm(plain, axis=0), atol=1e-3
    )
    if key == 'rotation_2d':
        np.testing.assert_allclose(where[0], plain[0], atol=1e-3)
    # Not mirrored.
    edges = np.array([where[:, -1, 0, 0], where[:, 0, -1, 0], where[:, 0, 0, -1]])
    assert np.linalg.det(edges - where[:, 0, 0, 0]) > 0


@pytest.mark.parametrize(('key', 'limit'), [('rotation_2d', 15), ('rotation_3d', 40)])
def test_angles_stay_within_the_limit(key, limit):
    config = make_config({key: {'max_degrees': limit}}, FLAT)
    angles = []
    for seed in range(300):
        matrix = warps.draw(config, SIZE, np.random.default_rng(seed)).rotation
        # The trace is the same in voxels.
        angles.append(math.degrees(math.acos(min((np.trace(matrix) - 1) / 2, 1))))
    assert max(angles) <= limit + 1e-6
    # Evenly: a quarter each, give or take.
    counts = np.histogram(angles, 4, (0, limit))[0]
    assert counts.min() > 45


def test_uniform_rotations_put_every_axis_everywhere():
    config = make_config({'rotation_3d': {'uniform': True}})
    matrices = np.array(
        [warps.draw(config, SIZE, np.random.default_rng(seed)).rotation for seed in range(2000)]
    )
    # On a sphere, each coordinate is distributed evenly.
    for row in range(3):
        for column in range(3):
            counts = np.histogram(matrices[:, row, column], 5, (-1, 1))[0]
            assert abs(counts - 400).max() < 90
    # Of all rotations, the mean trace is 0.
    assert abs(np.trace(matrices, axis1=1, axis2=2).mean()) < 0.1


# Sections.


def test_misalignment_moves_sections_by_whole_voxels_and_nothing_else():
    config = make_config(GEOMETRIC['misalignment'])
    image, labels, weights = random_block(config)
    margin = required_margin(config, SIZE)
    assert margin == Zyx(0, 6, 6)
    patterns = set()
    for seed in range(60):
        moved = augment(image, labels, weights, SIZE, config, np.random.default_rng(seed))
        dy, dx = _displacements(moved[1], labels, margin)
        steps = (np.diff(dy) != 0) | (np.diff(dx) != 0)
        # A slip is two steps (one at an end), a shift is one.
        assert steps.sum() <= 3
        patterns.add(int(steps.sum()))
        for z in range(SIZE.z):
            y, x = margin.y + dy[z], margin.x + dx[z]
            np.testing.assert_array_equal(moved[0][z], image[z, y : y + SIZE.y, x : x + SIZE.x])
    assert patterns >= {1, 2, 3}


def _displacements(moved, labels, margin):
    """Finds by how much each section of labels was displaced: y and x."""
    found = []
    for z in range(len(moved)):
        (match,) = [
            (dy, dx)
            for dy in range(-margin.y, margin.y + 1)
            for dx in range(-margin.x, margin.x + 1)
            if (
                moved[z]
                == labels[z, margin.y + dy :, margin.x + dx :][: moved.shape[1], : moved.shape[2]]
            ).all()
        ]
        found.append(match)
    return np.array(found).T


@pytest.mark.parametrize(('slip', 'shift'), [(1, 0), (0, 1)])
def test_a_slip_is_one_section_and_a_shift_all_from_one_on(slip, shift):
    values = {'max_displacement': 4, 'slip_probability': slip, 'shift_probability': shift}
    config = make_config({'misalignment': values})
    assert required_margin(config, SIZE) == Zyx(0, 4, 4)
    where_changed, most = set(), 0
    for seed in range(80):
        away = (sources(config, seed) - positions())[:, :, 0, 0].T
        np.testing.assert_allclose(away, np.rint(away), atol=1e-4)
        away = np.rint(away).astype(int)
        most = max(most, np.abs(away).max())
        changed = np.flatnonzero((away != away[0]).any(axis=1))
        if shift:
            # The first sections are as they were, or, where the centre moved, all moved back.
            assert len(np.unique(away, axis=0)) <= 2
            if changed.size:
                np.testing.assert_array_equal(changed, np.arange(changed[0], SIZE.z))
        else:
            others = [(away == row).all(axis=1).sum() for row in np.unique(away, axis=0)]
            assert sorted(others) in ([SIZE.z], [1, SIZE.z - 1])
        where_changed |= set(changed.tolist())
    assert most == 4
    assert where_changed == set(range(1, SIZE.z))


@both_voxel_sizes
def test_sections_are_those_of_the_patch_however_it_is_rotated(voxel_size):
    # A section comes from a plane, and all planes are parallel and equally far apart.
    config = make_config(
        GEOMETRIC['affine sections']
        | GEOMETRIC['elastic sections']
        | GEOMETRIC['misalignment']
        | {'rotation_3d': {'uniform': True}},
        voxel_size,
    )
    for seed in range(8):
        where = physical(sources(config, seed), voxel_size)
        middle = where[:, CENTER[0]]
        edges = middle[:, 0, -1] - middle[:, 0, 0], middle[:, -1, 0] - middle[:, 0, 0]
        normal = np.cross(*edges) / np.linalg.norm(np.cross(*edges))
        heights = np.tensordot(normal, where, 1)
        expected = physical(positions(), voxel_size)[0] * np.sign(heights[-1].mean())
        np.testing.assert_allclose(heights, expected, atol=0.01)


@pytest.mark.parametrize('key', ['affine sections', 'elastic sections', 'elastic', 'affine'])
def test_what_is_drawn_per_section_differs_from_section_to_section(key):
    away = sources(make_config(GEOMETRIC[key]), 1) - positions()
    if key != 'affine':
        np.testing.assert_allclose(away[0], 0, atol=1e-5)
    assert (np.abs(away[1:]).max(axis=(1, 2, 3)) > 0.2).all()
    roughness = np.abs(np.diff(away[1:], 2, axis=1)).max()
    if 'sections' in key:
        assert roughness > 0.5
    else:
        assert roughness < 0.3


def test_affine_stays_within_its_limits():
    values = {'max_scale': 0.2, 'max_scale_z': 0.1, 'max_shear': 0.05}
    config = make_config({'affine': values}, FLAT)
    voxel = np.array(FLAT[::-1])
    drawn = [warps.draw(config, SIZE, np.random.default_rng(seed)) for seed in range(400)]
    matrices = np.array([warp.sections[0] for warp in drawn]) * voxel[:, np.newaxis] / voxel
    limits = np.array([[0.1, 0, 0], [0.05, 0.2, 0.05], [0.05, 0.05, 0.2]])
    most = np.abs(matrices - np.eye(3)).max(axis=0)
    assert (most <= limits).all()
    assert (most >= 0.9 * limits).all()


@pytest.mark.parametrize('per_section', [False, True])
def test_elastic_is_smooth_bounded_and_does_not_fold(per_section):
    values = {'amplitude': 8, 'smoothness': 12, 'per_section': per_section}
    size = Zyx(7, 41, 51)
    config = make_config({'elastic': values})
    assert required_margin(config, size) == Zyx(0, 8, 8)
    most = []
    for seed in range(30):
        away = warps.draw(config, size, np.random.default_rng(seed)).displacement
        most.append(np.abs(away).max())
        dy, dx = np.gradient(away, axis=(1, 2))
        assert ((1 + dy[..., 0]) * (1 + dx[..., 1]) - dy[..., 1] * dx[..., 0]).min() > 0
    assert max(most) <= 8
    assert max(most) > 7
    assert min(most) < 2


def test_elastic_is_as_smooth_as_it_says():
    # Of noise smoothed with sigma, neighbours at distance d correlate by exp(-d² / 4 sigma²).
    config = make_config({'elastic': {'amplitude': 1, 'smoothness': 6}}, (1, 1, 3))
    size = Zyx(15, 45, 45)
    distances = {0: 2, 1: 6, 2: 6}
    products = {axis: [] for axis in distances}
    for seed in range(60):
        field = warps.draw(config, size, np.random.default_rng(seed)).displacement[..., 0]
        # Without what was subtracted to fix the centre, by differences alone.
        for axis, distance in distances.items():
            near = np.take(field, range(distance, size[axis]), axis)
            near = near - np.take(field, range(size[axis] - distance), axis)
            twice = np.take(field, range(2 * distance, size[axis]), axis)
            twice = twice - np.take(field, range(size[axis] - 2 * distance), axis)
            products[axis].append((near**2).mean() / (twice**2).mean())
    # Distances are sigma: (1 - e^-1/4) / (1 - e^-1).
    expected = (1 - math.exp(-1 / 4)) / (1 - math.exp(-1))
    for ratios in products.values():
        assert np.median(ratios) == pytest.approx(expected, abs=0.06)
