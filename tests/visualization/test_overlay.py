import numpy as np

from ffn.visualization.overlay import (
    boundaries,
    label_colors,
    orthogonal_planes,
    overlay,
    planes_picture,
)


def test_colours_depend_on_the_id_only_and_differ_between_neighbours():
    colors = label_colors(np.arange(200))
    assert colors[0].tolist() == [0, 0, 0]
    assert len(np.unique(colors[1:], axis=0)) > 150
    assert np.array_equal(label_colors(np.array([[5, 17]]))[0], colors[[5, 17]])
    for first in (1, 2**53, 2**63, 2**64 - 200):
        some = label_colors(np.arange(first, first + 199, dtype=np.uint64)).astype(int)
        assert np.abs(some[:-1] - some[1:]).sum(axis=1).min() > 60


def test_the_image_shows_through_and_outlines_do_not():
    image = np.full((6, 9), 100, np.uint8)
    labels = np.zeros((6, 9), np.int32)
    labels[1:5, 2:7] = 3
    drawn = overlay(image, labels)
    assert drawn[0, 0].tolist() == [100] * 3
    assert np.array_equal(drawn[4, 3], label_colors(np.array(3)))
    assert not np.array_equal(drawn[2, 3], drawn[4, 3])
    assert boundaries(labels)[4, 3]
    assert np.array_equal(overlay(image, None), np.full((6, 9, 3), 100))


def test_planes_are_cut_through_the_voxel():
    volume = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    xy, xz, yz = orthogonal_planes(volume, (1, 2, 3))
    assert (xy.shape, xz.shape, yz.shape) == ((4, 5), (3, 5), (3, 4))
    assert xy[2, 3] == xz[1, 3] == yz[1, 2] == volume[1, 2, 3]
    picture = planes_picture(volume.astype(np.uint8), volume, (1, 2, 3), zoom=2, gap=4)
    assert picture.size == (10 + 10 + 8 + 8, 8)
