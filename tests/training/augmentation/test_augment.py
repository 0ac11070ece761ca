"""Augmentation of an example as a whole: reproducible, contiguous, permuted and reflected."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffn.training.augmentation.augment import augment, permute_and_reflect
from ffn.training.augmentation.config import AugmentationConfig
from tests.training.augmentation.samples import (
    FLAT,
    GEOMETRIC,
    INTENSITY,
    ISOTROPIC,
    SIZE,
    make_config,
    random_block,
)

ALL = GEOMETRIC | INTENSITY

# Axes of equal size may be permuted, so two of the three sides are equal.
SIDES = st.tuples(st.integers(1, 4), st.integers(1, 4))
SEEDS = st.integers(0, 2**32 - 1)


@given(SIDES, st.permutations([0, 1, 2]), st.sets(st.integers(0, 2)), SEEDS)
def test_all_arrays_change_alike_and_keep_their_values(sides, axes, reflectable, seed):
    permutable = sorted(axes[:2])
    shape = [0, 0, 0]
    for axis in range(3):
        shape[axis] = sides[0] if axis in permutable else sides[1]
    array = np.arange(np.prod(shape)).reshape(shape)
    first, second = permute_and_reflect(
        [array, -array], permutable, sorted(reflectable), np.random.default_rng(seed)
    )
    assert first.shape == array.shape
    np.testing.assert_array_equal(first, -second)
    assert sorted(first.ravel()) == sorted(array.ravel())


@given(SEEDS, st.integers(0, 2), st.sets(st.integers(0, 2)))
def test_only_the_named_axes_are_touched(seed, fixed, reflectable):
    permutable = [axis for axis in range(3) if axis != fixed]
    coordinates = list(np.indices((3, 3, 3)))
    changed = permute_and_reflect(
        coordinates, permutable, sorted(reflectable), np.random.default_rng(seed)
    )
    along = changed[fixed]
    expected = coordinates[fixed]
    assert np.array_equal(along, expected) or (
        fixed in reflectable and np.array_equal(along, 2 - expected)
    )


def test_nothing_allowed_changes_nothing():
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    for seed in range(20):
        (same,) = permute_and_reflect([array], [], [], np.random.default_rng(seed))
        np.testing.assert_array_equal(same, array)


def test_all_permutations_and_reflections_are_equally_frequent():
    array = np.arange(27).reshape(3, 3, 3)
    rng = np.random.default_rng(3)
    draws = 4800
    seen = Counter(
        permute_and_reflect([array], [0, 1, 2], [0, 1, 2], rng)[0].tobytes() for _ in range(draws)
    )
    assert len(seen) == 6 * 8
    # 100 expected of each; five standard deviations are about 50.
    assert all(50 <= count <= 150 for count in seen.values())


# augment: everything together.


@pytest.mark.parametrize('margin', [0, 2])
def test_without_augmentation_the_middle_is_returned_as_it_is(margin):
    shape = [n + 2 * margin for n in SIZE]
    arrays = [np.arange(np.prod(shape), dtype=t).reshape(shape) for t in ('f4', 'u8', 'f4')]
    rng = np.random.default_rng(1)
    for array, returned in zip(arrays, augment(*arrays, SIZE, AugmentationConfig(), rng)):
        assert np.shares_memory(array, returned)
        np.testing.assert_array_equal(
            returned, array[tuple(slice(margin, margin + n) for n in SIZE)]
        )
    assert rng.random() == np.random.default_rng(1).random()


@pytest.mark.parametrize('values', ALL.values(), ids=ALL)
@pytest.mark.parametrize('voxel_size', [ISOTROPIC, FLAT])
def test_same_generator_same_result_and_the_given_arrays_stay(values, voxel_size):
    config = make_config(values, voxel_size)
    block = random_block(config)
    before = [array.copy() for array in block]
    first, again = (augment(*block, SIZE, config, np.random.default_rng(4)) for _ in range(2))
    others = [augment(*block, SIZE, config, np.random.default_rng(seed)) for seed in range(5, 9)]
    for array, same, source, kept in zip(first, again, block, before):
        np.testing.assert_array_equal(array, same)
        np.testing.assert_array_equal(source, kept)
        assert not np.shares_memory(array, source)
        assert array.flags.c_contiguous
        assert array.shape == SIZE
        assert array.dtype == source.dtype
    assert any((first[0] != other[0]).any() for other in others)


@pytest.mark.parametrize('values', ALL.values(), ids=ALL)
def test_probability_zero_is_never_and_one_half_is_sometimes(values):
    def changes(probability):
        config = make_config({key: v | {'probability': probability} for key, v in values.items()})
        block = random_block(config)
        middle = tuple(slice((n - s) // 2, (n - s) // 2 + s) for n, s in zip(block[0].shape, SIZE))
        return [
            (
                augment(*block, SIZE, config, np.random.default_rng(seed))[0] != block[0][middle]
            ).any()
            for seed in range(16)
        ]

    assert not any(changes(0))
    some = changes(0.5)
    assert any(some)
    if len(values) == 1:
        assert not all(some)


@pytest.mark.parametrize('values', INTENSITY.values(), ids=INTENSITY)
def test_intensity_leaves_labels_and_weights(values):
    config = make_config(values)
    image, labels, weights = random_block(config)
    weights[1, 2, 3] = 0
    assert image.shape == SIZE
    changed, same_labels, same_weights = augment(
        image, labels, weights, SIZE, config, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(same_labels, labels)
    np.testing.assert_array_equal(same_weights, weights)
    assert (changed != image).any()
    assert np.isfinite(changed).all()


def test_noise_is_last_and_geometry_first():
    values = {
        'affine': {'max_scale': 0.5},
        'missing_section': {'section_probability': 1, 'min_fill': -2, 'max_fill': -2},
        'noise': {'min_sigma': 0.01, 'max_sigma': 0.01},
    }
    config = make_config(values)
    image, _, _ = augment(*random_block(config), SIZE, config, np.random.default_rng(0))
    # Interpolation after noise, or filling after it, would leave less of it.
    assert image.std() == pytest.approx(0.01, rel=0.1)
    assert image.mean() == pytest.approx(-2, abs=0.01)


@pytest.mark.parametrize('dtype', [np.uint8, np.int32, np.int64, np.uint64, '>u8', np.float32])
@pytest.mark.parametrize('key', ['rotation_3d', 'contrast'])
def test_labels_keep_type_and_value(dtype, key):
    config = make_config({key: {}})
    image, _, weights = random_block(config)
    dtype = np.dtype(dtype)
    # Neighbours that float64 cannot tell apart.
    top = np.iinfo(dtype).max if dtype.kind in 'iu' else 1
    labels = np.where(image > 0, dtype.type(top), dtype.type(top - 1)).astype(dtype)
    moved = augment(image, labels, weights, SIZE, config, np.random.default_rng(0))[1]
    assert moved.dtype == dtype
    assert set(np.unique(moved).tolist()) == {top, top - 1}


@pytest.mark.parametrize(
    ('shapes', 'words'),
    [
        (((9, 13, 17), (9, 13, 17), (9, 13, 16)), '(9, 13, 16)'),
        (((9, 13, 17), (9, 13, 16), (9, 13, 17)), '(9, 13, 16)'),
        (((10, 13, 17),) * 3, '(10, 13, 17)'),
        (((9, 13, 15),) * 3, '(9, 13, 15)'),
    ],
)
@pytest.mark.parametrize('values', [{}, {'rotation_3d': {}}])
def test_shapes_that_do_not_fit(shapes, words, values):
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(ValueError, match=re.escape(words)):
        augment(*arrays, SIZE, make_config(values), np.random.default_rng(0))
