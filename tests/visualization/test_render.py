"""Objects drawn in 3-d."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.visualization.render import BACKGROUND, Solid, render, view_of

RED, BLUE = (230, 60, 40), (40, 90, 230)
FRONT = np.array([[1, 0, 0], [0, 1, 0], [0, 0, -1]], np.float32)
"""x to the right, y down, seen from z below 0."""


def draw(parts, colors=(RED, BLUE), voxel=(1, 1, 1), **more):
    picture = render(Solid(np.asarray(parts, np.uint8), colors, voxel), **more)
    return np.asarray(picture).astype(int)


def colored(picture, color):
    """Pixels of a hue: bool [rows, columns]."""
    high, low = int(np.argmax(color)), int(np.argmin(color))
    return picture[..., high] - picture[..., low] > 30


def extent(mask):
    rows, columns = np.nonzero(mask)
    return np.ptp(columns) + 1, np.ptp(rows) + 1


def test_physical_proportions():
    wide, high = extent(colored(draw(np.ones((3, 10, 20)), view=FRONT), RED))
    assert wide / high == pytest.approx(2, rel=0.06)
    thick = draw(np.ones((3, 10, 20)), voxel=(4, 12, 40), view=FRONT)
    assert np.divide(*extent(colored(thick, RED))) == pytest.approx(20 * 4 / (10 * 12), rel=0.06)


def test_parts_have_their_colours_where_they_are():
    parts = np.ones((6, 20, 30))
    parts[:, :, 20:] = 2
    picture = draw(parts, view=FRONT)
    red, blue = (np.nonzero(colored(picture, color))[1] for color in (RED, BLUE))
    border = (blue.min() + red.max()) / 2
    assert abs(blue.min() - red.max()) <= 2
    assert (border - red.min()) / (blue.max() - red.min()) == pytest.approx(2 / 3, abs=0.03)


def test_the_near_side_hides_the_far_one():
    parts = np.ones((10, 12, 14))
    parts[5:] = 2
    assert not colored(draw(parts, view=FRONT), BLUE).any()
    behind = FRONT * np.array([[-1], [1], [-1]], np.float32)
    assert not colored(draw(parts, view=behind), RED).any()


def test_a_skin_of_the_last_part_is_not_seen():
    parts = np.full((9, 12, 14), 2)
    parts[1:-1, 1:-1, 1:-1] = 1
    picture = draw(parts, view=FRONT)
    assert colored(picture, RED).sum() > 20 * colored(picture, BLUE).sum()


def test_a_line_of_one_voxel_is_seen():
    parts = np.zeros((9, 9, 30))
    parts[4, 4] = 1
    wide, high = extent(colored(draw(parts), RED))
    assert wide > 8 * high


def test_the_ring_is_around_the_place():
    parts = np.ones((4, 20, 20))
    plain, marked = (
        draw(parts, view=FRONT, marker_xyz=place) for place in (None, (15.0, 5.0, 0.0))
    )
    rows, columns = np.nonzero(np.abs(plain - marked).sum(axis=-1) > 60)
    left, top = (np.nonzero(colored(plain, RED))[axis].min() for axis in (1, 0))
    wide, high = extent(colored(plain, RED))
    assert (columns.min() + columns.max()) / 2 == pytest.approx(left + 0.75 * wide, abs=3)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(top + 0.25 * high, abs=3)
    middle = round((rows.min() + rows.max()) / 2), round((columns.min() + columns.max()) / 2)
    assert marked[middle].tolist() == plain[middle].tolist()


def test_nothing_to_draw():
    picture = draw(np.zeros((3, 4, 5)))
    assert (picture == BACKGROUND).all()
    assert draw(np.ones((1, 1, 1))).shape == (400, 440, 3)


def test_views_are_no_mirror_images_and_show_the_marker():
    parts = np.zeros((12, 30, 60), np.uint8)
    parts[3:8, 10:20], parts[8:, 15:20, :10] = 1, 1
    solid = Solid(parts, [RED], (1, 1, 1), (100, 100, 100))
    for depth in (0, 1000):
        view = view_of(solid, (130, 115, depth))
        right, down, toward = view
        np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(np.cross(right, down), -toward, atol=1e-5)
        assert abs(right[0]) > 0.95  # the longest extent
        assert np.sign(toward[2]) == (1 if depth else -1)
