"""Which part of a label volume commands work on."""

import h5py
import numpy as np
import pytest

from ffn.cli.label_box import box_of_labels
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import VolumeSource


@pytest.fixture
def spec(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = np.ones((5, 6, 7), np.uint32)
    return f'{tmp_path}/v.h5:labels'


def test_finer_labels_end_where_they_are(spec):
    """A volume for HDF5, which begins at voxel 0, can be written of that."""
    source = VolumeSource(spec, upsample=Xyz(2, 3, 1))
    assert box_of_labels(source, '')[0] == Box(Xyz(0, 0, 0), Xyz(14, 18, 5))
    assert box_of_labels(VolumeSource(spec), '')[0] == Box(Xyz(0, 0, 0), Xyz(7, 6, 5))


def test_a_box_that_is_asked_for(spec, caplog):
    source = VolumeSource(spec)
    asked = 'start { x: 4 y: 1 z: 2 } size { x: 9 y: 2 z: 3 }'
    assert box_of_labels(source, asked)[0] == Box(Xyz(4, 1, 2), Xyz(3, 2, 3))
    assert '--bounding_box extends beyond the segmentation' in caplog.text
    with pytest.raises(UserError, match='lies outside the segmentation'):
        box_of_labels(source, 'start { x: 7 y: 1 z: 2 } size { x: 9 y: 2 z: 3 }')
