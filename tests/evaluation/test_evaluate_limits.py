"""Limits and widths that `ffn evaluate` is given, before anything is read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.cli.evaluate import main
from ffn.cli.report import main as report
from ffn.evaluation import skeletons, sources
from ffn.evaluation.blocks import boundary_band
from ffn.evaluation.contingency import Contingency, count_block
from ffn.evaluation.error_cases import find_missed_objects
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


def test_a_boundary_of_less_than_a_voxel_is_told(given, caplog):
    found = main([*given, '--voxel_size', '8,8,40', '--boundary', '3nm'])
    assert found.inner_scores is None
    assert '--boundary 3nm is less than a voxel, x,y,z 8,8,40 nm' in caplog.text


def test_an_image_that_does_not_cover_the_labels_is_told(tmp_path, caplog):
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file['labels'] = np.ones((4, 5, 9), np.uint32)
        file['image'], file['small'] = np.zeros((4, 6, 9), np.uint8), np.zeros((4, 5, 8), np.uint8)
    labels, page = f'{tmp_path}/v.h5:labels', f'{tmp_path}/page.html'
    for image, told in (('image', False), ('small', True)):
        caplog.clear()
        report([labels, '--output', page, '--image', f'{tmp_path}/v.h5:{image}', '--quiet'])
        assert (f'v.h5:{image} covers start' in caplog.text) == told
        caplog.clear()
        both = ['--segmentation', labels, '--groundtruth', labels, '--worst', '0', '--quiet']
        main([*both, '--html', page, '--image', f'{tmp_path}/v.h5:{image}'])
        assert (f'v.h5:{image} covers start' in caplog.text) == told


def test_a_missing_object_is_shown_outside_the_band():
    """Most of the object's longest run lies in the band."""
    truth = np.zeros((9, 11, 30), np.uint32)
    truth[0:9, 0:5, 2:12] = 1
    truth[4, 8, 2:29] = 1  # thin, and so near its border everywhere
    band = boundary_band(truth, 2)
    found = Contingency.of(truth, truth * 0)
    table = count_block(truth, truth * 0, found.box, found.box, band)
    assert table.inner.sum() == np.count_nonzero(~band)
    (missed,) = find_missed_objects(table.without_boundary(), 5)
    x, y, z = missed.at_xyz
    assert truth[z, y, x] == 1
    assert not band[z, y, x]
