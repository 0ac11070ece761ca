"""Inference on every Keras backend that is installed, each in a process of its own.

The weights of the published model are converted where TensorFlow is installed; elsewhere
FFN_TEST_KERAS_WEIGHTS names the converted file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ffn.inference import storage
from tests.calls import check_one_line, run_python
from tests.inference.results import whole_result
from tests.loaded import run_loaded

BACKENDS = ('tensorflow', 'jax', 'torch')
BOX = 'start { x: 0 y: 0 z: 0 } size { x: 38 y: 26 z: 20 }'
# Loads Keras, and so belongs into the process of the backend.
WRITE_FLOOD = """
import sys
from pathlib import Path
from ffn.models import keras_weights
from tests.inference import flood
folder = Path(sys.argv[1])
keras_weights.save(flood.make_network(), folder / 'flood.weights.h5')
flood.write_volume(folder)
flood.write_request(folder)
"""
# Of the segments of the flood network: voxels; seed and steps.
SIZES = [1498, 2489, 564, 415, 1354, 1034]
ORIGINS = [
    ((5, 16, 13), 211),
    ((6, 5, 5), 381),
    ((7, 6, 32), 19),
    ((13, 6, 23), 12),
    ((13, 6, 31), 188),
    ((14, 19, 12), 129),
]


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.fixture(
    params=[
        pytest.param(
            name, marks=pytest.mark.skipif(not installed(name), reason=f'{name} is not installed')
        )
        for name in BACKENDS
    ],
    scope='module',
)
def backend(request) -> str:
    return request.param


def python(repository: Path, backend: str, folder: Path, *arguments: str) -> str:
    """Runs Python on a backend; returns what it printed."""
    by = run_loaded if backend == 'tensorflow' else run_python
    environment = {'KERAS_BACKEND': backend, 'PYTHONPATH': str(repository)}
    done = by(folder, *arguments, timeout=600, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='session')
def published_weights(tmp_path_factory, data_dir) -> Path:
    """The published model as a Keras file."""
    if given := os.environ.get('FFN_TEST_KERAS_WEIGHTS'):
        return Path(given)
    if not installed('tensorflow'):
        pytest.skip(
            'no TensorFlow to convert the published model with: set FFN_TEST_KERAS_WEIGHTS to its '
            'NAME.weights.h5'
        )
    from ffn.models.weights import convert

    output = tmp_path_factory.mktemp('published') / 'fib25.weights.h5'
    args = '{"depth": 12, "fov_size": [33, 33, 33], "deltas": [8, 8, 8]}'
    checkpoint = data_dir / 'fib25' / 'model' / 'model.ckpt-27465036'
    step = convert(str(checkpoint), str(output), 'convstack_3d.ConvStack3DFFNModel', args)
    assert step == 27465036
    return output


@pytest.fixture(scope='session')
def steps(tmp_path_factory, data_dir, goldens_dir) -> Path:
    """Half of the stored steps (test_forward.py has all), with the image that each of them saw."""
    with np.load(goldens_dir / 'forward_steps.npz') as stored:
        golden = {name: array[:3] for name, array in stored.items()}
    maps = data_dir / 'fib25' / 'training_sample2' / 'grayscale_maps'
    sections = sorted(maps.glob('iso.*.png'))
    images = []
    for z, y, x in golden['position_zyx'].tolist():
        stack = np.stack([np.asarray(Image.open(path)) for path in sections[z - 16 : z + 17]])
        images.append((stack[:, y - 16 : y + 17, x - 16 : x + 17].astype(np.float32) - 128) / 33)
    path = tmp_path_factory.mktemp('steps') / 'steps.npz'
    np.savez(path, image=np.stack(images), seed=golden['seed'], logits=golden['logits'])
    return path


@pytest.mark.slow
def test_published_network_reproduces_stored_steps(repository, backend, published_weights, steps):
    """Exactly in float32; in bfloat16, hardly a voxel changes sides."""
    printed = python(
        repository,
        backend,
        repository,
        '-m',
        'tests.inference.forward',
        str(steps),
        str(published_weights),
    )
    found = json.loads(printed.splitlines()[-1])
    assert found['backend'] == backend
    difference, otherwise = found['float32']
    assert difference <= 1e-3
    difference, otherwise = found['bfloat16']
    assert 1e-3 < difference <= 1.0
    assert otherwise <= 0.005


@pytest.fixture(scope='module')
def flood_folder(repository, tmp_path_factory) -> Path:
    """The flood network, its volume and its request; the file of weights suits every backend."""
    folder = tmp_path_factory.mktemp('flood')
    python(repository, next(filter(installed, BACKENDS)), folder, '-c', WRITE_FLOOD, str(folder))
    request = folder / 'request.pbtxt'
    text = request.read_text().replace('/flood"', '/flood.weights.h5"').replace(f'{folder}/', '')
    request.write_text(text + 'movement_policy_args: \'{"deltas": [1, 2, 2]}\'\n')
    return folder


# One process of each backend does all: loading one takes seconds.
IN_ONE_PROCESS = """
import os, sys
import numpy as np
from ffn.inference import box_run
from ffn.models.predictor import make_predictor
from tests.inference import flood
box, *ways = sys.argv[1:]
for way in ways:
    os.environ['FFN_DEVICE_CANVAS'] = way
    os.chdir(way)
    box_run.segment('request.pbtxt', box, quiet=True, report_path='report.json')
    os.chdir('..')
model = flood.make_network()
predict = make_predictor(model)
image, seed = np.ones((1, 5, 5, 7, 1), np.float32), np.full((1, 5, 5, 7, 1), -3, np.float32)
seed[0, 2, 2, 3] = 3
before = predict(image, seed)
for name, variable in model.named_variables().items():
    variable.assign(np.zeros(variable.shape))
after = predict(image, seed)
print((before > 0).sum(), np.abs(after - seed).max())
"""


@pytest.fixture(scope='module')
def done(repository, backend, flood_folder, tmp_path_factory) -> tuple[Path, str]:
    """The folder of what a backend did, and what it printed."""
    folder = tmp_path_factory.mktemp(backend)
    # TensorFlow makes its steps on the host.
    ways = ['0'] if backend == 'tensorflow' else ['0', '1']
    for way in ways:
        shutil.copytree(flood_folder, folder / way)
    return folder, python(repository, backend, folder, '-c', IN_ONE_PROCESS, BOX, *ways)


@pytest.mark.parametrize('on_device', ['0', '1'])
def test_the_flood_network_segments_the_same_on_every_backend(backend, done, on_device):
    """What it segments is stored here, so that all of them are compared with the same."""
    if on_device == '1' and backend == 'tensorflow':
        pytest.skip('TensorFlow makes its steps on the host')
    folder = done[0] / on_device
    report = json.loads((folder / 'report.json').read_text())
    assert (report['backend'], report['precision']) == (backend, 'float32')
    assert backend in report['device']
    found = whole_result(folder / 'results')
    assert np.bincount(found['segmentation'].ravel())[1:].tolist() == SIZES
    assert list(found['origins'].values()) == ORIGINS
    assert found['counts'] == {'predict-calls': 947, 'seeds': 29, 'voxels-segmented': sum(SIZES)}
    probability = storage.dequantize_probability(found['qprob'])
    assert (probability[found['segmentation'] > 0] >= 0.6).all()


def test_weights_that_change_are_seen(done):
    grown, difference = done[1].split()[-2:]
    assert int(grown) > 26
    assert float(difference) == 0


@pytest.mark.parametrize('name', ['tensorflow', 'jax'])
def test_a_backend_that_is_not_installed(repository, flood_folder, name):
    """TensorFlow is what Keras takes where nothing is said."""
    hidden = f'import runpy, sys; sys.modules["{name}"] = None; '
    script = f'runpy.run_path({str(repository / "run_inference.py")!r}, None, "__main__")'
    done = subprocess.run(
        [
            sys.executable,
            '-c',
            hidden + script,
            '--inference_request=request.pbtxt',
            f'--bounding_box={BOX}',
        ],
        env={**os.environ, 'KERAS_BACKEND': name, 'PYTHONPATH': str(repository)},
        cwd=flood_folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    check_one_line(done.returncode, done.stderr, 'KERAS_BACKEND', name)
