"""Skeletons from SWC files and from ground truth."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from ffn.evaluation.skeletons import join_skeletons, read_skeletons, read_swc, skeletonize_truth
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz

SWC = """# id type x y z radius parent
1 2 10 20 40 1 -1
2 2 30 20 40 1 1

7 2 30 20 80 1 2  # ids need not be in a row
"""


def write(tmp_path, text, name='a.swc'):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_swc(tmp_path):
    nodes, edges = read_swc(write(tmp_path, SWC))
    assert nodes.tolist() == [[10, 20, 40], [30, 20, 40], [30, 20, 80]]
    assert edges.tolist() == [[1, 0], [2, 1]]


def test_each_file_is_a_neuron_and_its_units_are_turned_into_voxels(tmp_path):
    other = write(tmp_path, '1 0 0.1 0 0 1 -1\n2 0 0.3 0.7 0 1 1\n', 'b.swc')
    found = read_skeletons([write(tmp_path, SWC), other], (0.1, 0.1, 40))
    assert found.names == ('a.swc', 'b.swc')
    assert found.neuron.tolist() == [0, 0, 0, 1, 1]
    assert found.edges.tolist() == [[1, 0], [2, 1], [4, 3]]
    # 0.3 / 0.1 and 0.7 / 0.1 are just below whole numbers.
    assert found.voxels_zyx[3:].tolist() == [[0, 0, 1], [0, 7, 3]]
    assert found.voxels_zyx[2].tolist() == [2, 200, 300]
    assert found.lengths((0.1, 0.1, 40)) == pytest.approx([20, 40, np.hypot(0.2, 0.7)])
    assert len(np.unique(found.trees())) == 2


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('1 2 10 20\n', "line 1: '1 2 10 20'; expected id type x y z radius parent"),
        ('# a\n1 2 x 20 1 1 -1\n', 'line 2'),
        ('# nothing\n', 'holds no node'),
        ('1 0 0 0 0 1 -1\n1 0 0 0 0 1 -1\n', 'same node id twice'),
        ('1 0 0 0 0 1 -1\n2 0 0 0 0 1 9\n', 'node 2 has parent 9, which is not there'),
    ],
)
def test_swc_mistakes(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_swc(write(tmp_path, text))


def test_no_swc_file(tmp_path):
    with pytest.raises(UserError, match='no such file'):
        read_swc(tmp_path / 'none.swc')


def test_what_is_outside_is_left_out(tmp_path, caplog):
    found = read_skeletons([write(tmp_path, SWC)], (10, 10, 40))
    with caplog.at_level(logging.WARNING):
        inside = found.clipped(Box(Xyz(0, 0, 1), Xyz(4, 4, 1)))
    assert '1 of 3 nodes' in caplog.text
    assert inside.nodes_xyz.tolist() == [[1, 2, 1], [3, 2, 1]]
    assert inside.edges.tolist() == [[1, 0]]
    with pytest.raises(UserError, match=r'from voxel x,y,z 1,2,1 to 3,2,2; check --skeleton_unit'):
        found.clipped(Box(Xyz(0, 0, 0), Xyz(2, 9, 9)))


def test_an_edge_across_the_border_cuts_a_tree():
    nodes = np.array([[0, 0, 0], [1, 0, 0], [5, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    found = join_skeletons([('a', nodes, np.array([[0, 1], [1, 2], [2, 3], [3, 4]]))])
    inside = found.clipped(Box(Xyz(0, 0, 0), Xyz(3, 3, 3)))
    assert inside.edges.tolist() == [[0, 1], [2, 3]]
    assert len(np.unique(inside.trees())) == 2


def tubes():
    """Object 2^40: a tube along x with an arm along y; object 3: a thin line along z; 9: a speck."""
    truth = np.zeros((30, 40, 60), np.uint64)
    truth[12:17, 8:13, 4:56] = 2**40
    truth[12:17, 8:36, 28:33] = 2**40
    truth[2:28, 30, 50] = 3
    truth[0, 0, :4] = 9
    return truth


def test_skeletons_of_objects():
    box = Box(Xyz(100, 200, 300), Xyz(60, 40, 30))
    found = skeletonize_truth(tubes(), box, (4, 4, 40), min_voxels=20)
    assert found.names == ('3', str(2**40))
    assert len(np.unique(found.trees())) == 2
    assert len(found.edges) == len(found.nodes_xyz) - 2
    inside = found.voxels_zyx - box.start.zyx
    ids = [int(found.names[n]) for n in found.neuron]
    assert tubes()[tuple(inside.T)].tolist() == ids
    lengths = np.bincount(found.neuron[found.edges[:, 0]], found.lengths((4, 4, 40)))
    assert lengths[0] == pytest.approx(25 * 40)
    # 52 and 23 voxels of 4 nm, less what thinning takes from the ends; no branch to a corner.
    assert 52 * 4 + 23 * 4 - 60 < lengths[1] < 52 * 4 + 23 * 4 + 20
    degrees = np.bincount(found.edges.ravel())
    assert np.count_nonzero(degrees[found.neuron == 1] == 1) == 3


@pytest.mark.parametrize('shape', [(6, 6, 20), (8, 4, 20), (5, 8, 20), (1, 2, 20), (2, 1, 20)])
def test_bars_of_any_thickness(shape):
    found = skeletonize_truth(np.ones(shape, np.uint8), Box.of_shape(shape), min_voxels=1)
    assert 12 <= found.lengths((1, 1, 1)).sum() <= 25


def test_a_short_branch_of_a_thin_object_stays():
    """Its radius ends at the faces of the box, outside of which it is not."""
    truth = np.zeros((5, 13, 41), np.uint8)
    truth[:, :5] = 1
    truth[:, :, 18:23] = 1
    found = skeletonize_truth(truth, Box.of_shape(truth.shape), min_voxels=100)
    assert np.count_nonzero(np.bincount(found.edges.ravel()) == 1) == 3


def test_bumps_get_no_branch():
    truth = np.zeros((21, 21, 80), np.uint8)
    z, y = np.ogrid[:21, :21]
    truth[(z - 10) ** 2 + (y - 10) ** 2 <= 36] = 1
    truth[10, 16:19, 30:33] = 1
    truth[10, 16:19, 55:58] = 1
    found = skeletonize_truth(truth, Box.of_shape(truth.shape), min_voxels=100)
    degrees = np.bincount(found.edges.ravel())
    assert np.count_nonzero(degrees == 1) == 2


def test_no_object_is_large_enough():
    with pytest.raises(UserError, match='of 3 none is long enough and has 10000 voxels'):
        skeletonize_truth(tubes(), Box.of_shape((30, 40, 60)), min_voxels=10000)
