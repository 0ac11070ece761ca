import h5py
import numpy as np
import pytest

from ffn.cli import partitions

WHITELIST = '--id_whitelist=7'
SPHERE = '--exclusion_regions=5,4,4,99'
MASK = '--mask_configs=masks { coordinate_expression { expression: "x >= 0" } }'


@pytest.mark.parametrize(
    ('min_size', 'flags', 'told'),
    [
        (10, [], None),
        (181, [], ''),
        (10, [WHITELIST], 'not in id_whitelist'),
        (10, [SPHERE], 'in exclusion_regions'),
        (10, [SPHERE, MASK], 'in exclusion_regions or nearer to what mask_configs mask'),
    ],
)
def test_labels_of_which_nothing_can_be_learned_are_told(tmp_path, caplog, min_size, flags, told):
    labels = np.zeros((8, 11, 13), np.uint16)
    labels[2:7, 2:8, 3:9] = 5  # 180 voxels
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = labels
    names = [f'--input_volume={tmp_path}/v.h5:labels', f'--output_volume={tmp_path}/v.h5:af']
    radius = ['--thresholds=0.5', '--lom_radius=2,2,1', f'--min_size={min_size}', '--quiet']
    partitions.main([*names, *radius, *flags])
    line = f'what is labelled is smaller than min_size ({min_size} voxels)'
    assert (line in caplog.text) == (told is not None)
    if told is not None:
        assert 'nearer to the faces of the volume than lom_radius (x,y,z: 2,2,1)' in caplog.text
        assert told in caplog.text
        assert ('mask_configs' in caplog.text) == (MASK in flags)
