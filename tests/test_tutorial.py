"""doc/tutorial.md on the real data, as it is typed; only training is shorter."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest

from ffn.volumes.volume import open_volume
from tests import run_documents

JOBS = run_documents.read_jobs('doc/tutorial.md')
SHORTER = {'A network': {'--max_steps 1000': '--max_steps 2'}}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, data_dir):
    """A folder like a checkout, with the data that a reader downloads."""
    folder = tmp_path_factory.mktemp('tutorial')
    run_documents.make_folder(folder)
    sample = folder / 'data' / 'neuroproof_examples' / 'training_sample2'
    sample.mkdir(parents=True)
    source = data_dir / 'fib25' / 'training_sample2'
    (sample / 'grayscale_maps').symlink_to(source / 'grayscale_maps')
    with gzip.open(source / 'groundtruth.h5.gz') as packed:
        with open(sample / 'groundtruth.h5', 'wb') as file:
            shutil.copyfileobj(packed, file)
    return folder


def _score(folder, name):
    return json.loads((folder / name).read_text())['scores']['segmentation']


@pytest.mark.parametrize('job', JOBS)
def test_the_tutorial_runs(folder, job):
    printed = run_documents.run_job(folder, JOBS[job], SHORTER.get(job, {}), timeout=1800)
    if job == 'Getting the images in':
        assert '526 labels' in printed
    if job == 'How good is it?':
        assert _score(folder, 'scores.json')['rand_error'] < 0.2
    if job == 'Finding and correcting errors':
        kinds = [json.loads(line)['kind'] for line in (folder / 'edits.jsonl').open()]
        assert kinds == ['journal', 'merge', 'merge', 'merge', 'split', 'done']


def test_corrections_make_it_better(folder):
    before, after = (_score(folder, name) for name in ('scores.json', 'corrected.json'))
    assert after['voi_split'] < before['voi_split'] - 0.05
    assert after['voi_merge'] < before['voi_merge']
    assert after['rand_error'] < before['rand_error']


def test_neurons_have_meshes_and_skeletons(folder):
    exported = folder / 'neurons' / 'labels'
    assert (exported / 'mesh' / 'info').exists()
    with open_volume(f'precomputed://{folder}/corrected') as volume:
        box = volume.box
        labels = volume.read(box)
    names = {int(path.stem) for path in (exported / 'skeletons' / 'swc').glob('*.swc')}
    assert names == set(labels[labels > 0].tolist())
