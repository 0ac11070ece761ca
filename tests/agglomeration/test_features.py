"""What is measured about a pair: contact, image along it, orientation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ffn.agglomeration.contact import cosine, find_contact, image_at, shape_of
from ffn.agglomeration.features import FEATURES, _at_contact

SIZE = (4.0, 2.0, 1.0)  # z, y, x


def boxes(*corners, shape=(9, 11, 20)):
    masks = []
    for z, y, x in corners:
        masks.append(np.zeros(shape, bool))
        masks[-1][slice(*z), slice(*y), slice(*x)] = True
    return masks


def test_a_plane_between_two_boxes():
    a, b = boxes(((2, 5), (3, 8), (0, 9)), ((2, 5), (3, 8), (9, 20)))
    contact = find_contact(a, b, SIZE)
    assert contact.area == 3 * 5 * (4 * 2)
    np.testing.assert_allclose(contact.normal, [0, 0, 1])
    expected = boxes(((2, 5), (3, 8), (8, 10)))[0]
    np.testing.assert_array_equal(contact.voxels, expected)
    turned = find_contact(b, a, SIZE)
    assert turned.area == contact.area
    np.testing.assert_allclose(turned.normal, -contact.normal)


@pytest.mark.parametrize('gap', [1, 2, 3])
def test_a_gap_is_shared(gap):
    a, b = boxes(((2, 5), (3, 8), (0, 8)), ((2, 5), (3, 8), (8 + gap, 20)))
    contact = find_contact(a, b, SIZE)
    assert contact.area >= 3 * 5 * (4 * 2)
    assert cosine(contact.normal, np.array([0, 0, 1])) > 0.99
    assert not contact.voxels[:, :, :7].any()


@st.composite
def apart(draw):
    """Two segments of any shape, without a common face."""
    shape = (4, 6, 7)
    a = draw(hnp.arrays(bool, shape, elements=st.sampled_from([False, False, False, True])))
    b = draw(hnp.arrays(bool, shape, elements=st.sampled_from([False, False, False, True])))
    return a, b & ~ndimage.binary_dilation(a)


@given(apart(), st.sampled_from([SIZE, (1.0, 1.0, 1.0), (45.0, 9.2, 9.2)]))
def test_a_gap_is_shared_in_the_same_way_from_either_side(segments, size):
    a, b = segments
    contact, turned = find_contact(a, b, size), find_contact(b, a, size)
    assert turned.area == pytest.approx(contact.area)
    np.testing.assert_allclose(turned.normal, -contact.normal, atol=1e-12)
    np.testing.assert_array_equal(turned.voxels, contact.voxels)


@pytest.mark.parametrize('factor', [4.6, 0.7, 10.3])
def test_the_unit_does_not_matter_to_a_gap(factor):
    rng, shape = np.random.default_rng(4), (14, 24, 26)
    places = np.indices(shape).reshape(3, -1).T
    for _ in range(4):
        distances = np.linalg.norm(places[:, None] - rng.random((6, 3)) * shape, axis=2)
        least, second = np.sort(distances, axis=1)[:, :2].T
        cells = np.where(second - least < 4, -1, distances.argmin(axis=1)).reshape(shape)
        for a, b in itertools.combinations(range(6), 2):
            contact = find_contact(cells == a, cells == b, (1, 1, 1))
            scaled = find_contact(cells == a, cells == b, (factor,) * 3)
            assert scaled.area == pytest.approx(contact.area * factor**2)
            np.testing.assert_array_equal(scaled.voxels, contact.voxels)


def test_the_gap_that_is_shared_is_the_nearest_one_in_nanometres():
    """Two voxels along z are farther than four along x."""
    (a,) = boxes(((5, 8), (3, 8), (0, 7)))
    beside, above = boxes(((5, 8), (3, 8), (11, 20)), ((0, 3), (3, 8), (0, 13)))
    contact = find_contact(a, beside | above, (40.0, 4.0, 4.0))
    assert cosine(contact.normal, np.array([0, 0, 1])) > 0.99
    assert not contact.voxels[:5].any()
    # It is not much larger than the faces that are opposite.
    assert 3 * 5 * (40 * 4) <= contact.area <= 3 * 7 * (40 * 4)
    flat = find_contact(a, beside | above, (4.0, 4.0, 4.0))
    assert cosine(flat.normal, np.array([1, 0, 0])) > 0.9


def test_a_gap_across_a_corner_of_long_voxels_is_shared():
    a, b = boxes(((2, 5), (3, 8), (0, 8)), ((6, 8), (3, 8), (13, 20)))
    assert find_contact(a, b, (40.0, 4.0, 4.0)).area > 0


def test_an_object_that_encloses_another_has_no_normal():
    outer, inner = boxes(((1, 8), (1, 10), (1, 19)), ((3, 6), (4, 7), (8, 12)))
    outer &= ~inner
    contact = find_contact(outer, inner, SIZE)
    assert contact.area == 2 * (3 * 4) * 2 + 2 * (3 * 4) * 4 + 2 * (3 * 3) * 8
    np.testing.assert_allclose(contact.normal, 0, atol=1e-12)


def test_without_one_of_the_two():
    a, none = boxes(((2, 5), (3, 8), (0, 9)), ((0, 0), (0, 0), (0, 0)))
    contact = find_contact(a, none, SIZE)
    assert (contact.area, contact.voxels.any()) == (0, False)


def test_a_dark_membrane():
    a, b = boxes(((2, 5), (3, 8), (0, 9)), ((2, 5), (3, 8), (9, 20)))
    image = np.random.default_rng(0).normal(100, 5, a.shape)
    contact = find_contact(a, b, SIZE).voxels
    bright = image_at(contact, a | b, image)
    assert abs(bright.mean) < 0.5
    assert bright.spread == pytest.approx(1, abs=0.3)
    image[contact] -= 30
    dark = image_at(contact, a | b, image)
    assert dark.mean == pytest.approx(bright.mean - 6, abs=0.5)
    assert dark.low < dark.mean < dark.high
    assert image_at(contact, a | b, np.full(a.shape, 7)) == (0, 0, 0, 0)
    assert image_at(contact & ~contact, a | b, image) == (0, 0, 0, 0)


def test_the_long_axis_is_physical():
    (box,) = boxes(((0, 6), (0, 6), (0, 15)))
    shape = shape_of(box, SIZE)
    # 24 along z, 12 along y, 15 along x.
    np.testing.assert_allclose(np.abs(shape.axis), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(shape.centre, [10, 5, 7])
    assert 0 < shape.elongation < 0.5
    few = shape_of(box & (np.arange(20) < 1) & (np.arange(11) < 1)[:, None], SIZE)
    assert (few.axis.tolist(), few.elongation) == ([0, 0, 0], 0)


def measured(a, b, grown=()):
    image = np.random.default_rng(1).integers(90, 110, a.shape).astype(np.uint8)
    return _at_contact(a, b, image, grown, SIZE)


def test_end_to_end_and_side_by_side():
    end = measured(*boxes(((3, 5), (4, 7), (0, 10)), ((3, 5), (4, 7), (10, 20))))
    side = measured(*boxes(((3, 5), (1, 5), (0, 20)), ((3, 5), (5, 9), (0, 20))))
    for name in ('axes', 'axis_normal_min', 'axis_across_min', 'contact_flatness'):
        assert end[name] == pytest.approx(1, abs=1e-6)
    assert side['axes'] == pytest.approx(1, abs=1e-6)
    for name in ('axis_normal_max', 'axis_across_max'):
        assert side[name] == pytest.approx(0, abs=1e-6)
    assert side['contact'] == pytest.approx(math.log10(1 + 2 * 20 * 4))
    assert side['contact_fraction'] > end['contact_fraction']


def test_how_sure_the_network_is():
    a, b = boxes(((2, 5), (3, 8), (0, 9)), ((2, 5), (3, 8), (9, 20)))
    from_a = np.where(a, 0.9, np.where(b, 0.25, 0.0))
    from_a[:, :, 9] *= 2  # the first voxels of b
    only_a = measured(a, b, [from_a])
    assert only_a['sure_there_min'] == 0
    assert only_a['sure_there_max'] == pytest.approx(0.25 * 12 / 11)
    assert only_a['sure_between_max'] == pytest.approx((0.9 + 0.5) / 2)
    both = measured(a, b, [from_a, np.where(b, 0.8, 0.1)])
    assert both['sure_there_min'] == pytest.approx(0.1)
    assert both['sure_between_min'] == pytest.approx(0.45)


def test_the_order_of_the_two_does_not_matter():
    touching = boxes(((2, 5), (3, 8), (0, 9)), ((3, 7), (2, 9), (9, 17)))
    one = measured(*touching)
    assert set(one) <= set(FEATURES)
    assert one == pytest.approx(measured(*touching[::-1]))
    for gap in (1, 2, 3):
        two = boxes(((2, 5), (3, 8), (0, 8)), ((3, 7), (2, 9), (8 + gap, 20)))
        assert measured(*two) == pytest.approx(measured(*two[::-1]))
