"""Coarse labels: thin objects stay."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.export import downsample
from ffn.export.downsample import downsample_labels, most_frequent
from ffn.utils.geometry import Box, Xyz, Zyx

BIG = 2**63 + 5


@pytest.mark.parametrize(
    ('cell', 'expected'),
    [
        ([0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([0, 0, 0, BIG, 0, 0, 0, 0], BIG),  # one voxel of eight
        ([7, 7, 7, 7, 0, 0, 0, 0], 7),  # a tie with background
        ([0, 7, 3, 3, 9, 9, 9, 0], 9),
        ([0, 9, 0, 5, 0, 9, 5, 0], 5),  # a tie of labels: the least
        ([9, 5, 5, 9, 0, 0, 0, 3], 5),
        ([8, 2, 3, 4, 5, 6, 7, 1], 1),
    ],
)
def test_a_cell(cell, expected):
    labels = np.array(cell, np.uint64).reshape(2, 2, 2)
    assert most_frequent(labels, Zyx(2, 2, 2)).tolist() == [[[expected]]]


def test_a_large_cell_with_more_background_than_either_label():
    cell = np.zeros((16, 16, 16), np.uint64)
    voxels = np.random.default_rng(0).permutation(cell.size)
    cell.ravel()[voxels[:512]], cell.ravel()[voxels[512:768]] = 7, 9
    assert most_frequent(cell, Zyx(16, 16, 16)).tolist() == [[[7]]]
    cell.ravel()[voxels[768:1280]] = 5  # as many as of 7: the smaller label
    assert most_frequent(cell, Zyx(16, 16, 16)).tolist() == [[[5]]]


def test_large_cells_take_no_longer_than_small_ones():
    labels = np.random.default_rng(0).integers(0, 9, (96, 96, 96)).astype(np.uint64) // 4
    times = []
    for factor in (4, 16, 48):
        begin = time.process_time()
        most_frequent(labels, Zyx(*3 * [factor]))
        times.append(time.process_time() - begin)
    assert max(times) < 5 * times[0] + 0.5


def test_axes_have_their_own_factors():
    labels = np.zeros((2, 4, 6), np.uint64)
    labels[0, 1, 2:4] = 3
    labels[0, 0, 3] = 4
    labels[1, 3, 5] = 5
    expected = np.zeros((2, 2, 3), np.uint64)
    expected[0, 0, 1] = 3
    expected[1, 1, 2] = 5
    np.testing.assert_array_equal(most_frequent(labels, Zyx(1, 2, 2)), expected)


@settings(max_examples=25, deadline=None)
@given(
    start=st.tuples(*[st.integers(-5, 5)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    factors=st.tuples(*[st.sampled_from([1, 2, 3])] * 3),
    seed=st.integers(0, 99),
)
def test_any_volume_at_any_offset_in_any_parts(start, size, factors, seed):
    labels = np.random.default_rng(seed).integers(0, 3, size[::-1]).astype(np.uint64)
    finer, factors = Box(Xyz(*start), Xyz(*size)), Xyz(*factors)
    first = Xyz(*(s // f for s, f in zip(finer.start, factors)))
    last = Xyz(*(-(-e // f) for e, f in zip(finer.end, factors)))
    block = Box(first, Xyz(*(b - a for a, b in zip(first, last))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downsample, '_PART', Xyz(2, 3, 1))
        coarse = downsample_labels(
            lambda box: labels[box.relative_to(finer.start).slices_zyx], finer, factors, block
        )
    assert coarse.shape == block.size.zyx
    for z, y, x in np.ndindex(*coarse.shape):
        cell = Box(
            Xyz(*(n * f for n, f in zip(Xyz(*np.add(first, (x, y, z)).tolist()), factors))), factors
        ).intersection(finer)
        values = labels[cell.relative_to(finer.start).slices_zyx]
        ids, counts = np.unique(values[values > 0], return_counts=True)
        assert coarse[z, y, x] == (ids[counts.argmax()] if len(ids) else 0)


def test_a_line_of_one_voxel_stays_connected_at_all_scales():
    import cc3d

    labels = np.zeros((64, 64, 64), np.uint64)
    t = np.arange(63)
    labels[t, (40 - t // 2), t] = 12  # oblique
    for _ in range(5):
        labels = most_frequent(labels, Zyx(2, 2, 2))
        assert set(np.unique(labels).tolist()) == {0, 12}
        assert cc3d.connected_components(labels > 0, connectivity=26).max() == 1
        assert labels[0].any()
        assert labels[-1].any()
