"""Requests of existing installations mean what they meant there."""

import logging

import h5py
import numpy as np
import pytest

from ffn.inference import storage
from ffn.inference.request import read_request
from ffn.inference.runner import Runner
from ffn.utils.errors import UserError
from ffn.utils.protos import parse_text
from tests.inference import flood

SIZE_ZYX = (20, 26, 38)


def open_canvas(folder, extra):
    """The canvas of the whole volume; `extra` is added to the request."""
    request = parse_text(extra, read_request(flood.write_request(folder)), 'extra')
    with Runner() as runner:
        runner.start(request)
        return runner.make_canvas((0, 0, 0), SIZE_ZYX)[0]


def test_deltas_of_the_request_are_z_y_x(flood_folder, caplog):
    extra = 'movement_policy_args: "{\\"deltas\\": [0, 1, 2]}"'
    seen = []
    with caplog.at_level(logging.INFO):
        canvas = open_canvas(flood_folder, extra)
    canvas.segment_at((4, 18, 10), callback=lambda canvas, pos: seen.append(pos))
    assert {z for z, _, _ in seen} == {4}
    assert len({y for _, y, _ in seen}) > 1
    assert len({x for _, _, x in seen}) > 1
    logged = [r.getMessage() for r in caplog.records if 'policy_args' in r.getMessage()]
    assert logged == ['deltas of movement_policy_args are read as z,y,x 0,1,2 (x,y,z 2,1,0)']


def test_sections_are_matched_one_by_one_unless_the_request_says_otherwise(flood_folder):
    image = np.zeros(SIZE_ZYX, np.uint8)
    image[:, :, 19:] = 100
    image[10:] += 50  # a brighter half: 50 and 150
    with h5py.File(flood_folder / 'volume.h5', 'a') as file:
        file['raw'][...] = image
    np.savez(flood_folder / 'h.npz', histogram=np.bincount([1, 255], minlength=256))
    extra = f'reference_histogram: "{flood_folder}/h.npz" '
    dark, bright = (np.float32((v - 128) / 127) for v in (1, 255))
    by_section = open_canvas(flood_folder, extra).image
    assert (by_section[:, :, :19] == dark).all()
    assert (by_section[:, :, 19:] == bright).all()
    whole = open_canvas(flood_folder, extra + 'histogram_per_subvolume: true').image
    # Half of the voxels are 0 or 50.
    np.testing.assert_array_equal(whole, by_section)
    image[10:] += 60  # 0, 110, 100, 210: now half are 0 or 100
    with h5py.File(flood_folder / 'volume.h5', 'a') as file:
        file['raw'][...] = image
    np.testing.assert_array_equal(open_canvas(flood_folder, extra).image, by_section)
    whole = open_canvas(flood_folder, extra + 'histogram_per_subvolume: true').image
    assert (whole[:10] == dark).all()
    assert (whole[10:] == bright).all()
    with pytest.raises(UserError, match='per_subvolume is set without reference_histogram'):
        open_canvas(flood_folder, 'histogram_per_subvolume: true')


def test_prefilled_voxels_have_the_greatest_probability(flood_folder):
    truth = flood.write_volume(flood_folder)
    given = np.where(truth == 2, 7, 0).astype(np.int64)
    with h5py.File(flood_folder / 'volume.h5', 'a') as file:
        file['given'] = given
    extra = f'init_segmentation {{ hdf5: "{flood_folder}/volume.h5:given" }}'
    request = parse_text(extra, read_request(flood.write_request(flood_folder)), 'extra')
    with Runner() as runner:
        runner.start(request)
        canvas = runner.run((0, 0, 0), SIZE_ZYX)
    results = flood_folder / 'results'
    qprob = np.load(storage.subvolume_path(results, (0, 0, 0), 'prob'))['qprob']
    assert (qprob[given > 0] == 255).all()
    assert (qprob[canvas.segmentation == 0] == 0).all()
    grown = qprob[canvas.segmentation > 1]
    assert grown.size
    assert ((grown > 0.6 * 254) & (grown <= 255)).all()
    labels, _ = storage.load_segmentation(results, (0, 0, 0), threshold=0.99, split_cc=False)
    np.testing.assert_array_equal(labels == 1, given > 0)
