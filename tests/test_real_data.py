"""The published network and FIB-25 training_sample2, through the scripts."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.evaluation.rand import rand_score
from ffn.evaluation.voi import voi_score
from ffn.inference import storage
from ffn.models import checkpoints
from ffn.utils.geometry import Box, Xyz
from ffn.utils.npz import read_npz
from ffn.volumes.volume import open_volume
from tests.events import read_events

REQUEST = 'configs/inference_training_sample2.pbtxt'


def python(repository: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a script or module of the checkout in a folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={'PYTHONPATH': str(repository), 'PATH': ''},
    )


@pytest.fixture(scope='module')
def folder(tmp_path_factory, data_dir, repository):
    """A folder as README.md has it: data/training_sample2.h5, and the model beside it."""
    root = tmp_path_factory.mktemp('real')
    (root / 'data').mkdir()
    (root / 'models').mkdir()
    (root / 'models' / 'fib25').symlink_to(data_dir / 'fib25' / 'model')
    sample = data_dir / 'fib25' / 'training_sample2'
    python(
        repository,
        root,
        '-m',
        'ffn.utils.import_stack',
        f'--images={sample}/grayscale_maps/iso.*.png',
        '--output=data/training_sample2.h5:raw',
    )
    python(
        repository,
        root,
        '-m',
        'ffn.utils.import_labels',
        f'--input={sample}/groundtruth.h5.gz',
        '--output=data/training_sample2.h5:labels',
    )
    return root


def segment(repository: Path, folder: Path, box: str) -> str:
    """Runs inference with the shipped request; returns what it printed."""
    return python(
        repository,
        folder,
        str(repository / 'run_inference.py'),
        f'--inference_request={repository / REQUEST}',
        f'--bounding_box={box}',
    ).stdout


def test_import_gives_250_cubed_and_526_bodies(folder):
    with h5py.File(folder / 'data' / 'training_sample2.h5') as file:
        assert file['raw'].shape == file['labels'].shape == (250, 250, 250)
        assert file['raw'].dtype == np.uint8
        assert len(np.unique(file['labels'][:])) == 526


@pytest.mark.slow
def test_the_model_that_comes_with_the_code(repository, folder):
    """On a box that it has not been trained on, as README.md says."""
    for file in (repository / 'models').glob('fib25_small.*'):
        (folder / 'models' / file.name).symlink_to(file)
    python(
        repository,
        folder,
        str(repository / 'run_inference.py'),
        '--bounding_box=start { x:10 y:20 z:160 } size { x:110 y:120 z:70 }',
        f'--inference_request={repository}/configs/inference_fib25_small.pbtxt',
    )
    labels, _ = storage.load_segmentation(
        folder / 'results/fib25_small', (160, 20, 10), split_cc=False
    )
    with h5py.File(folder / 'data' / 'training_sample2.h5') as file:
        truth = file['labels'][160:230, 20:140, 10:120]
    assert (labels > 0).mean() > 0.6
    assert rand_score(truth, labels, 'both').error < 0.2


def test_small_box_as_stored(repository, folder, goldens_dir):
    printed = segment(repository, folder, 'start { x: 0 y: 0 z: 0 } size { x: 60 y: 60 z: 60 }')
    golden = np.load(goldens_dir / 'segmentation_small_box.npz')
    results = folder / 'results' / 'training_sample2'
    found, origins = storage.load_segmentation(results, (0, 0, 0), split_cc=False)
    assert rand_score(golden['segmentation'], found).error <= 0.01
    assert len(origins) == 2
    assert '47 network steps' in printed


@pytest.mark.slow
def test_box_as_stored(repository, folder, goldens_dir):
    printed = segment(
        repository, folder, 'start { x: 60 y: 60 z: 60 } size { x: 120 y: 120 z: 120 }'
    )
    golden = np.load(goldens_dir / 'segmentation_box.npz')
    results = folder / 'results' / 'training_sample2'
    found, origins = storage.load_segmentation(results, (60, 60, 60), split_cc=False)
    assert rand_score(golden['segmentation'], found).error <= 0.01
    assert 35 <= len(origins) <= 37
    steps = int(re.search(r'(\d+) network steps', printed)[1])
    assert steps == pytest.approx(1585, abs=16)
    qprob = read_npz(storage.subvolume_path(results, (60, 60, 60), 'prob'), ['qprob'], [])['qprob']
    assert np.mean(qprob == golden['qprob']) > 0.99


def test_published_segmentation_loads(data_dir, tmp_path):
    path = storage.subvolume_path(tmp_path, (0, 0, 0), 'npz')
    path.parent.mkdir(parents=True)
    path.symlink_to(data_dir / 'fib25' / 'sample-training2.npz')
    labels, origins = storage.load_segmentation(tmp_path, (0, 0, 0), split_cc=False)
    assert labels.shape == (250, 250, 250)
    assert labels.dtype == np.uint64
    assert len(origins) == 254
    for i, origin in list(origins.items())[:20]:
        assert labels[tuple(origin.start_zyx)] == i


@pytest.mark.slow
def test_eight_subvolumes_are_as_good_as_one_box(repository, folder):
    request = (repository / REQUEST).read_text() + 'precision: "bfloat16"'
    box = Box(Xyz(60, 60, 60), Xyz(120, 120, 120))
    found = {}
    for name, size in (('one', 120), ('eight', 92)):
        python(
            repository,
            folder,
            '-m',
            'ffn.assembly.segment_volume',
            '--inference_request',
            request.replace('results/training_sample2', f'results/{name}'),
            '--bounding_box',
            str(box.to_proto()),
            '--subvolume_size',
            f'{size},{size},{size}',
            '--overlap',
            '32,32,32',
            '--output',
            f'zarr://{name}',
            '--quiet',
        )
        with open_volume(f'zarr://{folder}/{name}') as volume:
            found[name] = volume.read(box)
    assert len(storage.subvolumes(folder / 'results' / 'eight')) == 8
    with h5py.File(folder / 'data' / 'training_sample2.h5') as file:
        truth = file['labels'][box.slices_zyx]
    one, eight = (rand_score(truth, labels, 'segmentation').error for labels in found.values())
    assert eight == pytest.approx(one, abs=0.02)
    # No seam: within 8 voxels of the borders, which are in the middle, it is no worse than elsewhere.
    near = np.zeros(truth.shape, bool)
    for axis in range(3):
        np.moveaxis(near, axis, 0)[60 - 8 : 60 + 8] = True
    voi = [voi_score(truth * where, found['eight'], 'truth').total for where in (near, ~near)]
    assert voi[0] <= voi[1] + 0.1
    assert rand_score(found['one'], found['eight']).error < 0.1


@pytest.mark.slow
def test_training_is_killed_and_goes_on(repository, folder):
    python(
        repository,
        folder,
        str(repository / 'compute_partitions.py'),
        '--input_volume=data/training_sample2.h5:labels',
        '--output_volume=data/af.h5:af',
        '--thresholds=0.025,0.05,0.075,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9',
        '--lom_radius=24,24,24',
        '--min_size=10000',
    )
    python(
        repository,
        folder,
        str(repository / 'build_coordinates.py'),
        '--partition_volumes=validation1:data/af.h5:af',
        '--coordinate_output=data/coordinates.tfrecord.gz',
        '--margin=24,24,24',
        '--max_coordinates=100000',
    )
    arguments = [
        str(repository / 'train.py'),
        f'--flagfile={repository / "configs" / "train_training_sample2.flags"}',
        '--train_dir=trained',
        '--max_steps=20',
        '--checkpoint_steps=5',
        '--summary_rate_secs=10',
    ]
    trained = folder / 'trained'
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder)
    end = time.monotonic() + 900
    while not (trained / 'model.ckpt-10.index').exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = int(checkpoints.latest_checkpoint(trained).rpartition('-')[2])
    assert 5 <= step < 20
    done = python(repository, folder, *arguments)
    assert re.search(rf'continuing from \S+-{step}, step {step}', done.stderr)
    assert checkpoints.latest_checkpoint(trained).endswith('-20')
    losses = read_events(trained)['pixel_loss']
    assert 20 in losses
    assert np.isfinite(list(losses.values())).all()
