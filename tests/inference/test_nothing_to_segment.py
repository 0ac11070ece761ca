"""Subvolumes without anything to segment: constant images, and no place for a seed."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from ffn.inference import report, storage
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.utils.npz import read_npz
from tests.inference import flood
from tests.inference.test_runner import SIZE_ZYX, run


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def read_counters(folder):
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    return read_npz(path, ['counters'], [])['counters'].item()


def test_no_seed_is_tried_where_seeds_are_masked_everywhere(folder):
    canvas = run(folder, 'seed_masks { coordinate_expression { expression: "x >= 0" } }')
    assert report.BoxReport.of_canvas(canvas).status == 'masked'
    assert b'everything-masked' in read_counters(folder)


@pytest.mark.parametrize('value', [0, 255])
def test_a_constant_image_is_not_segmented(folder, value):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['raw'][...] = value
    canvas = run(folder, 'seed_policy: "PolicyGrid3d"')
    assert report.BoxReport.of_canvas(canvas).status == 'constant'
    labels, origins = storage.load_segmentation(folder / 'results', (0, 0, 0))
    assert labels.shape == SIZE_ZYX
    assert not labels.any()
    assert not origins
    counters = read_counters(folder)
    assert b'image-constant' in counters
    assert b'predict-calls' not in counters
    with np.load(storage.subvolume_path(folder / 'results', (0, 0, 0), 'prob')) as prob:
        assert prob['qprob'].shape == SIZE_ZYX
        assert not prob['qprob'].any()


def test_one_voxel_that_differs_is_looked_at(folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['raw'][...] = 1
        file['raw'][19, 25, 37] = 2
    canvas = run(folder)
    assert report.BoxReport.of_canvas(canvas).status == 'segmented'
    assert canvas.counters['segment_all-calls'] == 1


def test_what_is_segmented_already_stays_in_a_constant_image(folder):
    truth = flood.write_volume(folder)
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['raw'][...] = 7
        file['given'] = truth
    canvas = run(folder, f'init_segmentation {{ hdf5: "{folder}/volume.h5:given" }}')
    labels, _ = storage.load_segmentation(folder / 'results', (0, 0, 0), split_cc=False)
    np.testing.assert_array_equal(labels, truth)
    assert canvas.idle == 'constant'


def test_a_canvas_of_a_constant_image_can_be_used_in_a_notebook(folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['raw'][...] = 255
    with Runner() as runner:
        runner.start(read_request(flood.write_request(folder)))
        canvas, _ = runner.make_canvas((0, 0, 0), SIZE_ZYX)
        assert canvas.segment_at((10, 13, 19)) > 1
