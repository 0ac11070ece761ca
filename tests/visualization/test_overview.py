"""Whole planes of a comparison."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.utils.geometry import Box, Xyz
from ffn.visualization import overview
from ffn.visualization.overlay import label_colors
from ffn.visualization.overview import Panel, Sampling, draw_panels
from ffn.volumes.volume import Volume

SHAPE = (6, 20, 40)


def volume():
    """Values are 10 000 z + 100 y + x, counted from the first voxel, at x,y,z 3,5,7."""
    z, y, x = np.indices(SHAPE)
    return Volume('v', 10_000 * z + 100 * y + x + 0, {}, (7, 5, 3))


@pytest.mark.parametrize(
    ('name', 'shape', 'first', 'last'),
    [
        ('xy', (40, 80), 20_000, 21_939),
        ('xz', (60, 80), 400, 50_439),
        ('yz', (120, 80), 9, 51_909),
    ],
)
def test_planes_in_the_proportions_of_voxels(name, shape, first, last):
    opened = volume()
    sampling = Sampling.of(name, opened.box, Xyz(12, 9, 9), (4, 4, 20), largest=max(shape))
    plane = sampling.read(opened)
    assert plane.shape == shape
    assert (plane[0, 0], plane[-1, -1]) == (first, last)
    assert (np.diff(plane, axis=0) >= 0).all()
    assert (np.diff(plane, axis=1) >= 0).all()


def test_tiles_and_what_lies_outside(monkeypatch):
    opened = volume()
    box = Box(Xyz(-2, 2, 8), Xyz(50, 30, 3))
    whole = Sampling.of('xy', box, Xyz(0, 0, 8), (1, 1, 1), largest=50).read(opened)
    monkeypatch.setattr(overview, '_TILE', 7)
    tiled = Sampling.of('xy', box, Xyz(0, 0, 8), (1, 1, 1), largest=50).read(opened)
    np.testing.assert_array_equal(whole, tiled)
    expected = np.zeros((30, 50), int)
    expected[3:23, 5:45] = 10_000 + 100 * np.arange(20)[:, None] + np.arange(40)
    np.testing.assert_array_equal(whole, expected)


def test_large_planes_are_sampled():
    opened = volume()
    plane = Sampling.of('xy', opened.box, Xyz(3, 5, 7), (1, 1, 1), largest=10).read(opened)
    assert plane.shape == (5, 10)
    assert plane[0].tolist() == list(range(0, 40, 4))


def test_areas_stripes_and_outlines():
    labels = np.zeros((30, 60), np.uint64)
    labels[5:25, 5:25], labels[5:25, 25:55] = 2**60 + 1, 7
    panel = Panel.of_labels('truth', labels, striped=labels == 7, plain=True)
    picture = np.asarray(draw_panels(None, [panel], columns=1))
    assert picture.shape == (50, 60, 3)
    drawn = picture[20:].astype(int)
    assert (drawn[2, 30] == 150).all()
    solid, striped = drawn[8:22, 8:22].reshape(-1, 3), drawn[8:22, 30:52].reshape(-1, 3)
    assert len(np.unique(solid, axis=0)) == 1
    assert len(np.unique(striped, axis=0)) == 2
    expected = 0.15 * 150 + 0.85 * label_colors(np.array([2**60 + 1], np.uint64))[0]
    np.testing.assert_allclose(solid[0], expected, atol=1)
    assert drawn[24, 30].tolist() == panel.colors[24, 30].tolist()  # an outline, opaque


def test_panels_are_arranged_below_each_other():
    gray = np.full((10, 30), 90, np.uint8)
    kinds = np.zeros((10, 30), np.uint8)
    kinds[:, 15:] = 2
    panels = [Panel.of_kinds(str(i), kinds, [(1, 2, 3), (200, 0, 0)]) for i in range(2)]
    picture = np.asarray(draw_panels(gray, panels, columns=2))
    assert picture.shape == (2 * (10 + 28) - 8, 2 * 38 - 8, 3)
    assert (picture[20:30, :30] == 90).all()
    assert picture[25, 38 + 20].tolist() == [178, 17, 17]  # a fifth of 90 shines through
    assert picture[25, 38 + 5].tolist() == [90] * 3
    assert picture[38 + 25, 20].tolist() == [178, 17, 17]
    assert (picture[38 + 25, 40:] == 255).all()
