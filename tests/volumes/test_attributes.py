"""Units in attributes: one for each axis, one for all of them, or told."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest

from ffn.volumes.volume import open_volume
from tests.volumes.test_descriptions import DATA, SIZE, check, hdf5, n5_attributes, warnings
from tests.volumes.test_tensorstores import write_n5, write_zarr

MICROMETRES = {'resolution': [0.033, 0.0095, 0.008], 'offset': [0.066, 0.095, 0.04]}


@pytest.mark.parametrize('units', ['um', ['um'], ['um', 'um', 'um'], ['', 'um', 'um', 'um']])
def test_one_unit_holds_for_all_axes(tmp_path, caplog, units):
    attributes = {**MICROMETRES, 'units': units}
    write_zarr(tmp_path / 'v', DATA)
    (tmp_path / 'v' / '.zattrs').write_text(json.dumps(attributes))
    for spec in (hdf5(tmp_path, **attributes), tmp_path / 'v'):
        check(spec, start=(5, 10, 2), source='attribute offset')
    assert warnings(caplog) == []


@pytest.mark.parametrize('units', [np.array([[b'um'] * 3]), np.array([['um']], 'O')])
def test_units_of_hdf5_have_any_shape(tmp_path, caplog, units):
    check(hdf5(tmp_path, **MICROMETRES, units=units), start=(5, 10, 2), source='attribute offset')
    assert warnings(caplog) == []


def test_null_units_of_hdf5_are_none(tmp_path, caplog):
    check(hdf5(tmp_path, resolution=[33, 9.5, 8], units=h5py.Empty('S2')))
    assert warnings(caplog) == []


def test_units_and_numbers_count_axes_each_for_themselves(tmp_path, caplog):
    names = {'axis_names': ['t', 'c^', 'z', 'y', 'x']}
    for resolution, units in (
        ([1, 1, 0.033, 0.0095, 0.008], ['um'] * 3),
        ([1, 1, 0.033, 0.0095, 0.008], 'um'),
        ([0.033, 0.0095, 0.008], ['s', '', 'um', 'um', 'um']),
    ):
        check(hdf5(tmp_path, DATA[None, None], resolution=resolution, units=units, **names))
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ('units', 'why'),
    [
        (['um', 'um'], '2 units'),
        (['um'] * 4, '4 units'),
        ('voxel', 'a unit that is none of length'),
        (['', '', 'um'], 'a unit that is none of length'),
    ],
)
def test_units_that_make_no_sense_are_told(tmp_path, caplog, units, why):
    check(hdf5(tmp_path, resolution=[0.033, 0.0095, 0.008], units=units), size=None)
    (line,) = warnings(caplog)
    expected = 'its attribute resolution is [0.033, 0.0095, 0.008], which is not understood'
    assert line.endswith(f'{expected} ({why})')


def test_a_number_for_all_axes_is_told(tmp_path, caplog):
    write_n5(tmp_path / 'v', DATA)
    n5_attributes(tmp_path / 'v', voxel_size=8, offset=[66, 0, 8])
    with open_volume(str(tmp_path / 'v')) as volume:
        assert (volume.box.start, volume.voxel_size) == ((0, 0, 0), None)
    first, second = warnings(caplog)
    assert first.endswith('is [8], which is not understood (1 numbers)')
    assert 'has an offset, but no resolution' in second


@pytest.mark.parametrize('units', ['nm', ['nm'], ['nm'] * 3])
def test_one_unit_of_a_transform_of_n5(tmp_path, caplog, units):
    write_n5(tmp_path / 'v', DATA)
    transform = {'axes': ['z', 'y', 'x'], 'scale': [33, 9.5, 8], 'translate': [66, 95, 40]}
    n5_attributes(tmp_path / 'v', transform={**transform, 'units': units})
    check(tmp_path / 'v', start=(5, 10, 2), source='attribute transform')
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ('changed', 'why'),
    [
        ({'units': ['nm', 'nm']}, r'\(2 units\)'),
        ({'scale': [33, 9.5]}, r'\(2 numbers\)'),
        ({'translate': [66, 95]}, r'\(2 numbers\)'),
        ({'axes': ['z', 'y', 'w']}, 'expected x, y and z'),
        ({'axes': []}, 'its axes have no names'),
        ({'scale': 'none'}, 'numbers'),
    ],
)
def test_transforms_of_n5_that_make_no_sense_are_told(tmp_path, caplog, changed, why):
    write_n5(tmp_path / 'v', DATA)
    transform = {'axes': ['z', 'y', 'x'], 'scale': [33, 9.5, 8], 'translate': [66, 95, 40]}
    given = {**transform, 'units': ['nm'] * 3, **changed}
    n5_attributes(tmp_path / 'v', transform=given, pixelResolution=list(SIZE))
    check(tmp_path / 'v')
    (line,) = warnings(caplog)
    assert f'its attribute transform is {given}, which is not understood' in line
    assert re.search(why, line)
