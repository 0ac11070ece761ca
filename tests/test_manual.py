"""The jobs of doc/manual.md on generated sections, as they are typed; sizes and training are smaller."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from ffn.synthetic import generate
from ffn.volumes.volume import open_volume
from tests import run_documents

JOBS = run_documents.read_jobs('doc/manual.md')
# The network of models/ stands for one that was trained for hours.
_NETWORK = {'"plan/model"': '"models/fib25_small.weights.h5"'}
SMALLER = {
    'Train a network on your labels': {
        '--flagfile=plan/train.flags': '--flagfile=plan/train.flags --max_steps=2'
    },
    'Segment a box': _NETWORK,
    'Segment a whole volume': _NETWORK
    | {
        '544,544,544 --overlap 32,32,32': '72,72,72 --overlap 24,24,24',
        'x: 50 y: 50 z: 50': 'x: 24 y: 24 z: 24',
        'x: 30 y: 30 z: 30': 'x: 16 y: 16 z: 16',
        '--max_distance 60': '--max_distance 8',
    },
}
SIZE_ZYX, THICK_ZYX = (80, 88, 96), (28, 176, 192)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def _write_sections(folder, data, suffix):
    folder.mkdir()
    for z, section in enumerate(data):
        Image.fromarray(section).save(folder / f'z{z}.{suffix}')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with the sections that the manual takes for granted."""
    folder = tmp_path_factory.mktemp('manual')
    run_documents.make_folder(folder)
    for images, labels, suffix, sample in (
        ('sections', 'labels', 'png', generate(SIZE_ZYX, 1)),
        ('stack', 'truth', 'tif', generate(SIZE_ZYX, 2)),
        ('thick', 'thick_labels', 'tif', generate(THICK_ZYX, 3, (4, 1, 1))),
    ):
        _write_sections(folder / images, sample.image, suffix)
        label_suffix = 'tif' if images == 'thick' else 'png'
        _write_sections(folder / labels, sample.labels.astype(np.uint16), label_suffix)
    return folder


def _labels(folder, name):
    with open_volume(f'precomputed://{folder}/{name}') as volume:
        return volume.read(volume.box)


@pytest.mark.parametrize('job', JOBS)
def test_the_jobs_run(folder, job):
    run_documents.run_job(folder, JOBS[job], SMALLER.get(job, {}), timeout=1800)


def test_what_they_leave(folder):
    scores = json.loads((folder / 'scores.json').read_text())
    assert scores['scores']['segmentation']['rand_error'] < 0.5
    with open(folder / 'selection' / 'selection.csv', newline='') as file:
        assert len(list(csv.DictReader(file))) == 4
    whole, joined = (_labels(folder, name) for name in ('whole', 'joined'))
    assert whole.shape == SIZE_ZYX
    assert len(np.unique(whole)) > 5
    np.testing.assert_array_equal(joined > 0, whole > 0)
    np.testing.assert_array_equal(_labels(folder, 'corrected'), joined)  # nothing was edited
    assert (folder / 'neurons' / 'labels' / 'mesh' / 'info').exists()
    assert 'sections' in (folder / 'plan_v' / 'train.flags').read_text()
