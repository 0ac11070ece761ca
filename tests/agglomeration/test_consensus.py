"""Split consensus: the reference output, and what must hold for any two segmentations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffn.agglomeration.consensus import split_consensus
from ffn.utils.errors import UserError

SHAPE = (3, 4, 5)


def volumes(top=4):
    return hnp.arrays(np.int64, SHAPE, elements=st.integers(0, top))


def test_golden(goldens_dir):
    with np.load(goldens_dir / 'consensus.npz') as golden:
        found = split_consensus(golden['a'], golden['b'], int(golden['split_min_size']))
        np.testing.assert_array_equal(found.labels, golden['result'])
        assert found.dropped_voxels == np.sum((golden['a'] > 0) & (golden['result'] == 0))


def test_ids_by_hand():
    a = np.array([[[5, 5, 5, 5, 5, 5, 9, 9, 0, 0]]], np.uint16)
    b = np.array([[[1, 1, 1, 0, 0, 7, 7, 7, 7, 1]]], np.int32)
    found = split_consensus(a, b)
    # 5 stays where it meets 1, most often; its parts in 0 and in 7 follow in this order.
    np.testing.assert_array_equal(found.labels, [[[5, 5, 5, 10, 10, 11, 9, 9, 0, 0]]])
    assert found.labels.dtype == np.uint8
    assert found.split_off == {10: 5, 11: 5}
    small = split_consensus(a, b, min_size=2)
    np.testing.assert_array_equal(small.labels, [[[5, 5, 5, 10, 10, 0, 9, 9, 0, 0]]])
    assert small.dropped_voxels == 1


def test_all_ids_of_16_bits():
    a = np.arange(1, 65536).astype(np.uint16).reshape(3, 5, 4369)
    np.testing.assert_array_equal(split_consensus(a, a).labels, a)


@pytest.mark.parametrize(('below', 'new'), [(4, (2**64 - 3, 2**64 - 2)), (3, (1, 2)), (2, (1, 2))])
def test_new_ids_stay_below_the_value_that_marks_no_label(below, new):
    """Two parts are split off: above the highest id if there is room, else they take the lowest ids."""
    top = 2**64 - below
    a = np.array([[[3, top, top, top, top, 0]]], np.uint64)
    b = np.array([[[1, 1, 1, 2, 3, 3]]], np.uint8)
    np.testing.assert_array_equal(split_consensus(a, b).labels, [[[3, top, top, *new, 0]]])


@given(volumes(), volumes(), st.integers(0, 4))
def test_two_voxels_are_together_where_both_say_so(a, b, min_size):
    labels = split_consensus(a, b, min_size).labels.ravel()
    pairs = np.stack([a.ravel(), b.ravel()])
    _, part, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    part = part.ravel()
    stays = (a.ravel() > 0) & (counts[part] >= min_size)
    np.testing.assert_array_equal(labels > 0, stays)
    together = labels[stays][:, None] == labels[stays]
    np.testing.assert_array_equal(together, part[stays][:, None] == part[stays])


@given(volumes(), volumes())
def test_the_largest_part_keeps_its_id(a, b):
    labels = split_consensus(a, b).labels
    for label in set(a[a > 0]):
        sizes = np.bincount(b[a == label])
        assert np.sum(labels == label) == sizes.max()
    assert not set(labels[(labels != a)].tolist()) & set(range(int(a.max()) + 1))


@given(volumes())
def test_with_itself_it_changes_nothing(a):
    np.testing.assert_array_equal(split_consensus(a, a).labels, a)
    np.testing.assert_array_equal(split_consensus(a, np.ones_like(a)).labels, a)


def test_large_ids():
    a = np.array([[[2**63 + 1, 2**63 + 1, 3]]], np.uint64)
    found = split_consensus(a, np.array([[[2**40, 1, 1]]]))
    np.testing.assert_array_equal(found.labels, np.array([[[2**63 + 2, 2**63 + 1, 3]]], np.uint64))


def test_what_means_not_labelled_is_no_object():
    none = 2**64 - 1
    a = np.array([[[1, 1, 1, none, none]]], np.uint64)
    found = split_consensus(a, np.array([[[none, none, 2, 2, 3]]], np.uint64))
    assert found.labels.tolist() == [[[1, 1, 2, 0, 0]]]
    assert (found.split_off, found.dropped_voxels) == ({2: 1}, 0)


def test_bad_input():
    a = np.zeros(SHAPE, int)
    with pytest.raises(UserError, match=r'\(3, 4, 5\) and \(5, 4, 3\)'):
        split_consensus(a, a.T)
    with pytest.raises(UserError, match='float64'):
        split_consensus(a, a.astype(float))
