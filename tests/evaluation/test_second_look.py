"""Where most is wrong, how far labels extend, and their solids."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.evaluation.case_solids import LONGEST, close_up, whole_solid
from ffn.evaluation.contingency import Contingency
from ffn.evaluation.matches import find_matches
from ffn.evaluation.second_look import (
    MERGED,
    MISSED,
    RIGHT,
    SPLIT,
    Extent,
    classify,
    look_again,
)
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import Volume

START = Xyz(5, 3, 100)
HIGH = 2**62


def example():
    """x,y,z 20,12,8: object 1 is cut at x = 12; segment 20 covers 2 and a thin 3; 4 is missing."""
    truth = np.zeros((8, 12, 20), np.uint64)
    truth[:, :4], truth[:, 4:8], truth[:, 8:9], truth[:, 9:] = 1, 2, 3, 4
    found = np.zeros(truth.shape, np.uint64)
    found[:, :4, :12], found[:, :4, 12:], found[:, 4:9] = 10, HIGH + 1, HIGH
    found[3:5, 9:, :2] = 0
    return truth, found


def opened(array, name='v'):
    return Volume(name, array, {}, START.zyx)


def look(**more):
    truth, found = example()
    matches = find_matches(Contingency.of(truth, found))
    box = Box(START, Xyz(20, 12, 8))
    return look_again(opened(truth), opened(found), box, matches, [1, 3, 77], [HIGH + 1], **more)


def test_what_is_wrong_with_a_voxel():
    truth, found = example()
    kinds = classify(truth, found, find_matches(Contingency.of(truth, found)))
    assert (kinds[:, :4, :12] == RIGHT).all()
    assert (kinds[:, :4, 12:] == SPLIT).all()
    assert (kinds[:, 4:8] == RIGHT).all()
    assert (kinds[:, 8] == MERGED).all()
    assert (kinds[:, 9:] == MISSED).all()


@pytest.mark.parametrize('block', [Zyx(64, 64, 64), Zyx(3, 5, 7)])
def test_sections_and_extents(block):
    found = look(block_zyx=block)
    x, y, z = found.wrong
    assert x.tolist() == [8] * 12 + [8 + 32] * 8
    assert y.tolist() == [64] * 4 + [0] * 4 + [160] + [0] * 3
    assert z.tolist() == [52] * 8
    assert found.missed[1].tolist() == [0] * 9 + [160] * 3
    assert found.worst_place() == (5 + 12, 3 + 8, 100)
    assert found.objects[1].box == Box(START, Xyz(20, 4, 8))
    assert found.objects[3].box == Box(Xyz(5, 11, 100), Xyz(20, 1, 8))
    assert found.segments[HIGH + 1].box == Box(Xyz(17, 3, 100), Xyz(8, 4, 8))
    assert set(found.objects) == {1, 3}


def test_the_middle_where_nothing_is_wrong():
    truth, _ = example()
    box = Box(START, Xyz(20, 12, 8))
    matches = find_matches(Contingency.of(truth, truth))
    found = look_again(opened(truth), opened(truth), box, matches, [], [])
    assert found.worst_place() == (15, 9, 104)


@pytest.mark.parametrize('block', [Zyx(64, 64, 64), Zyx(3, 5, 7)])
def test_a_small_object_is_read_as_it_is(block):
    truth, found = example()
    extent = look(block_zyx=block).objects[1]
    solid = whole_solid(opened(truth), opened(found), 1, {HIGH + 1: (9, 9, 9)}, extent, (4, 4, 40))
    assert solid.start_xyz == [20, 12, 4000]
    assert solid.voxel_xyz == [4, 4, 40]
    assert solid.parts.shape == (8, 4, 20)
    assert (solid.parts[..., :12] == 2).all()  # not among the pieces that are named
    assert (solid.parts[..., 12:] == 1).all()


def test_a_large_object_is_read_coarsely_and_stays_whole():
    truth = np.zeros((6, 9, 700), np.uint8)
    truth[2, 4] = 5  # a line of one voxel's width
    found = np.where(np.arange(700) < 350, 7, 8) * (truth > 0)
    parts = [Box(Xyz(5 + x, 7, 102), Xyz(100, 1, 1)) for x in range(0, 700, 100)]
    solid = whole_solid(
        opened(truth), opened(found), 5, {7: (1, 1, 1), 8: (2, 2, 2)}, Extent(parts), (10, 10, 30)
    )
    factor = round(700 / LONGEST)
    assert solid.voxel_xyz == [10 * factor, 10 * factor, 30 * round(factor / 3)]
    line = solid.parts[0, 0]
    assert solid.parts.shape == (1, 1, -(-700 // factor))
    assert line[: 350 // factor].tolist() == [1] * (350 // factor)
    assert line[350 // factor + 1 :].tolist() == [2] * (len(line) - 350 // factor - 1)


def test_a_close_up_has_the_resolution_of_the_volume():
    truth, found = example()
    solid = close_up(opened(truth), opened(found), 2, {HIGH: (1, 1, 1)}, Xyz(15, 9, 104), (1, 1, 4))
    assert solid.parts.shape == (21, 81, 81)
    assert np.count_nonzero(solid.parts) == np.count_nonzero(truth == 2)
    inside = np.argwhere(solid.parts)[0][::-1] * solid.voxel_xyz + np.array(solid.start_xyz)
    assert inside.tolist() == [5, 7, 400]
