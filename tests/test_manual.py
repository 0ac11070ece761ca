"""The jobs of doc/manual.md on generated sections, as they are typed; sizes and training are smaller."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from ffn.synthetic import generate
from ffn.volumes.unlabelled import NOT_LABELLED
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
    # Who marks objects as done.
    'Proofread and give corrections back': {
        '--who Ada\n': '--who Ada\npython mark.py\n',
        '--train_dir=plan/model2': '--train_dir=plan/model2 --max_steps=2',
    },
}
MARK = """
from ffn.proofreading.editing.journal import open_journal
from ffn.proofreading.editing.proofread_volume import ProofreadVolume
from ffn.proofreading.editing.proofreading import Proofreading
from ffn.utils.geometry import Xyz

whole = ProofreadVolume('precomputed://whole', 'again/merges.csv')
with whole.source.open() as opened, open_journal('edits.jsonl', whole.base, 'Ada') as journal:
    session, labels = Proofreading(opened, whole.table, journal), opened.read(opened.box)
    for z, y, x in ((40, y, x) for y in range(30, 60, 6) for x in range(30, 66, 6)):
        done = {session.objects.object_of(place.id) for place in session.objects.done.values()}
        if labels[z, y, x] and session.objects.object_of(int(labels[z, y, x])) not in done:
            session.mark_done(Xyz(x, y, z))
"""
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
    (folder / 'mark.py').write_text(MARK)
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
    np.testing.assert_array_equal(_labels(folder, 'corrected'), joined)  # nothing was changed
    done, weights = (_labels(folder, name) for name in ('done', 'done_weights'))
    assert len(np.unique(done)) > 2
    np.testing.assert_array_equal(weights[done < NOT_LABELLED], 1)
    assert list((folder / 'plan' / 'model2').glob('model.ckpt-2.*'))
    assert (folder / 'neurons' / 'labels' / 'mesh' / 'info').exists()
    assert 'sections' in (folder / 'plan_v' / 'train.flags').read_text()
