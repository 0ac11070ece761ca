"""run_inference.py as a user calls it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ffn.inference import inference_pb2, storage
from ffn.utils.npz import read_npz
from tests.calls import call_many, check_one_line, run_python
from tests.inference import flood
from tests.loaded import run_loaded

BOX = 'start { x: 0 y: 0 z: 0 } size { x: 38 y: 26 z: 20 }'


@pytest.fixture
def folder(flood_folder):
    return flood_folder


def command(repository: Path, *arguments: str, box: str = BOX) -> list[str]:
    script = str(repository / 'run_inference.py')
    return [
        sys.executable,
        script,
        '--inference_request=request.pbtxt',
        f'--bounding_box={box}',
        *arguments,
    ]


def run(repository: Path, folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    return run_loaded(folder, *command(repository, *arguments, **options)[1:])


def check_segments(found: np.ndarray, truth: np.ndarray) -> None:
    """Every segment lies in one body, and next to nothing is left out."""
    for i in range(1, int(found.max()) + 1):
        assert len(np.unique(truth[found == i])) == 1
        assert truth[found == i][0] > 0
    assert np.mean(found[truth > 0] > 0) > 0.8


def test_segments_a_box(repository, folder):
    done = run_python(folder, *command(repository)[1:])
    assert done.returncode == 0, done.stderr
    objects = int(re.search(r'\d+ seeds: (\d+) objects kept; rejected \d+ weak', done.stdout)[1])
    assert re.search(
        r'\d+ network steps, [\d.]+ ms each; [\d.]+ s, [\d.]+ steps/s, \d+ voxels/s', done.stdout
    )
    assert 'runs on' in done.stderr
    found, origins = storage.load_segmentation(folder / 'results', (0, 0, 0))
    truth = flood.write_volume(folder)
    check_segments(found, truth)
    assert set(origins) == set(range(1, objects + 1)) == set(np.unique(found)) - {0}
    assert f'{np.mean(found > 0):.1%} of {truth.size} voxels filled' in done.stdout
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    with np.load(path, allow_pickle=False) as members:
        assert members['segmentation'].dtype == np.uint8
        request = inference_pb2.InferenceRequest.FromString(members['request'].item())
    assert request.seed_policy == 'PolicyPeaks'
    probability = np.load(storage.subvolume_path(folder / 'results', (0, 0, 0), 'prob'))['qprob']
    assert (storage.dequantize_probability(probability)[found > 0] >= 0.6).all()
    counters = dict(
        line.split(': ') for line in (folder / 'results' / 'counters.txt').read_text().splitlines()
    )
    assert int(counters['voxels-segmented']) == np.count_nonzero(found)
    assert int(counters['predict-calls']) >= sum(o.iters for o in origins.values())
    assert int(counters['inference-not-predict-ms']) >= 0
    assert not list((folder / 'results').rglob('*.cpoint'))

    again = run(repository, folder)
    assert again.returncode == 0, again.stderr
    assert 'the result exists' in again.stdout


def test_a_box_somewhere_else_with_other_options(repository, folder):
    """The corner names the file; what leaves the volume is clipped; later fields override."""
    box = 'start { x: 3 y: 11 z: 10 } size { x: 99 y: 20 z: 20 }'
    done = run(repository, folder, '--inference_options=min_segment_size: 300', box=box)
    assert done.returncode == 0, done.stderr
    assert 'clipped' in done.stderr
    path = folder / 'results' / '3' / '11' / 'seg-3_11_10.npz'
    with np.load(path) as members:
        found = members['segmentation']
    truth = flood.write_volume(folder)[10:, 11:, 3:]
    assert found.shape == truth.shape
    check_segments(found, truth)
    assert np.bincount(found.ravel())[1:].min() >= 300


def start_and_wait(repository: Path, folder: Path) -> tuple[subprocess.Popen, Path]:
    """Starts a run and returns once it has saved a checkpoint."""
    process = subprocess.Popen(
        command(repository), cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    saved = storage.subvolume_path(folder / 'results', (0, 0, 0), 'cpoint')
    end = time.monotonic() + 60
    while not saved.exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail(f'no checkpoint: {process.communicate()}')
        time.sleep(0.01)
    return process, saved


def whole_result(folder: Path) -> tuple:
    segmentation, origins = storage.load_segmentation(folder / 'results', (0, 0, 0), split_cc=False)
    path = storage.subvolume_path(folder / 'results', (0, 0, 0), 'npz')
    data = read_npz(path, ['overlaps', 'counters'], [])
    overlaps = {i: np.asarray(o).tolist() for i, o in data['overlaps'].items()}
    counters = json.loads(data['counters'].item())
    kept = {name: counters[name] for name in ('predict-calls', 'seeds', 'voxels-segmented')}
    return segmentation, {i: (o.start_zyx, o.iters) for i, o in origins.items()}, overlaps, kept


@pytest.fixture(scope='module')
def straight(repository, tmp_path_factory, flood_network):
    """The result of a run that nobody interrupts."""
    folder = tmp_path_factory.mktemp('straight')
    flood.fill_folder(folder, flood_network)
    flood.write_request(folder, flood.THOROUGH)
    done = run(repository, folder)
    assert done.returncode == 0, done.stderr
    return whole_result(folder)


@pytest.mark.slow  # test_inference_boxes.py stops and resumes in the fast tests, test_inference_kills.py kills
@pytest.mark.parametrize('sign', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted_and_resumed_it_gives_the_same(repository, folder, straight, sign):
    flood.write_request(
        folder, flood.THOROUGH
    )  # takes longer than a second, after which a checkpoint is written
    process, saved = start_and_wait(repository, folder)
    process.send_signal(sign)
    _, errors = process.communicate(timeout=60)
    assert saved.exists(), errors
    assert 'Traceback' not in errors
    if sign == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 128 + signal.SIGTERM
        assert str(saved.name) in errors
    assert not list((folder / 'results').rglob('*.npz'))
    done = run(repository, folder)
    assert done.returncode == 0, done.stderr
    assert 'going on from' in done.stderr
    assert not saved.exists()
    resumed = whole_result(folder)
    np.testing.assert_array_equal(resumed[0], straight[0])
    assert resumed[1:] == straight[1:]


MISTAKES = [
    ('image_mean: 128', '', [], ['image_mean']),
    ('image_mean: 128', 'image_mena: 128', [], ['image_mena']),
    ('volume.h5:raw', 'none.h5:raw', [], ['none.h5']),
    ('volume.h5:raw', 'volume.h5:gray', [], ['gray', 'raw']),
    ('volume.h5:raw', 'volume.h5', [], ['path:dataset']),
    ('volume.h5:raw', 'damaged.h5:raw', [], ['damaged.h5']),
    ('"PolicyPeaks"', '"PolicyPeeks"', [], ['PolicyPeeks', 'PolicyPeaks2d']),
    ('/flood"', '/flooded"', [], ['flooded']),
    ('/flood"', '/flood/model.ckpt-7"', [], ['model.ckpt-7']),
    ('[4, 3]', '[5, 3]', [], ['conv0_a/weights', '4)', '5)']),
    (r'\"depth\": 1', r'\"depth\": 2', [], ['features', '4 convolutions']),
    (
        r'\"depth\": 1, \"features\": [4, 3]',
        r'\"depth\": 3, \"features\": 3',
        [],
        ['conv0_a/weights'],
    ),
    ('ConvStack3DFFNModel', 'ConvStack2D', [], ['ConvStack2D', 'ConvStack3DFFNModel']),
    ('model_args: "{', 'model_args: "', [], ['model_args']),
    ('min_segment_size: 50', '', ['--inference_options=move_threshold: 2'], ['move_threshold']),
    ('checkpoint_interval: 1', 'image { tensorstore: "{" }', [], ['image']),
    (
        'checkpoint_interval: 1',
        'alignment_options { type: UNKNOWN_ALIGNMENT }',
        [],
        ['alignment_options'],
    ),
    (
        'checkpoint_interval: 1',
        'masks { coordinate_expression { expression: "open(1)" } }',
        [],
        ['open'],
    ),
    (
        '',
        '',
        ['--bounding_box=start { x: 90 y: 0 z: 0 } size { x: 9 y: 9 z: 9 }'],
        ['x,y,z 90,0,0', 'z,y,x 0,0,90'],
    ),
    (
        '',
        '',
        ['--bounding_box=start { x: 0 y: 0 z: 0 } size { x: 38 y: 4 z: 20 }'],
        ['38,4,20', '7,5,5'],
    ),
    ('', '', ['--bounding_box=size { x: 38 y: 26 z: 20 }'], ['start']),
    ('', '', ['--bounding_box=box.pbtxt'], ['box.pbtxt']),
    ('', '', ['--inference_request=nothing.pbtxt'], ['nothing.pbtxt']),
    ('/results"', '/volume.h5"', [], ['volume.h5']),
]


def test_mistakes_get_one_line(repository, folder):
    (folder / 'damaged.h5').write_bytes((folder / 'volume.h5').read_bytes()[:900])
    text = (folder / 'request.pbtxt').read_text()
    cases = []
    for i, (old, new, arguments, _) in enumerate(MISTAKES):
        assert old in text
        (folder / f'{i}.pbtxt').write_text(text.replace(old, new))
        cases.append([f'--inference_request={i}.pbtxt', f'--bounding_box={BOX}', *arguments])
    for (*case, words), (status, errors) in zip(
        MISTAKES, call_many(repository, folder, 'run_inference', cases)
    ):
        check_one_line(status, errors, *words, what=case)
    assert not list(folder.rglob('*.npz'))


def test_a_mistake_ends_with_status_1(repository, folder):
    wrong = command(repository, '--inference_request=nothing.pbtxt')[1:]
    done = run_python(folder, *wrong)
    check_one_line(done.returncode, done.stderr, 'nothing.pbtxt')
