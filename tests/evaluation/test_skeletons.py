"""Skeletons from SWC files and from ground truth."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from ffn.evaluation.skeletons import join_skeletons, read_skeletons, skeletonize_truth
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


def write_line(tmp_path, name, count, step):
    """A neuron of `count` nodes, `step` apart along z."""
    rows = [f'{i + 1} 3 4 4 {i * step} 1 {i or -1}' for i in range(count)]
    return write(tmp_path, '\n'.join(rows), name)


@pytest.mark.parametrize(
    ('count', 'step', 'collapses'),
    [
        (3, 0.12, True),  # 3 nodes in a voxel
        (100, 0.5, True),  # 50 µm with the step of 0.5 µm, in nm
        (2, 80, False),  # two voxels, ten apart
        (3, 8, False),  # as many voxels as nodes
        (201, 1, False),  # nodes finer than voxels, along a neuron
    ],
)
def test_micrometres_taken_for_nanometres(tmp_path, count, step, collapses):
    path = write_line(tmp_path, 'a.swc', count, step)
    if not collapses:
        assert len(read_skeletons([path], (8, 8, 8)).edges) == count - 1
        return
    with pytest.raises(
        UserError,
        match=r'a.swc lie within x,y,z 0,0,.* voxels: .* voxel size, x,y,z 8,8,8 \(--voxel',
    ):
        read_skeletons([path], (8, 8, 8))


def test_one_of_several_skeletons_in_another_unit_is_told(tmp_path, caplog):
    paths = [write_line(tmp_path, 'a.swc', 30, 8), write_line(tmp_path, 'b.swc', 30, 0.008)]
    with caplog.at_level(logging.WARNING):
        assert len(read_skeletons(paths, (8, 8, 8)).edges) == 58
    assert 'the 30 nodes of b.swc lie within x,y,z 0,0,0.029 voxels' in caplog.text


def test_steps_far_below_a_voxel_are_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_skeletons([write_line(tmp_path, 'a.swc', 1001, 0.4)], (8, 8, 8))
    assert 'most edges of the skeletons are shorter than 0.05 voxels' in caplog.text


def test_what_lies_far_away_is_outside(tmp_path):
    found = read_skeletons([write(tmp_path, '1 0 0 0 1e100 1 -1\n2 0 0 0 -1e100 1 1\n')])
    with pytest.raises(UserError, match='no edge of the skeletons lies inside'):
        found.clipped(Box(Xyz(0, 0, 0), Xyz(9, 8, 7)))


def test_edges_without_a_length_are_no_skeleton(tmp_path):
    text = '1 0 1 1 1 1 -1\n2 0 1 1 1 1 1\n3 0 1 1 90 1 2\n'
    found = read_skeletons([write(tmp_path, text)])
    with pytest.raises(UserError, match='no edge of the skeletons lies inside'):
        found.clipped(Box(Xyz(0, 0, 0), Xyz(9, 8, 7)))


def test_what_is_outside_is_left_out(tmp_path, caplog):
    found = read_skeletons([write(tmp_path, SWC)], (10, 10, 40))
    with caplog.at_level(logging.WARNING):
        inside = found.clipped(Box(Xyz(0, 0, 1), Xyz(4, 4, 1)))
    assert '1 of 3 nodes' in caplog.text
    assert 'with all edges at them: 33.3 % of their length' in caplog.text
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
    found = skeletonize_truth(tubes(), box, (4, 4, 6), min_voxels=20)
    assert found.names == ('3', str(2**40))
    assert len(np.unique(found.trees())) == 2
    assert len(found.edges) == len(found.nodes_xyz) - 2
    inside = found.voxels_zyx - box.start.zyx
    ids = [int(found.names[n]) for n in found.neuron]
    assert tubes()[tuple(inside.T)].tolist() == ids
    lengths = np.bincount(found.neuron[found.edges[:, 0]], found.lengths((4, 4, 6)))
    assert lengths[0] == pytest.approx(25 * 6)
    # 52 and 23 voxels of 4 nm, and a little for the way to corners, but no branch.
    assert 52 * 4 + 23 * 4 - 10 < lengths[1] < 52 * 4 + 23 * 4 + 40
    degrees = np.bincount(found.edges.ravel())
    assert np.count_nonzero(degrees[found.neuron == 1] == 1) == 3


@pytest.mark.parametrize('shape', [(6, 6, 20), (8, 4, 20), (5, 8, 20), (1, 2, 20), (2, 1, 20)])
def test_bars_of_any_thickness(shape):
    found = skeletonize_truth(np.ones(shape, np.uint8), Box.of_shape(shape), min_voxels=1)
    assert 12 <= found.lengths((1, 1, 1)).sum() <= 25


@pytest.mark.parametrize('width', [3, 4, 6])
def test_a_bar_beside_a_wider_body_keeps_its_length(width):
    """Thinning by scikit-image loses half of it where the bar is an even number of voxels wide."""
    truth = np.zeros((40, 13, 200), np.uint8)
    truth[2 : 2 + width, 2 : 2 + width, 5:195] = 1
    truth[2:32, 2:9, 90:97] = 1
    found = skeletonize_truth(truth, Box.of_shape(truth.shape), min_voxels=100)
    assert np.ptp(found.nodes_xyz, axis=0)[0] > 185
    assert len(np.unique(found.trees())) == 1


def test_bodies_of_one_label_with_a_narrow_gap_stay_two():
    """Their 100,000s of voxels are followed on a coarser grid, whose voxels span the gap; an arm leads back beside it."""
    truth = np.zeros((40, 130, 121), np.uint8)
    truth[:, :64, :60] = truth[:, 66:, :60] = 1
    found = skeletonize_truth(truth, Box.of_shape(truth.shape))
    assert len(np.unique(found.trees())) == 2
    truth[18:22, 62:66, 115:] = truth[18:22, 60:64, 60:] = truth[18:22, 66:70, 60:] = 1
    joined = skeletonize_truth(truth, Box.of_shape(truth.shape))
    assert len(np.unique(joined.trees())) == 1
    ends = joined.nodes_xyz[joined.edges]
    across = (ends[:, :, 1] < 65).any(axis=1) & (ends[:, :, 1] >= 65).any(axis=1)
    assert (ends[across][:, :, 0] > 105).all()


def test_a_large_object_is_followed_on_a_coarser_grid():
    """A thin arm of a body of 216,000 voxels; nodes lie within the object."""
    truth = np.zeros((61, 61, 163), np.uint8)
    truth[:60, 1:61, :60] = 1
    truth[31, 17, 60:] = 1
    found = skeletonize_truth(truth, Box.of_shape(truth.shape))
    assert (truth[tuple(found.voxels_zyx.T)] == 1).all()
    assert found.nodes_xyz[:, 0].max() >= 161
    assert len(np.unique(found.trees())) == 1


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
