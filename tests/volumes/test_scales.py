"""What groups of scales say of their arrays and is not understood."""

from __future__ import annotations

import pytest

from tests.volumes.test_descriptions import DATA, check, ome, warnings
from tests.volumes.test_tensorstores import write

SCALE = ('0', (33, 9.5, 8), (66, 0, -16))


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
