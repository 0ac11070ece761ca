"""The volumes that a run reads."""

import h5py
import numpy as np
import pytest

from ffn.utils.errors import UserError
from tests.inference.test_runner import run


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def test_volumes_of_another_voxel_size_are_told(folder, caplog):
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['raw'].attrs['resolution'] = (30, 10, 10)
        for name in ('labels', 'mask'):
            file[name] = np.zeros(file['raw'].shape, np.uint8)
            file[name].attrs['resolution'] = (30, 20, 20)
    labels = f'init_segmentation {{ hdf5: "{folder}/volume.h5:labels" }}'
    mask = f'mask {{ hdf5: "{folder}/volume.h5:mask" }} channels {{ channel: 0 values: 1 }}'
    run(folder, f'{labels} masks {{ volume {{ {mask} }} }}')
    told = [r.message for r in caplog.records if 'contradict' in r.message]
    assert [('init_segmentation' in t, 'mask ' in t) for t in told] == [
        (True, False),
        (False, True),
    ]
    assert all('10,10,30' in t and '20,20,30' in t for t in told)


@pytest.mark.parametrize('coarse_zyx', [(6, 26, 12), (5, 26, 12)])
def test_labels_of_larger_voxels_may_end_within_the_last_one(folder, coarse_zyx):
    """The image has 20×26×38 voxels, labels those of 3×1×3: two planes remain, or five."""
    with h5py.File(folder / 'volume.h5', 'r+') as file:
        file['coarse'] = np.ones(coarse_zyx, np.uint8)
    finer = 'upsample { x: 3 y: 1 z: 3 }'
    labels = f'init_segmentation {{ hdf5: "{folder}/volume.h5:coarse" {finer} }}'
    if coarse_zyx[0] == 5:
        with pytest.raises(UserError, match='not inside'):
            run(folder, labels)
        return
    canvas = run(folder, labels)
    assert (canvas.segmentation[:18, :, :36] == 1).all()
    assert not (canvas.segmentation[18:] == 1).any()
    assert not (canvas.segmentation[:, :, 36:] == 1).any()
