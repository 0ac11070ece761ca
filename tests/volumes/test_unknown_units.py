"""Where volumes begin whose axes have no unit, or an unknown one: their sizes and translations are in the same."""

from __future__ import annotations

import re

import pytest

from ffn.volumes.volume import open_volume
from tests.volumes.test_descriptions import DATA, check, n5_attributes, ome, warnings
from tests.volumes.test_tensorstores import write, write_n5


@pytest.mark.parametrize('unit', ['', 'pixel'])
def test_where_ome_zarr_begins_needs_no_unit(tmp_path, caplog, unit):
    half = DATA[:, ::2, ::2]
    ome(
        tmp_path / 'o',
        'zyx',
        [('s0', (4, 1, 1), (8, 0, -2)), ('s1', (4, 2, 2), (8, 0.5, -1.5))],
        units=unit,
    )
    write('zarr', tmp_path / 'o' / 's0', DATA)
    write('zarr', tmp_path / 'o' / 's1', half)
    check(tmp_path / 'o', size=None, start=(-2, 0, 2), source='multiscales')
    check(f'{tmp_path}/o@s1', size=None, start=(-1, 0, 2), source='multiscales', data=half)
    told = f'the units of its axes, {unit},{unit},{unit}, are not known'
    assert len(warnings(caplog)) == 2 * bool(unit)
    assert all(told in line for line in warnings(caplog))


def test_translations_of_ome_zarr_that_are_doubtful_are_told(tmp_path, caplog):
    write('zarr', tmp_path / 'o' / '0', DATA)
    for scale, translation, start, message in (
        ((4, 1, 1), (8, 0, 2.4), (2, 0, 2), 'x,y,z 2.4,0,8 units, which is not a whole number'),
        ((4, 1, 1), (8, 0), (0, 0, 0), r'is not understood \(2 numbers\)'),
        ((4, 0, 1), (8, 0, 0), (0, 0, 0), r'is \[4.0, 0.0, 1.0\], which is not understood'),
    ):
        ome(tmp_path / 'o', 'zyx', [('0', scale, translation)], units='')
        caplog.clear()
        with open_volume(str(tmp_path / 'o')) as volume:
            assert (volume.box.start, volume.voxel_size) == (start, None)
        (line,) = warnings(caplog)
        assert re.search(message, line)


def test_where_n5_begins_needs_no_unit(tmp_path, caplog):
    write_n5(tmp_path / 'g.n5' / 's0', DATA)
    transform = {'axes': ['z', 'y', 'x'], 'translate': [8, 1, -2]}
    n5_attributes(tmp_path / 'g.n5' / 's0', transform={**transform, 'scale': [4, 1, 1]})
    check(tmp_path / 'g.n5' / 's0', size=None, start=(-2, 1, 2), source='attribute transform')
    assert warnings(caplog) == []
    pixels = {'scale': [4, 1, 1], 'units': ['pixel'] * 3}
    n5_attributes(tmp_path / 'g.n5' / 's0', transform={**transform, **pixels})
    check(tmp_path / 'g.n5' / 's0', size=None, start=(-2, 1, 2), source='attribute transform')
    n5_attributes(tmp_path / 'g.n5' / 's0', transform=transform)
    check(tmp_path / 'g.n5' / 's0', size=None)
    assert 'no scale to convert it by; it is taken to begin at 0,0,0' in warnings(caplog)[-1]
