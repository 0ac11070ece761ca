import h5py
import numpy as np
import pytest

from ffn.cli import partitions


@pytest.mark.parametrize(('min_size', 'told'), [(10, False), (181, True)])
def test_labels_of_which_nothing_can_be_learned_are_told(tmp_path, caplog, min_size, told):
    labels = np.zeros((8, 11, 13), np.uint16)
    labels[2:7, 2:8, 3:9] = 5  # 180 voxels
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = labels
    names = [f'--input_volume={tmp_path}/v.h5:labels', f'--output_volume={tmp_path}/v.h5:af']
    radius = ['--thresholds=0.5', '--lom_radius=2,2,1', f'--min_size={min_size}', '--quiet']
    partitions.main([*names, *radius])
    line = f'smaller than min_size ({min_size} voxels) or nearer to the faces of the volume than lom_radius (x,y,z: 2,2,1)'
    assert (line in caplog.text) == told
