"""Limits and widths that `ffn evaluate` is given, before anything is read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.cli.evaluate import main
from ffn.evaluation import skeletons, sources
from ffn.utils.errors import UserError
from ffn.volumes.volume import Volume


@pytest.fixture
def given(tmp_path):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['seg'] = np.arange(8 * 12 * 20).reshape(8, 12, 20) // 700 + 1
    spec = f'{tmp_path}/v.h5:seg'
    return ['--segmentation', spec, '--groundtruth', spec, '--quiet']


def test_a_boundary_in_nanometres_is_as_wide_as_it_is_written(given):
    given = [*given, '--voxel_size', '4.4,8,40', '--boundary']
    assert main([*given, '13.2nm']).boundary == (3, 1, 0)
    assert main([*given, '13.1nm']).boundary == (2, 1, 0)


def test_volumes_too_large_for_memory_are_told_before_they_are_read(given, monkeypatch):
    monkeypatch.setattr(skeletons, '_MAX_VOXELS', 1919)
    monkeypatch.setattr(sources, 'memory', lambda: 16 * 1919)
    monkeypatch.setattr(Volume, 'read', lambda *_: pytest.fail('it is read'))
    with pytest.raises(UserError, match=r'the box has 1920: choose a --bounding_box'):
        main([*given, '--skeletons_from_groundtruth'])
    with pytest.raises(UserError, match=r'--split_cc reads .*v\.h5:seg whole and needs 0 GiB'):
        main([*given, '--split_cc'])
