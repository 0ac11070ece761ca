"""Cores part the box, and subvolumes overlap as asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ffn.assembly.tiling import SubvolumeSet, Tiling
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz

relaxed = settings(deadline=None, max_examples=50)


@st.composite
def tilings(draw) -> Tiling:
    """Tilings of small boxes anywhere."""
    axis = st.tuples(st.integers(-20, 50), st.integers(1, 60), st.integers(2, 40))
    (x, ex, sx), (y, ey, sy), (z, ez, sz) = (draw(axis) for _ in range(3))
    overlap = Xyz(*(draw(st.integers(1, s // 2)) for s in (sx, sy, sz)))
    assume(
        np.prod([-(-e // (s - o)) for e, s, o in zip((ex, ey, ez), (sx, sy, sz), overlap)]) < 5e3
    )
    return Tiling(Box(Xyz(x, y, z), Xyz(ex, ey, ez)), Xyz(sx, sy, sz), overlap)


@relaxed
@given(tilings())
def test_cores_part_the_box(tiling):
    owner = np.zeros(tiling.box.size.zyx, int)
    for place in tiling.places():
        core, subvolume = tiling.core(place), tiling.subvolume(place)
        assert not core.empty
        assert subvolume.contains(core)
        assert tiling.box.contains(subvolume)
        owner[core.relative_to(tiling.box.start).slices_zyx] += 1
    assert (owner == 1).all()


@relaxed
@given(tilings())
def test_neighbours_overlap_as_asked(tiling):
    for place, axis in itertools.product(tiling.places(), range(3)):
        size = tiling.subvolume(place).size[axis]
        assert size <= tiling.size[axis]
        assert 2 * size >= min(tiling.size[axis], 2 * tiling.box.size[axis])
        other = tiling.next_place(place, axis)
        if other is None:
            assert place[axis] == tiling.grid[axis] - 1
            continue
        first, second = tiling.subvolume(place), tiling.subvolume(other)
        shared = first.intersection(second).size[axis]
        assert first.start[axis] < second.start[axis]  # files are named after it
        if other[axis] < tiling.grid[axis] - 1:
            assert shared == tiling.overlap[axis]
        assert shared >= tiling.overlap[axis]
        # The border is half the overlap from the rim of both.
        border = tiling.core(place).end[axis]
        assert border - second.start[axis] >= tiling.overlap[axis] // 2
        assert first.end[axis] - border == tiling.overlap[axis] - tiling.overlap[axis] // 2


@relaxed
@given(tilings(), st.data())
def test_owners_are_those_whose_cores_are_touched(tiling, data):
    start = [data.draw(st.integers(a, b - 1)) for a, b in zip(tiling.box.start, tiling.box.end)]
    size = [data.draw(st.integers(1, b - a)) for a, b in zip(start, tiling.box.end)]
    box = Box(Xyz(*start), Xyz(*size))
    touched = [p for p in tiling.places() if tiling.core(p).intersection(box) is not None]
    assert list(tiling.owners(box)) == touched
    assert [tiling.index(p) for p in touched] == [list(tiling.places()).index(p) for p in touched]


@relaxed
@given(tilings())
def test_computed_voxels(tiling):
    sizes = [tiling.subvolume(place).size for place in tiling.places()]
    assert tiling.computed_voxels == sum(x * y * z for x, y, z in sizes)
    assert len(tiling) == len(sizes) == len(SubvolumeSet(tiling))


def test_an_example():
    tiling = Tiling(Box(Xyz(0, 10, 0), Xyz(250, 100, 20)), Xyz(110, 60, 40), Xyz(10, 20, 9))
    assert tiling.grid == (3, 3, 1)
    x = [
        (tiling.subvolume(Xyz(i, 0, 0)).start.x, tiling.subvolume(Xyz(i, 0, 0)).end.x)
        for i in range(3)
    ]
    assert x == [(0, 105), (95, 205), (195, 250)]  # the last one has half the size
    assert [tiling.core(Xyz(i, 0, 0)).start.x for i in range(3)] == [0, 100, 200]
    assert tiling.subvolume(Xyz(1, 1, 0)) == Box(Xyz(95, 40, 0), Xyz(110, 60, 20))
    assert str(tiling).startswith('3×3×1 subvolumes of x,y,z 110,60,40')


BOX = Box(Xyz(0, 0, 0), Xyz(200, 100, 50))


@pytest.mark.parametrize(
    ('size', 'overlap', 'words'),
    [
        ((50, 60, 70), (10, 0, 10), 'overlap is 0 along y'),
        ((50, 60, 70), (10, 60, 10), 'more than half of the subvolume, .* along y'),
        ((50, 60, 49), (26, 10, 90), 'along x'),
        ((50, 0, 70), (10, 10, 10), 'positive size'),
        ((50, 60, 70), (-1, 10, 10), '0 or more'),
    ],
)
def test_sizes_that_do_not_fit(size, overlap, words):
    with pytest.raises(UserError, match=words):
        Tiling(BOX, Xyz(*size), Xyz(*overlap))


def test_no_overlap_is_needed_where_there_is_one_subvolume():
    assert Tiling(BOX, Xyz(50, 100, 50), Xyz(10, 0, 0)).grid == (5, 1, 1)


def test_room_for_the_network():
    tiling = Tiling(BOX, Xyz(50, 100, 50), Xyz(10, 20, 10))
    tiling.check_network(Xyz(33, 33, 33), (6, 8, 8))  # the first one is 45 along x
    with pytest.raises(UserError, match=r'x,y,z 45,100,50.*smaller than the field of view'):
        tiling.check_network(Xyz(33, 33, 33), (8, 8, 8))
    # A volume that is as thin as the field of view cannot be cut differently.
    tiling.check_network(Xyz(25, 25, 49), (4, 4, 4))
