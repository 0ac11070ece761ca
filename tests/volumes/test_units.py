"""Offsets in units of length, as voxels."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffn.volumes.units import read_offset

FINEST_ZYX = (40.0, 8.0, 8.0)
FACTORS_ZYX = st.tuples(*[st.sampled_from([1, 2, 3, 4, 8, 16])] * 3)
CORNERS_ZYX = st.tuples(*[st.integers(-1000, 1000)] * 3)


@given(FACTORS_ZYX, CORNERS_ZYX, st.booleans())
def test_a_coarse_scale_lies_where_it_does(factors, corners, centred):
    """Within half a coarse voxel of its corner, by which its metadata may name it, as by its centre."""
    size = [f * k for f, k in zip(FINEST_ZYX, factors, strict=True)]
    offset = [
        f * c + (s - f) / 2 * centred for f, c, s in zip(FINEST_ZYX, corners, size, strict=True)
    ]
    read = read_offset(offset, size, 'v', FINEST_ZYX)
    if centred or all(c % k == 0 for c, k in zip(corners, factors, strict=True)):
        for voxel, corner, factor in zip(read, corners, factors, strict=True):
            assert abs(voxel - corner / factor) <= 0.5


def test_a_corner_between_coarse_voxels_is_told_as_the_nearest(caplog):
    caplog.set_level(logging.WARNING)
    assert read_offset((0, 12, 20), (40, 32, 32), 'v', (40, 8, 8)) == (0, 0, 0)
    (record,) = caplog.records
    assert 'x,y,z 20,12,0 nm' in record.getMessage()
    assert record.getMessage().endswith('taken as voxel 0,0,0')


@pytest.mark.parametrize('offset', [(0, 12, 12), (0, 0, 0), (40, 44, 32 + 12)])
def test_whole_voxels_are_not_told(caplog, offset):
    caplog.set_level(logging.WARNING)
    read_offset(offset, (40, 32, 32), 'v', (40, 8, 8))
    assert not caplog.records
