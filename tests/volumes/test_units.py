"""Offsets in units of length, as voxels."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffn.volumes.units import FinestScale, read_offset

FINEST_ZYX = (40.0, 8.0, 8.0)
FACTORS_ZYX = st.tuples(*[st.sampled_from([1, 2, 3, 4, 8, 16])] * 3)
CORNERS_ZYX = st.tuples(*[st.integers(-1000, 1000)] * 3)


@given(FACTORS_ZYX, CORNERS_ZYX, st.floats(0, 0.99), st.booleans())
def test_a_coarse_scale_lies_where_it_does(factors, corners, part, centred):
    """Whether its metadata name the corner of its first voxel or the centre, and those of the finest scale likewise."""
    size = [f * k for f, k in zip(FINEST_ZYX, factors, strict=True)]
    finest = [f * (c + part) for f, c in zip(FINEST_ZYX, corners, strict=True)]
    offset = [o + (s - f) / 2 * centred for o, s, f in zip(finest, size, FINEST_ZYX, strict=True)]
    read = read_offset(offset, size, 'v', FinestScale(finest, FINEST_ZYX))
    for voxel, corner, factor in zip(read, corners, factors, strict=True):
        assert abs(voxel - (corner + part) / factor) <= 0.5 + 1e-9


@pytest.mark.parametrize('offset', [(0, 20, 28), (0, 8, 16)])
def test_a_corner_between_coarse_voxels_is_told_as_the_nearest(caplog, offset):
    caplog.set_level(logging.WARNING)
    finest = FinestScale((0, 8, 16), (40, 8, 8))
    assert read_offset(offset, (40, 32, 32), 'v', finest) == (0, 0, 0)
    (record,) = caplog.records
    assert f'x,y,z {offset[2]},{offset[1]},0 nm' in record.getMessage()
    assert record.getMessage().endswith('taken as voxel 0,0,0')


@pytest.mark.parametrize('centre', [0, 12])
@pytest.mark.parametrize('corner', [(0, 0, 0), (40, 32, 64)])
def test_whole_voxels_are_not_told(caplog, corner, centre):
    caplog.set_level(logging.WARNING)
    z, y, x = corner
    finest = FinestScale(corner, (40, 8, 8))
    read = read_offset((z, y + centre, x + centre), (40, 32, 32), 'v', finest)
    assert read == (z / 40, y / 32, x / 32)
    assert not caplog.records
