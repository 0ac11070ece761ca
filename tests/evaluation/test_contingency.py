"""The table that scores come from: beside scikit-image, in blocks of any size, and its places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from ffn.evaluation import blocks
from ffn.evaluation.blocks import boundary_band, compare_volumes, cut_columns
from ffn.evaluation.contingency import Contingency, add_up
from ffn.evaluation.rand import compute_rand
from ffn.evaluation.voi import compute_voi
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import Volume

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 9))
BIG = np.array([0, 1, 2**40, 2**62, 2**63 + 1, 2**64 - 2], np.uint64)


@st.composite
def pairs(draw):
    """Two label volumes of one shape, not a cube, with ids up to 64 bits."""
    shape = draw(SHAPES)
    arrays = hnp.arrays(np.int64, shape, elements=st.integers(0, 5))
    return BIG[draw(arrays)], BIG[draw(arrays)]


COUNTED = st.sampled_from(['either', 'truth', 'segmentation', 'both'])


@settings(deadline=None)
@given(pairs(), COUNTED)
def test_scores_are_those_of_scikit_image(volumes, counted):
    truth, found = volumes
    truth[0, 0, :2] = found[0, 0, :2] = 1  # a pair at least
    table = Contingency.of(truth, found).counted(counted)
    a, b = truth > 0, found > 0
    which = {'either': a | b, 'truth': a, 'segmentation': b, 'both': a & b}[counted]
    small = [np.unique(v, return_inverse=True)[1].reshape(v.shape)[which] for v in volumes]
    split, merge = variation_of_information(*small)
    assert compute_voi(table) == pytest.approx((split, merge), abs=1e-9)
    error, of_truth, of_found = adapted_rand_error(*small, ignore_labels=())
    assert compute_rand(table) == pytest.approx((error, of_found, of_truth), abs=1e-9)
    assert table.voxels.sum() == np.count_nonzero(which)


@settings(deadline=None)
@given(pairs())
def test_rows_are_counts_of_pairs(volumes):
    table = Contingency.of(*volumes)
    rows = zip(table.truth.tolist(), table.segmentation.tolist(), table.voxels.tolist())
    expected = {}
    for pair in zip(volumes[0].ravel().tolist(), volumes[1].ravel().tolist()):
        expected[pair] = expected.get(pair, 0) + 1
    assert [(t, s, n) for t, s, n in rows] == [(*p, n) for p, n in sorted(expected.items())]


def test_what_means_not_labelled_is_background():
    table = Contingency.of(np.array([[[2**64 - 1, 3]]], np.uint64), np.array([[[5, 5]]]))
    assert table.truth.tolist() == [0, 3]


def test_signed_and_bool_labels():
    truth = np.array([[[-5, 3, 3, 2**62]]])
    found = np.array([[[True, True, False, True]]])
    table = Contingency.of(truth, found)
    assert table.truth.tolist() == [0, 3, 3, 2**62]
    assert table.segmentation.tolist() == [1, 0, 1, 1]
    assert table.truth.dtype == table.segmentation.dtype == np.uint64


@settings(deadline=None)
@given(pairs(), st.tuples(*[st.integers(1, 4)] * 3), st.integers(0, 3))
def test_blocks_of_any_size_give_the_same_counts(volumes, block, boundary):
    truth, found = (Volume(name, v, {}, (5, 6, 7)) for name, v in zip('ts', volumes))
    whole = compare_volumes(truth, found, truth.box, boundary=boundary)
    parts = compare_volumes(truth, found, truth.box, boundary=boundary, block_zyx=Zyx(*block))
    for name in ('truth', 'segmentation', 'voxels', 'inner'):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    check_places(parts, truth, found)


def check_places(table, truth, found):
    """A place of a pair is a voxel of both; where one goes on and the other changes, too."""

    def pair(place):
        z, y, x = (p - o for p, o in zip(table.at(place).zyx, truth.box.start.zyx))
        return [int(v._array[z, y, x]) for v in (truth, found)]

    for i in range(len(table.truth)):
        expected = [int(table.truth[i]), int(table.segmentation[i])]
        assert pair(table.place[i]) == expected
        for name in ('split_site', 'merge_site'):
            if place := getattr(table, name)[i]:
                assert pair(place) == expected
                assert 0 not in expected


def test_where_pieces_meet():
    """Object 1 is cut at x = 6; in the row above, segment 8 goes on into object 2 over a gap."""
    truth = np.array([[[1] * 12, [1] * 4 + [0] * 3 + [2] * 5]])
    found = np.array([[[7] * 6 + [9] * 6, [8] * 12]])
    table = Contingency.of(truth, found)
    pairs = list(zip(table.truth.tolist(), table.segmentation.tolist()))
    place = {p: (table.split_site[i], table.merge_site[i]) for i, p in enumerate(pairs)}
    assert table.at(place[1, 7][0]) == Xyz(5, 0, 0)
    assert table.at(place[1, 9][0]) == Xyz(6, 0, 0)
    assert table.at(place[1, 8][1]) == Xyz(3, 1, 0)
    assert table.at(place[2, 8][1]) == Xyz(7, 1, 0)
    assert place[0, 8] == (0, 0)
    assert place[1, 7][1] == place[2, 8][0] == 0
    assert table.at(table.place[pairs.index((1, 9))]) == Xyz(9, 0, 0)
    swapped = table.swapped()
    assert swapped.split_site is table.merge_site
    assert swapped.truth is table.segmentation


def test_pieces_far_apart_do_not_meet():
    truth = np.ones((1, 1, 30), np.uint8)
    found = np.where(np.arange(30) < 3, 1, np.where(np.arange(30) < 25, 0, 2)).reshape(1, 1, 30)
    assert not Contingency.of(truth, found).split_site.any()
    # Nor across the end of a row, where a place in the middle of an object is not either.
    assert Contingency.of(np.ones((1, 2, 8), int), np.ones((1, 2, 8), int)).place[0] % 8 == 4
    found = np.repeat([[[1], [2]]], 4, axis=2)
    assert not Contingency.of(np.ones((1, 2, 4), int), found).split_site.any()


@settings(deadline=None)
@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 2)), st.integers(1, 4))
def test_the_band_is_what_is_near_another_label(labels, width):
    expected = np.zeros(labels.shape, bool)
    for label in np.unique(labels):
        if (labels != label).any():
            steps = ndimage.distance_transform_cdt(labels == label, 'taxicab')
            expected |= (labels == label) & (steps <= width)
    np.testing.assert_array_equal(boundary_band(labels, width), expected)


@settings(deadline=None)
@given(hnp.arrays(np.int64, SHAPES, elements=st.integers(0, 2)), st.integers(1, 4))
def test_a_band_within_sections_is_that_of_each_section(labels, width):
    expected = np.stack([boundary_band(section[np.newaxis], width)[0] for section in labels])
    np.testing.assert_array_equal(boundary_band(labels, Xyz(width, width, 0)), expected)
    np.testing.assert_array_equal(
        boundary_band(labels, Xyz(width, width, width)), boundary_band(labels, width)
    )


def test_a_band_of_three_widths():
    labels = np.zeros((9, 9, 9), int)
    labels[:4, :4, :4] = 1
    band = boundary_band(labels, Xyz(3, 2, 1))
    assert np.flatnonzero(band[0, 0, :]).tolist() == [1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(band[0, :, 0]).tolist() == [2, 3, 4, 5]
    assert np.flatnonzero(band[:, 0, 0]).tolist() == [3, 4]


def test_the_band_knows_what_is_outside_of_the_box():
    truth = np.ones((1, 1, 10), np.uint8)
    truth[..., 5:] = 2
    volume = Volume('t', truth, {})
    table = compare_volumes(volume, volume, Box(Xyz(0, 0, 0), Xyz(5, 1, 1)), boundary=2)
    assert (table.voxels.tolist(), table.inner.tolist()) == ([5], [3])
    inner = table.without_boundary()
    assert inner.voxels.tolist() == [3]


def test_columns_cover_the_box_once():
    box = Box(Xyz(3, 1, 2), Xyz(7, 5, 4))
    seen = np.zeros(box.end.zyx, int)
    for column in cut_columns(box, Zyx(3, 3, 4)):
        assert [block.size.z for block in column] == [3, 1]
        for block in column:
            seen[block.slices_zyx] += 1
    assert seen.sum() == 7 * 5 * 4
    assert (seen[box.slices_zyx] == 1).all()


class Counting:
    """An array that knows how often each of its sections is read."""

    def __init__(self, labels):
        self.labels, self.shape, self.dtype = labels, labels.shape, labels.dtype
        self.reads = np.zeros(labels.shape[0], int)

    def __getitem__(self, index):
        self.reads[index[0]] += 1
        return self.labels[index]


@pytest.mark.parametrize('boundary', [0, 1, 2, 5])
def test_no_section_is_read_twice(boundary):
    array = Counting(np.random.default_rng(1).integers(0, 4, (23, 5, 6)))
    truth = Volume('t', array, {})
    box = Box(Xyz(0, 0, 3), Xyz(6, 5, 17))
    compare_volumes(
        truth, Volume('s', array.labels, {}), box, boundary=boundary, block_zyx=Zyx(4, 9, 9)
    )
    expected = np.zeros(23, int)
    expected[max(3 - boundary, 0) : 20 + boundary] = 1
    np.testing.assert_array_equal(array.reads, expected)


def test_large_counts_do_not_overflow():
    """Of a volume with 10^12 voxels, which no test can hold."""
    half = Contingency.of(np.array([[[1, 2]]]), np.array([[[1, 1]]]))
    huge = half.rows(np.arange(2), voxels=np.array([6 * 10**11, 4 * 10**11]))
    score = compute_rand(add_up([huge]))
    assert score.recall == 1
    assert score.precision == pytest.approx(0.52)


def test_rows_of_many_blocks_are_not_sorted_again_for_every_block(monkeypatch):
    labels = np.arange(1, 1 + 8 * 18 * 40, dtype=np.uint64).reshape(8, 18, 40)
    rows = 0

    def add_up_counted(tables):
        nonlocal rows
        rows += sum(len(table.truth) for table in tables)
        return add_up(tables)

    monkeypatch.setattr(blocks, 'add_up', add_up_counted)
    monkeypatch.setattr(blocks, '_MAX_ROWS', 50)
    volume = Volume('v', labels, {})
    table = compare_volumes(volume, volume, volume.box, block_zyx=Zyx(1, 3, 5))
    np.testing.assert_array_equal(table.truth, labels.ravel())
    assert rows < 8 * labels.size
