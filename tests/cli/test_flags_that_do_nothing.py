"""Flags that would have no effect are refused, each in one line that names what they need."""

import h5py
import numpy as np
import pytest

from ffn.cli import compare, evaluate, export, import_labels, report
from ffn.utils.errors import UserError


@pytest.fixture
def volume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with h5py.File('v.h5', 'w') as file:
        file['labels'] = np.arange(24, dtype=np.uint32).reshape(2, 3, 4)
        file['same'] = file['labels'][:]
        file['labels'].attrs['resolution'] = (30.0, 8.0, 8.0)
    return 'v.h5:labels'


def test_each_names_what_it_needs(volume, tmp_path):
    (tmp_path / 'nowhere').mkdir()
    label_flags = ['--input', 'v.h5', '--dataset', 'labels', '--output', 'o.h5:l']
    for command, flags, words in (
        (import_labels, [*label_flags, '--link', 'overlap'], '--instances'),
        (
            evaluate,
            ['--segmentation', volume, '--groundtruth', volume, '--merge_threshold', '9'],
            '--skeletons',
        ),
        (export, ['--output', 'view', '--image', volume, '--unlabelled', '7'], '--labels'),
        (export, ['--output', 'view', '--labels', volume, '--mesh_error', '5'], '--meshes'),
        (export, ['--output', 'view', '--labels', volume, '--skeleton_voxel', '5'], '--skeletons'),
        (report, [volume, '--assembly_dir', 'nowhere', '--output', 'r.html'], 'nowhere is for'),
    ):
        with pytest.raises(UserError, match=words) as caught:
            command.main(flags)
        assert '\n' not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {'v.h5', 'nowhere'}


def test_voxel_sizes_of_what_is_compared_are_looked_at(volume, caplog):
    with pytest.raises(UserError, match='--voxel_size'):
        compare.main([volume, 'v.h5:same', '--voxel_size', 'nonsense', '--quiet'])
    compare.main([volume, 'v.h5:same', '--voxel_size', '4,4,4', '--quiet'])
    assert 'voxel' in caplog.text
