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


@pytest.mark.parametrize(
    ('spheres', 'thresholds', 'told'),
    [
        ('104,100,300,5', '0.5', ['the sphere 104,100,300,5 holds no voxel of']),
        ('-3,4,5,2.9', '0.5', ['the sphere -3,4,5,2.9 holds']),
        ('4.5,4,5,0.4', '0.5', ['the sphere 4.5,4,5,0.4 holds']),  # it lies between two of them
        ('-3,4,5,3,4.5,4,5,0.5,12,10,7,0,6,6,6,1e200', '0.5', []),
        ('4,4,4,1', '0.1,5,9', ['--thresholds holds 5,9, but a fraction of the box is at most 1']),
        ('4,4,4,1', '0.5,1', []),
    ],
)
def test_settings_that_have_no_effect_are_told(tmp_path, caplog, spheres, thresholds, told):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = np.ones((8, 11, 13), np.uint16)
    names = [f'--input_volume={tmp_path}/v.h5:labels', f'--output_volume={tmp_path}/v.h5:af']
    radius = [f'--thresholds={thresholds}', '--lom_radius=2,2,1', '--min_size=1', '--quiet']
    partitions.main([*names, *radius, f'--exclusion_regions={spheres}'])
    lines = [r.getMessage() for r in caplog.records if '--' in r.getMessage()]
    assert len(lines) == len(told)
    for line, expected in zip(lines, told, strict=True):
        assert expected in line
