"""Groups of scales: what they say of their arrays, wherever they lie, and what of that is not understood."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.volumes.scales import Folder
from ffn.volumes.volume import open_volume
from tests.volumes.test_descriptions import DATA, check, n5_attributes, ome, warnings
from tests.volumes.test_tensorstores import write, write_n5

SCALE = ('0', (33, 9.5, 8), (66, 0, -16))
HALF = DATA[:, ::2, ::2]


@pytest.mark.parametrize('below', ['', 'in/it/'])
@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_zipped_groups_of_scales(tmp_path, version, below):
    group, driver = tmp_path / 'f' / below, 'zarr' if version == '0.4' else 'zarr3'
    write(driver, group / 's0', DATA)
    write(driver, group / 's1', HALF)
    fine, half = ('s0', (33, 9.5, 8), (66, 0, -16)), ('s1', (33, 19, 16), (66, 4.75, -12))
    ome(group, 'zyx', [fine, half], version=version)
    path = shutil.make_archive(str(tmp_path / 'z'), 'zip', tmp_path / 'f')
    scheme, source = f'{driver}://', 'multiscales'
    named = f'{path}:{below}'.rstrip(':/')
    for spec in (named, f'{named}@0', f'{path}:{below}s0', scheme + named):
        check(spec, start=(-2, 0, 2), source=source)
    for spec in (f'{named}@s1', f'{path}:{below}s1', f'{scheme}{named}@1'):
        check(spec, size=(16, 19, 33), start=(-1, 0, 2), source=source, data=HALF)
    there = f'{path}: {below}'.rstrip(': /')
    with pytest.raises(
        UserError, match=f'no Zarr array .*s2.*; the scales of {there} are: s0, s1$'
    ):
        open_volume(f'{path}:{below}s2')


def test_a_zipped_n5(tmp_path):
    write_n5(tmp_path / 'f' / 's0', DATA)
    write_n5(tmp_path / 'f' / 's1', HALF)
    n5_attributes(tmp_path / 'f', pixelResolution=[8, 9.5, 33])
    n5_attributes(tmp_path / 'f' / 's1', downsamplingFactors=[2, 2, 1])
    path = shutil.make_archive(str(tmp_path / 'z'), 'zip', tmp_path / 'f')
    check(path)
    check(f'{path}@s1', size=(16, 19, 33), data=HALF)


def test_missing_chunks_in_a_zip_are_told(tmp_path, caplog):
    sparse = np.where(np.arange(5) < 3, DATA, 0)
    metadata = {'chunks': [3, 4, 3], 'fill_value': 0, 'dtype': '|u1'}
    write('zarr', tmp_path / 'f' / 'v', sparse, metadata=metadata)
    path = shutil.make_archive(str(tmp_path / 'z'), 'zip', tmp_path / 'f')
    check(f'{path}:v', size=None, data=sparse)
    assert '1 of the 2 chunks that were needed do not exist' in caplog.text


@pytest.mark.parametrize(
    'place', ['gs://bucket/s0', 'http://host/s0', 'file:///s0', 'file:///a/s0']
)
def test_the_group_above_an_array(place):
    """It may be a whole bucket or site."""
    array = Folder(place)
    group = array.above()
    assert group.below('s0').path.lstrip('/') == array.path.lstrip('/')
    assert (group.above() is None) == (place != 'file:///a/s0')


@pytest.mark.parametrize(
    'step', [{'type': 'rotation', 'rotation': [1, 0, 0]}, {'type': 'scale', 'path': 'scales/0'}]
)
def test_transformations_that_are_not_understood_are_told(tmp_path, caplog, step):
    write('zarr', tmp_path / 'o' / '0', DATA)
    ome(tmp_path / 'o', 'zyx', [SCALE], transformations=[{'type': 'identity'}, step])
    check(tmp_path / 'o', start=(-2, 0, 2), source='multiscales')
    (line,) = warnings(caplog)
    assert line.endswith(f'a transformation of its multiscales metadata is not understood: {step}')


def test_scales_of_other_axes_than_the_array_are_told(tmp_path, caplog):
    write('zarr', tmp_path / 'o' / '0', DATA)
    ome(tmp_path / 'o', 'czyx', [('0', (1, 33, 9.5, 8), (0, 66, 0, -16))])
    check(tmp_path / 'o', size=None)
    (line,) = warnings(caplog)
    assert line.endswith('has 3 axes, but its multiscales metadata c,z,y,x, and is not used')
