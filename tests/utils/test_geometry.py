"""Orders of axes, reading three numbers, and boxes against sets of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ffn.utils import bounding_box_pb2, vector_pb2
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, blocks, both_orders, parse_voxel_size, whole_voxels

SHAPE_ZYX = Zyx(11, 13, 16)
ARRAY = np.arange(np.prod(SHAPE_ZYX)).reshape(SHAPE_ZYX)

triples = st.tuples(*[st.integers(-9, 20)] * 3).map(lambda numbers: Xyz(*numbers))
radii = st.tuples(*[st.integers(0, 3)] * 3).map(lambda numbers: Xyz(*numbers))


@st.composite
def boxes(draw, margin: int = 0):
    """Boxes inside ARRAY, at least `margin` from its faces; some are empty."""
    spans = [sorted(draw(st.tuples(*[st.integers(margin, n - margin)] * 2))) for n in SHAPE_ZYX.xyz]
    return Box(Xyz(*(a for a, _ in spans)), Xyz(*(b - a for a, b in spans)))


def members(box: Box) -> np.ndarray:
    """Which voxels of ARRAY lie in the box, from the definition: start <= voxel < start + size."""
    z, y, x = np.indices(SHAPE_ZYX)
    inside = np.ones(SHAPE_ZYX, bool)
    for axis, start, size in zip((x, y, z), box.start, box.size, strict=True):
        inside &= (start <= axis) & (axis < start + size)
    return inside


@given(triples)
def test_orders_turn_into_each_other(xyz):
    assert xyz.zyx == Zyx(xyz.z, xyz.y, xyz.x)
    assert xyz.zyx.xyz == xyz
    assert tuple(xyz.zyx) == tuple(xyz)[::-1]
    assert type(xyz.zyx) is Zyx
    assert type(xyz.zyx.xyz) is Xyz
    assert Xyz.from_proto(xyz.to_proto()) == xyz
    assert xyz.to_proto() == vector_pb2.Vector3j(x=xyz.x, y=xyz.y, z=xyz.z)


def test_of_takes_a_shape():
    zyx = Zyx.of(np.zeros((3, 4, 5)).shape)
    assert zyx == Zyx(z=3, y=4, x=5)
    assert Zyx.of(np.array([3, 4, 5], np.uint8)) == zyx
    assert all(type(n) is int for n in Zyx.of(np.array([3, 4, 5])))
    with pytest.raises(ValueError, match='unpack'):
        Zyx.of((1, 2))


def test_texts_name_the_order():
    assert both_orders(Xyz(1, 2, 3)) == 'x,y,z 1,2,3 (z,y,x 3,2,1)'
    assert both_orders(Zyx(1, 2, 3)) == 'z,y,x 1,2,3 (x,y,z 3,2,1)'
    text = str(Box(Xyz(1, 2, 3), Xyz(4, 5, 6)))
    assert text == 'start x,y,z 1,2,3 (z,y,x 3,2,1), size x,y,z 4,5,6 (z,y,x 6,5,4)'


@pytest.mark.parametrize(
    'value',
    ['8,9,-10', ' 8, 9 ,-10', ['8', '9', '-10'], (8, 9, -10), [8, 9.0, -10], np.array([8, 9, -10])],
)
def test_parse(value):
    assert Xyz.parse(value, '--deltas') == Xyz(x=8, y=9, z=-10)
    assert Zyx.parse(value, '--margin') == Zyx(z=8, y=9, x=-10)


def test_leading_zeros_that_make_a_difference_are_refused():
    with pytest.raises(
        UserError, match=r'^--start is 0100: 100 as .* 64 as an octal .* 100 or 64$'
    ):
        Xyz.parse('8,0100,8', '--start')
    with pytest.raises(UserError, match=r'^--margin is -010: .* write -10 or -8$'):
        Zyx.parse(['8', ' -010', '8'], '--margin')
    with pytest.raises(UserError, match=r'^--voxel_size is 040: .* write 40 or 32$'):
        parse_voxel_size('4,4,040', '--voxel_size')
    assert Xyz.parse('00,07,089', '--start') == Xyz(0, 7, 89)  # no octal number has another value
    assert parse_voxel_size('0.5,4,04.5', '--voxel_size') == (0.5, 4, 4.5)


@pytest.mark.parametrize('value', [
    '3.5,1,1', '1,2', '1,2,3,4', 'a,b,c', '', '1,,3', '1;2;3', 5, None, ['8', '9'], ['3.5', '1', '1'],
    [1, 2, 3.5], [None, 1, 2], [1, 2, float('nan')],
    [1, 2, float('inf')],
])  # fmt: skip
@pytest.mark.parametrize(('order', 'name'), [(Xyz, 'x,y,z'), (Zyx, 'z,y,x')])
def test_parse_errors_say_what_was_given(value, order, name):
    with pytest.raises(UserError) as caught:
        order.parse(value, '--flag')
    shown = ','.join(map(str, value)) if isinstance(value, list) else str(value)
    assert str(caught.value) == (
        f'--flag is {shown!r}; expected three integers {name}, such as 8,8,8'
    )


def test_box_from_other_forms():
    box = Box(Xyz(1, 2, 3), Xyz(4, 5, 6))
    assert Box.from_zyx((3, 2, 1), np.array([6, 5, 4])) == box
    assert Box.from_proto(box.to_proto()) == box
    assert box.to_proto() == bounding_box_pb2.BoundingBox(
        start=vector_pb2.Vector3j(x=1, y=2, z=3), size=vector_pb2.Vector3j(x=4, y=5, z=6)
    )
    assert box.end == Xyz(5, 7, 9)
    assert Box.of_shape((3, 4, 5)) == Box(Xyz(0, 0, 0), Xyz(5, 4, 3))


@settings(max_examples=50, deadline=None)
@given(boxes())
def test_slices_select_the_members(box):
    np.testing.assert_array_equal(ARRAY[box.slices_zyx].ravel(), ARRAY[members(box)])
    assert ARRAY[box.slices_zyx].shape == box.size.zyx
    assert box.empty == (not members(box).any())


@settings(max_examples=100, deadline=None)
@given(boxes(), boxes())
def test_intersection_and_contains(a, b):
    both = a.intersection(b)
    expected = members(a) & members(b)
    assert both == b.intersection(a)
    assert (both is None) == (not expected.any())
    if both is not None:
        np.testing.assert_array_equal(members(both), expected)
        assert a.contains(both)
        assert b.contains(both)
    if not b.empty:
        assert a.contains(b) == bool(members(a)[members(b)].all())
    assert a.contains(a)


@settings(max_examples=50, deadline=None)
@given(boxes(margin=3), radii)
def test_grow_and_shrink_by_voxels(box, by):
    # Each voxel spreads to, or needs, the box of ±by around it.
    around = tuple(2 * r + 1 for r in by.zyx)
    if not box.empty:
        grown = ndimage.maximum_filter(members(box), around, mode='constant')
        np.testing.assert_array_equal(members(box.grow(by)), grown)
        assert box.grow(by).shrink(by) == box
    shrunk = ndimage.minimum_filter(members(box), around, mode='constant')
    np.testing.assert_array_equal(members(box.shrink(by)), shrunk)
    assert box.shrink(by).empty == (not shrunk.any())
    assert min(box.shrink(by).size) >= 0


@settings(max_examples=50, deadline=None)
@given(boxes(), boxes(), triples)
def test_relative_to(outer, inner, origin):
    moved = inner.relative_to(origin)
    assert moved.size == inner.size
    assert tuple(np.add(moved.start, origin)) == inner.start
    if outer.contains(inner):
        np.testing.assert_array_equal(
            ARRAY[outer.slices_zyx][inner.relative_to(outer.start).slices_zyx],
            ARRAY[inner.slices_zyx],
        )


def test_boxes_of_numpy_integers():
    volume = Box.of_shape(SHAPE_ZYX)
    outside = Box(Xyz(*np.array([99, 0, 0])), Xyz(1, 1, 1))
    assert not volume.contains(outside)
    assert not outside.contains(volume)
    assert Box(Xyz(*np.array([0, 0, 0])), volume.size).contains(volume)


def test_three_positive_numbers():
    assert parse_voxel_size('8,8.5,1e1', '--size') == (8.0, 8.5, 10.0)
    assert parse_voxel_size(['1', '2', '3'], '--size') == (1.0, 2.0, 3.0)
    for text in ('8,8', '8,8,8,8', '8,8,a', '8,8,0', '8,8,-1', '8,8,inf', '8,8,nan', ''):
        with pytest.raises(UserError, match=f"--size is '{text}'; expected three positive numbers"):
            parse_voxel_size(text, '--size')


def test_blocks_tile_a_box():
    box = Box(Xyz(-3, 4, 5), Xyz(10, 7, 3))
    found = list(blocks(box, Xyz(4, 7, 2)))
    assert [part.start for part in found[:4]] == [(-3, 4, 5), (1, 4, 5), (5, 4, 5), (-3, 4, 7)]
    count = np.zeros(box.size.zyx, int)
    for part in found:
        count[part.relative_to(box.start).slices_zyx] += 1
    assert (count == 1).all()
    with pytest.raises(UserError, match='expected 1 or more voxels'):
        next(blocks(box, Xyz(4, 0, 4)))


def test_whole_voxels_are_those_of_numbers_as_people_write_them():
    for tenths in range(1, 400):
        for count in range(12):
            length, size = f'{tenths * count / 10:g}', tenths / 10
            for stored in (size, float(np.float32(size))):
                assert whole_voxels(float(length), stored) == count
    assert whole_voxels(19.99, 4) == 4
