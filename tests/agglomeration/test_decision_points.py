"""Decision points: the reference output, places known by construction, blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ffn.agglomeration.decision_points import find_decision_points
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz


def test_golden(goldens_dir):
    with np.load(goldens_dir / 'decision_points.npz') as golden:
        labels, pairs = golden['segmentation'], golden['pairs'].tolist()
        found = find_decision_points(
            labels, golden['voxel_size_xyz'].tolist(), float(golden['max_distance'])
        )
        distances = golden['distance'].tolist()
    assert sorted(found) == [tuple(pair) for pair in pairs]
    for pair, distance in zip(pairs, distances, strict=True):
        assert found[tuple(pair)].distance == pytest.approx(distance, abs=1e-4)


def cells(seed, sections=1.0, shape=(12, 40, 44)):
    """Cells with gaps between them, in sections so many times as thick as a pixel is wide."""
    rng = np.random.default_rng(seed)
    places = np.indices(shape).reshape(3, -1).T
    scale = (sections, 1, 1)
    offsets = (places[:, None] - rng.random((25, 3)) * shape) * scale
    distances = np.linalg.norm(offsets, axis=2)
    nearest, next_nearest = np.sort(distances, axis=1)[:, :2].T
    return np.where(next_nearest - nearest < 4, 0, distances.argmin(axis=1) + 1).reshape(shape)


@pytest.mark.parametrize('size_xyz', [(4, 4, 4), (4, 4, 40), (4.6, 9.2, 45)])
def test_distances_are_from_the_two(size_xyz):
    labels, limit = cells(3, size_xyz[2] / size_xyz[0]), 10 * size_xyz[0]
    found = find_decision_points(labels, size_xyz, limit)
    assert len(found) > 40
    distances = {
        one: ndimage.distance_transform_edt(labels != one, sampling=size_xyz[::-1])
        for one in {one for pair in found for one in pair}
    }
    for (low, high), place in found.items():
        assert place.distance <= limit
        x, y, z = place.point_xyz
        beside = tuple(slice(max(i - 1, 0), i + 2) for i in (z, y, x))
        means = (distances[low][z, y, x] + distances[high][beside]) / 2
        assert np.isclose(means, place.distance).any(), (low, high)


@pytest.mark.parametrize('factor', [4.6, 0.7, 10.3])
@pytest.mark.parametrize('sections', [1, 5])
def test_the_unit_does_not_matter(factor, sections):
    for seed in range(4):
        labels = cells(seed, sections)
        expected = find_decision_points(labels, (1, 1, sections), 8)
        scaled = find_decision_points(labels, (factor, factor, sections * factor), 8 * factor)
        assert scaled == {
            pair: (pytest.approx(place.distance * factor), *place[1:])
            for pair, place in expected.items()
        }


def two_bars(gap):
    """Two bars along x, `gap` voxels apart, that are nearest where one is thicker."""
    labels = np.zeros((9, 20, 24), np.uint64)
    labels[4, 3, 2:22] = 2**40
    labels[4, 4 + gap + 1 :, 2:22] = 7
    labels[4, 4 + gap, 12:15] = 7
    return labels


@pytest.mark.parametrize(
    ('gap', 'size_xyz', 'distance'),
    [(0, (1, 1, 1), 0), (1, (1, 1, 1), 0.5), (2, (3, 5, 40), 5), (4, (3, 5, 40), 10)],
)
def test_between_the_nearest_voxels(gap, size_xyz, distance):
    found = find_decision_points(two_bars(gap), size_xyz)
    assert list(found) == [(7, 2**40)]
    place = found[7, 2**40]
    assert place.distance == distance
    assert place.point_xyz.x == 13
    assert place.point_xyz.z == 4
    # In what the lower id has grown to.
    assert 4 + gap / 2 - 0.5 <= place.point_xyz.y <= 4 + gap


def test_no_farther_than_asked():
    labels = two_bars(4)
    assert find_decision_points(labels, (3, 5, 40), max_distance=9) == {}
    assert find_decision_points(labels, (3, 5, 40), max_distance=10)


@pytest.mark.parametrize('edge', [8, 4.4, 0.008, 0.0045, 3.3])
def test_what_is_as_far_as_asked_counts_in_every_unit(edge):
    """Distances of 32 bits are off in the last digits, and the limit is not."""
    for gap in range(2, 40, 2):
        labels = np.zeros((3, 5, gap + 4), np.uint8)
        labels[..., :2], labels[..., -2:] = 1, 2
        limit = float(f'{edge * gap / 2:.6g}')
        sizes = (edge, 2 * edge, 7 * edge)
        assert find_decision_points(labels, sizes, limit), limit
        assert not find_decision_points(labels, sizes, 0.99 * limit), limit


@pytest.mark.parametrize(('dtype', 'none'), [(np.uint64, 2**64 - 1), (np.int16, -1)])
def test_what_means_not_labelled_is_no_segment(dtype, none):
    labels = np.array([[[1, none, none, 7, none]]], dtype)
    assert find_decision_points(labels) == {(1, 7): (1, Xyz(1, 0, 0), 1)}


def test_corners_touch():
    labels = np.zeros((4, 5, 6), int)
    labels[1, 2, 3], labels[2, 3, 2] = 9, 4
    found = find_decision_points(labels, max_distance=0.5)
    assert found == {(4, 9): (0, Xyz(2, 3, 2), 1)}


def test_none_between_fewer_than_two():
    assert find_decision_points(np.zeros((3, 4, 5), int)) == {}
    assert find_decision_points(np.ones((3, 4, 5), int)) == {}


@given(
    hnp.arrays(np.uint8, (4, 6, 5), elements=st.sampled_from([0, 0, 0, 1, 2, 9])), st.integers(1, 5)
)
def test_cores_share_out_the_places(labels, cut):
    """Parts that each look at the whole, but count in their own core, find the same together."""
    whole = find_decision_points(labels)
    halves = [
        find_decision_points(labels, core=Box(Xyz(0, start, 0), Xyz(5, size, 4)))
        for start, size in ((0, cut), (cut, 6 - cut))
    ]
    assert set(whole) == set(halves[0]) | set(halves[1])
    for pair, place in whole.items():
        parts = [half[pair] for half in halves if pair in half]
        nearest = min(part.distance for part in parts)
        assert nearest == place.distance
        assert sum(p.touching for p in parts if p.distance == nearest) == place.touching


def test_bad_input():
    with pytest.raises(UserError, match='float64'):
        find_decision_points(np.zeros((3, 4, 5)))
    with pytest.raises(UserError, match=r'\(4, 5\)'):
        find_decision_points(np.zeros((4, 5), int))
    with pytest.raises(UserError, match='voxel_size'):
        find_decision_points(np.zeros((3, 4, 5), int), (1, 0, 1))
