"""Surfaces: closed, outward, simplified within bounds, cut without gaps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ffn.export.mesh_chunks import MIDDLE, SIDE, cut
from ffn.export.surfaces import STEPS, Surface, find_surfaces, join, simplify, tidy, with_volume
from ffn.utils.geometry import Xyz
from tests.export.mesh_reader import is_closed
from tests.export.shapes import ball

SIZE = (8.0, 6.0, 30.0)


def surfaces_of(labels, block=None):
    """Surfaces of whole labels, found in one block, or in blocks of a size that are then joined."""
    padded = np.pad(labels, 1)
    block = block or max(padded.shape)
    found = {}
    for z, y, x in np.ndindex(*(-(-(n - 1) // block) for n in padded.shape)):
        start = [n * block for n in (z, y, x)]
        part = padded[tuple(slice(s, s + block + 1) for s in start)]
        for label, surface, voxels in find_surfaces(part, Xyz(*start[::-1])):
            found.setdefault(label, []).append((surface, voxels))
    return {i: (join([s for s, _ in f]), sum(n for _, n in f)) for i, f in found.items()}


volumes = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6),
                     elements=st.integers(0, 3))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(volumes, st.integers(1, 4))
def test_blocks_make_the_same_closed_surfaces(labels, block):
    whole, parts = surfaces_of(labels), surfaces_of(labels, block)
    assert whole.keys() == parts.keys() == set(np.unique(labels).tolist()) - {0}
    for label, (surface, voxels) in whole.items():
        assert is_closed(surface.triangles)
        assert voxels == parts[label][1] == np.count_nonzero(labels == label)
        np.testing.assert_array_equal(surface.points, parts[label][0].points)
        assert surface.volume() > 0  # normals point outwards
        assert parts[label][0].volume() == pytest.approx(surface.volume())


@settings(max_examples=60, deadline=None)
@given(volumes, st.integers(0, 2), st.integers(2, 5))
def test_chunks_of_any_object_fit_together(labels, level, side):
    for surface, _ in surfaces_of(labels).values():
        check_chunks(surface, side, level)


def check_chunks(surface, side, level):
    places, points, triangles = [], [], []
    for chunk in cut(surface, Xyz(side, side + 1, side + 2), level):
        assert chunk.points.min() >= 0
        assert chunk.points.max() <= SIDE
        if level:  # no triangle crosses the middle
            corners = chunk.points[chunk.triangles]
            assert ((corners >= MIDDLE).all(axis=1) | (corners <= MIDDLE).all(axis=1)).all()
        places.append(chunk.place)
        triangles.append(chunk.triangles.astype(int) + sum(map(len, points)))
        points.append(chunk.points + np.multiply(chunk.place, SIDE))
    assert len(set(places)) == len(places)
    whole = tidy(np.concatenate(points).astype(np.int64), np.concatenate(triangles))
    assert is_closed(whole.triangles)
    step = np.array([side, side + 1, side + 2]) * 2**level / SIDE
    a, b, c = (whole.points[whole.triangles] * step).transpose(1, 0, 2)
    found = np.einsum('ij,ij->', a, np.cross(b, c)) / 6
    assert found == pytest.approx(surface.volume(), rel=0.1, abs=0.02)


def test_large_triangles_are_cut_at_every_plane():
    corners = np.array([[3, 5, 7], [4000, 60, 80], [90, 3500, 20], [70, 50, 3800]]) * STEPS // 128
    surface = Surface(
        corners.astype(np.int64), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    )
    assert surface.volume() > 0
    for level in (0, 1):
        check_chunks(surface, 2, level)


@pytest.fixture(scope='module')
def sphere():
    labels = ball((44, 50, 46), (21, 24, 22), 18.3).astype(np.uint8)
    return surfaces_of(labels)[1]


def test_simplified(sphere):
    surface, voxels = sphere
    simpler = simplify(surface, 30, SIZE, voxels)
    assert len(simpler.triangles) < len(surface.triangles) / 4
    assert is_closed(simpler.triangles)
    assert simpler.volume() == pytest.approx(voxels, rel=0.03)
    better = with_volume(simpler, voxels)
    assert better.volume() == pytest.approx(voxels, rel=0.002)
    centre = np.array([23.0, 25, 22]) * STEPS  # one more for the padding
    far = np.linalg.norm(better.points - centre, axis=1) / STEPS
    assert np.abs(far - 18.3).max() < 2


def test_borders_stay(sphere):
    labels = np.zeros((30, 40, 50), np.uint8)
    labels[ball(labels.shape, (15, 20, 25), 12)] = 1
    for part in (labels[:16], labels[15:]):
        ((_, surface, voxels),) = find_surfaces(part, Xyz(0, 0, 0))
        simpler = simplify(surface, 60, SIZE, voxels)
        assert len(simpler.triangles) < len(surface.triangles) / 2
        plane = 15 * STEPS if part is not labels[15:] and len(part) == 16 else 0
        before, after = (s.points[s.points[:, 2] == plane] for s in (surface, simpler))
        np.testing.assert_array_equal(np.unique(before, axis=0), np.unique(after, axis=0))


def test_thin_and_tiny_objects_stay():
    labels = np.zeros((9, 11, 60), np.uint8)
    labels[4, 5, 2:58] = 1
    labels[1, 1, 1] = 2
    for surface, voxels in surfaces_of(labels).values():
        simpler = with_volume(simplify(surface, 500, SIZE, voxels), voxels)
        assert is_closed(simpler.triangles)
        assert simpler.volume() > 0.7 * voxels


def test_pairs_that_face_each_other_vanish():
    points = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]], np.int64)
    solid = [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]
    found = tidy(points, np.array([*solid, [0, 1, 2], [1, 0, 2]]))
    assert len(found.triangles) == 4
    assert found.volume() == pytest.approx(Surface(points, np.array(solid)).volume())
    assert not len(tidy(points, np.array([[0, 1, 2], [2, 1, 0], [1, 1, 3]])).triangles)
