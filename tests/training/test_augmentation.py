from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ffn.training.augmentation import permute_and_reflect

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
