"""Joint histograms, renumbering and replacing of ids, against the plain way to do it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.utils.labels import (
    clear_unlabelled,
    compact,
    find_ids,
    groups,
    joint_histogram,
    remap,
    renumber,
)

HUGE = 2**63 + 5


@settings(deadline=None)
@given(
    st.sampled_from([np.uint8, np.int32, np.int64, np.uint64]),
    st.integers(1, 4000),
    st.integers(0, 2**32 - 1),
)
def test_joint_histogram_counts_pairs(dtype, many, seed):
    rng = np.random.default_rng(seed)
    shape = (3, 20, 31)
    many = min(many, 127) if dtype == np.uint8 else many
    first, second = (rng.integers(0, many, shape).astype(dtype) for _ in range(2))
    if dtype != np.uint8:
        first[first > 0] *= 1000
        second[0] = second[0, ::-1] * 70000
    if np.dtype(dtype).kind == 'i':
        first[0, 0] = -1
    expected: dict[tuple[int, int], int] = {}
    for a, b in zip(first.ravel().tolist(), second.ravel().tolist()):
        key = max(a, 0), max(b, 0)
        expected[key] = expected.get(key, 0) + 1
    expected.pop((0, 0), None)
    found = joint_histogram(first, second)
    assert found.dtype == np.uint64
    assert [tuple(row) for row in found.tolist()] == [(*k, v) for k, v in sorted(expected.items())]


def test_joint_histogram_of_ids_beyond_32_bits():
    first = np.array([[[0, 2**40, 2**63 + 5]]], np.uint64)
    second = np.array([[[2**33, 2**33 + 1, 2**33]]], np.uint64)
    rows = [(0, 2**33, 1), (2**40, 2**33 + 1, 1), (2**63 + 5, 2**33, 1)]
    assert (joint_histogram(first, second) == np.array(rows, np.uint64)).all()


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.int64, np.uint64])
def test_compact_keeps_the_order_of_ids(dtype):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 100, (3, 4, 5)).astype(dtype)
    if np.dtype(dtype).kind == 'i':
        labels[0, 0] = -7
    ids, inverse = np.unique(np.where(labels > 0, labels, 0), return_inverse=True)
    numbers, found = compact(labels)
    assert numbers.dtype == np.uint8
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, ids if ids[0] == 0 else [0, *ids])
    np.testing.assert_array_equal(numbers, inverse.reshape(labels.shape) + (ids[0] != 0))


def test_compact_of_huge_ids_and_of_some():
    labels = np.array([[HUGE, HUGE + 1, 3], [3, 0, HUGE]], np.uint64)
    numbers, ids = compact(labels)
    assert numbers.tolist() == [[2, 3, 1], [1, 0, 2]]
    assert ids.tolist() == [0, 3, HUGE, HUGE + 1]
    numbers, ids = compact(labels, keep={HUGE, 17})
    assert numbers.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert ids.tolist() == [0, HUGE]
    numbers, ids = compact(labels, keep=())
    assert not numbers.any()
    assert ids.tolist() == [0]
    many = np.arange(300, dtype=np.int64)
    assert compact(many)[0].dtype == np.uint16
    assert compact(np.array([False, True]))[0].tolist() == [0, 1]


def test_what_means_not_labelled_is_background_everywhere():
    none = 2**64 - 1
    labels = np.array([[[none, 3, 0], [HUGE, none, 3]]], np.uint64)
    cleared = np.where(labels == none, np.uint64(0), labels)
    np.testing.assert_array_equal(clear_unlabelled(labels), cleared)
    assert clear_unlabelled(cleared) is cleared
    below = np.array([-4, 2**62, 0])
    assert clear_unlabelled(below).tolist() == [0, 2**62, 0]
    assert clear_unlabelled(below[1:]).base is below
    numbers, ids = compact(labels)
    assert numbers.tolist() == [[[0, 1, 0], [2, 0, 1]]]
    assert ids.tolist() == [0, 3, HUGE]
    assert joint_histogram(labels, labels).tolist() == [[3, 3, 2], [HUGE, HUGE, 1]]
    assert (remap(labels, ids, ids, others='keep') == cleared).all()


@pytest.mark.parametrize('dtype', ['i1', 'u1', 'i2', 'u2', 'i4', 'u4', 'i8', 'u8'])
@pytest.mark.parametrize('many', [127, 128, 255, 256, 32767, 32768, 65535, 65536])
def test_renumbering_gives_every_label_a_number(dtype, many):
    """fastremap alone numbers 65,535 labels of 16 bits with 8, and 128 negative ones with -128."""
    top = min(many, np.iinfo(dtype).max)
    labels = np.arange(top, -1, -1).astype(dtype)
    numbers, number_of = renumber(labels)
    np.testing.assert_array_equal(numbers, [*range(1, top + 1), 0])
    assert number_of == dict(zip(labels.tolist(), [*range(1, top + 1), 0], strict=True))
    numbers, ids = compact(labels)
    np.testing.assert_array_equal(numbers, labels)
    np.testing.assert_array_equal(ids, range(top + 1))
    below = np.arange(max(-many, np.iinfo(dtype).min), 0).astype(dtype)
    np.testing.assert_array_equal(renumber(below)[0], range(1, len(below) + 1))


def test_find_ids():
    ids = np.array([2, 5, HUGE], np.uint64)
    at, found = find_ids(ids, np.array([HUGE, 0, 5, HUGE + 1, 2], np.uint64))
    assert found.tolist() == [True, False, True, False, True]
    assert at[found].tolist() == [2, 1, 0]
    assert not find_ids(ids[:0], ids)[1].any()


@pytest.mark.parametrize('greatest', [9, 2**30, HUGE])
@pytest.mark.parametrize('dtype', [np.int64, np.uint64])
def test_remap(dtype, greatest):
    if greatest == HUGE and dtype == np.int64:
        greatest = 2**62 + 1
    labels = np.array([[1, 9, greatest], [0, 4, 1]], dtype)
    before = labels.copy()
    ids, new = np.array([1, 4, greatest], np.uint64), np.array([HUGE, 0, 1], np.uint64)
    for others, rest in (('keep', 9), ('background', 0)):
        found = remap(labels, ids, new, others=others)
        assert found.dtype == np.uint64
        expected = {0: 0, 1: HUGE, 4: 0, 9: rest, greatest: 1}
        assert found.tolist() == [[expected[i] for i in row] for row in labels.tolist()]
    np.testing.assert_array_equal(labels, before)


def test_remap_of_ids_beyond_the_table_and_below_0():
    labels = np.array([-3, 2, 300, 2**40])
    one = np.array([2], np.uint64)
    assert remap(labels, one, one + np.uint64(5), others='background').tolist() == [0, 7, 0, 0]
    assert remap(labels, one, one + np.uint64(5), others='keep').tolist() == [0, 7, 300, 2**40]
    assert remap(labels, one[:0], one[:0], others='background').tolist() == [0, 0, 0, 0]
    huge = np.array([HUGE, 2], np.uint64)
    assert remap(huge, one, one, others='background').tolist() == [0, 2]


def test_labels_are_renumbered_in_one_place(repository):
    """Consensus and decision points apart, which renumber pairs of their own, of 64 bits."""
    calls = {
        p.name for p in (repository / 'ffn').rglob('*.py') if 'fastremap.renumber' in p.read_text()
    }
    assert calls == {'labels.py', 'consensus.py', 'decision_points.py'}


def test_groups_are_those_of_each_number():
    numbers = np.random.default_rng(0).integers(0, 9, 200)
    numbers[numbers == 4] = 5
    found = list(groups(numbers))
    assert len(found) == 9
    for number, rows in enumerate(found):
        np.testing.assert_array_equal(rows, np.flatnonzero(numbers == number))
    assert list(groups(numbers[:0])) == []


@pytest.mark.parametrize('dtype', ['>i2', '>i8', '>u4', '>u8'])
def test_bytes_in_the_other_order(dtype):
    labels = np.array([[[0, 3, 7], [7, 7, 0]]], dtype)
    numbers, ids = compact(labels)
    assert numbers.tolist() == [[[0, 1, 2], [2, 2, 0]]]
    assert ids.tolist() == [0, 3, 7]
    if dtype == '>u8':
        labels[0, 0, 0] = 2**64 - 1
        assert clear_unlabelled(labels).tolist() == [[[0, 3, 7], [7, 7, 0]]]
