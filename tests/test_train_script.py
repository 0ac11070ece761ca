"""train.py as a user calls it."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.inference import inference_pb2, storage
from ffn.models import checkpoints
from ffn.training.input.input_state import read_input_state
from tests.calls import call_many, check_one_line, run_python
from tests.events import read_events
from tests.loaded import run_loaded
from tests.training import sample

ARGS = (
    '--train_coords=coordinates.tfrecord',
    '--data_volumes=v:volume.h5:raw',
    '--label_volumes=v:volume.h5:labels',
    f'--model_name={sample.MODEL}',
    f'--model_args={json.dumps(sample.MODEL_ARGS)}',
    '--image_mean=140',
    '--image_stddev=50',
    '--train_dir=model',
    '--batch_size=2',
    '--max_steps=5',
)


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def command(repository: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(repository / 'train.py'), *arguments]


def run(repository: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return run_loaded(folder, *command(repository, *arguments)[1:])


def kill_after(process: subprocess.Popen, checkpoint: Path, sign: int, seconds: float) -> None:
    """Sends a signal once a checkpoint is there."""
    end = time.monotonic() + seconds
    while not checkpoint.exists():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f'{checkpoint.name} was not written: {process.communicate()[1]}')
        time.sleep(0.02)
    process.send_signal(sign)
    process.wait(60)


def steps_of_events(folder: Path) -> list[int]:
    """Steps that a loss was recorded at."""
    losses = read_events(folder)['pixel_loss']
    assert np.isfinite(list(losses.values())).all()
    return sorted(losses)


def test_trains_and_keeps_the_flags(repository, folder):
    arguments = (
        *ARGS,
        '--optimizer=adam',
        '--fov_policy=max_pred_moves',
        '--image_offset_scale_map=v:130:40',
    )
    done = run_python(folder, *command(repository, *arguments)[1:])
    assert done.returncode == 0, done.stderr
    assert 'trained to step 5' in done.stderr
    assert steps_of_events(folder / 'model') == [5]
    assert checkpoints.latest_checkpoint(folder / 'model') == f'{folder}/model/model.ckpt-5'
    saved = (folder / 'model' / 'train.flags').read_text()
    assert '--fov_policy=max_pred_moves' in saved
    assert '--batch_size=2' in saved
    # The saved flags are enough to go on with.
    again = run(repository, folder, '--flagfile=model/train.flags', '--max_steps=7')
    assert again.returncode == 0, again.stderr
    assert 'step 5' in again.stderr
    assert steps_of_events(folder / 'model') == [5, 7]


@pytest.mark.slow
def test_killed_it_goes_on_from_its_last_checkpoint(repository, folder):
    arguments = (*ARGS, '--max_steps=1000000', '--checkpoint_steps=3', '--summary_rate_secs=0.2')
    process = subprocess.Popen(
        command(repository, *arguments), cwd=folder, stderr=subprocess.PIPE, text=True
    )
    kill_after(process, folder / 'model' / 'model.ckpt-9.index', signal.SIGKILL, 60)
    assert process.returncode == -signal.SIGKILL
    last = checkpoints.latest_checkpoint(folder / 'model')
    step = int(last.rpartition('-')[2])
    assert step >= 6  # the last one is named by the file checkpoint after it is written
    assert step % 3 == 0
    done = run(repository, folder, *ARGS, f'--max_steps={step + 2}')
    assert done.returncode == 0, done.stderr
    assert f'continuing from {Path(last).relative_to(folder)}, step {step}' in done.stderr
    assert checkpoints.latest_checkpoint(folder / 'model').endswith(f'-{step + 2}')
    assert step + 2 in steps_of_events(folder / 'model')


@pytest.mark.slow
@pytest.mark.parametrize('sign', [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_a_checkpoint(repository, folder, sign):
    arguments = (*ARGS, '--max_steps=1000000', '--checkpoint_steps=3', '--keep_checkpoints=2')
    process = subprocess.Popen(
        command(repository, *arguments), cwd=folder, stderr=subprocess.PIPE, text=True
    )
    kill_after(process, folder / 'model' / 'model.ckpt-3.index', sign, 60)
    errors = process.stderr.read()
    assert process.returncode == 0, errors
    assert 'Traceback' not in errors
    reached = int(re.search(r'trained to step (\d+)', errors)[1])
    assert checkpoints.latest_checkpoint(folder / 'model').endswith(f'-{reached}')


@pytest.mark.slow
def test_without_train_dir_it_says_where_checkpoints_go(repository, folder):
    arguments = [argument for argument in ARGS if '--train_dir' not in argument]
    done = run(repository, folder, *arguments, '--max_steps=1')
    assert done.returncode == 0, done.stderr
    place = re.search(r'train_dir is not set.* (\S+)', done.stderr)[1]
    assert checkpoints.latest_checkpoint(place).endswith('-1')


MISTAKES = [
    (['--train_coords=none'], ['none', '--train_coords']),
    (['--train_coords=volume.h5'], ['volume.h5']),
    (['--data_volumes=volume.h5:raw'], ['name:path:dataset']),
    (['--data_volumes=v:none.h5:raw'], ['none.h5']),
    (['--data_volumes=v:volume.h5:gray'], ['gray', 'raw', 'labels']),
    (['--label_volumes=w:volume.h5:labels'], ['--label_volumes', 'v']),
    (['--label_volumes=v:volume.h5:float'], ['float32']),
    (['--label_volumes=v:volume.h5:small'], ['23', '24']),
    (['--data_volumes=v:volume.h5:flat', '--label_volumes=v:volume.h5:flat'], ['2']),
    (['--model_args={"depth": 2'], ['--model_args', 'JSON']),
    (['--model_args=[3]'], ['--model_args', 'object']),
    (['--model_args={"depth": 2, "fov": 3}'], ['fov_size']),
    (['--model_args={"fov_size": [8, 9, 9], "deltas": [1, 1, 1]}'], ['8,9,9', 'odd']),
    (['--model_args={"fov_size": [9, 9, 9], "deltas": [5, 1, 1]}'], ['5,1,1', '9,9,9']),
    (['--model_args={"fov_size": [9, 7, 7], "deltas": [1, 1, 1]}'], ['--permutable_axes']),
    (['--model_args={"fov_size": [33, 33, 33], "deltas": [8, 8, 8]}'], ['24', '49']),
    (['--model_name=unet.UNet'], ['unet.UNet', 'convstack_3d.ConvStack3DFFNModel']),
    (['--optimizer=lamb'], ['lamb', 'adam']),
    (['--fov_policy=random'], ['random', 'max_pred_moves']),
    (['--permutable_axes=x,y'], ['--permutable_axes', 'x,y']),
    (['--image_offset_scale_map=v:1'], ['volume:offset:scale']),
    (['--image_offset_scale_map=v:1:2,v:3:4'], ["'v' is given twice"]),
    (['--volume_weights=v:1,v:3'], ["'v' is given twice"]),
    (['--image_offset_scale_map=w:1:2'], ['w', '--data_volumes']),
    (['--train_dir=volume.h5'], ['volume.h5']),
    (
        ['--eval_box=start { x: 1 }'],
        ['--eval_request', '--eval_labels', '--eval_steps', 'together'],
    ),
    (['--eval_steps=3'], ['--eval_request', '--eval_box', 'together']),
    (['--precision=half'], ['--precision', 'half', 'float32, bfloat16, float16']),
    (['--augmentation={"bend": {}}'], ['--augmentation', 'bend', 'rotation_2d']),
    (['--augmentation=nofile.json'], ['--augmentation', 'nofile.json', 'no file']),
    (['--augmentation=volume.h5'], ['--augmentation', 'volume.h5']),
    (['--volume_weights=v'], ['--volume_weights', "'v'", 'name:share']),
    (['--volume_weights=w:1'], ['--volume_weights', 'w', '--data_volumes']),
    (['--volume_weights=v:-1'], ['--volume_weights', '-1']),
    (['--loss_weight_volumes=v:nofile.h5:w'], ['nofile.h5']),
    (['--loss_weight_volumes=w:volume.h5:raw'], ['--loss_weight_volumes', 'w', '--data_volumes']),
    (['--loss_weight_volumes=v:volume.h5:small'], ['loss weights', '23', '24']),
    (['--loss_weight_volumes=v'], ['--loss_weight_volumes', 'name:path:dataset']),
    (['--voxel_size=1,2'], ['--voxel_size', '1,2', 'x,y,z']),
    (['--voxel_size=1,2,thick'], ['--voxel_size', '1,2,thick']),
    (['--voxel_size=1,2,0'], ['--voxel_size', 'positive']),
    (['--strategy=tpu'], ['--strategy', 'tpu', 'mirrored']),
    (['--init_checkpoint=none', '--train_dir=new'], ['none', 'checkpoint']),
    (['--learning_rate_schedule=cosine'], ['cosine', '--decay_steps']),
    (['--learning_rate_schedule=linear'], ['linear', 'exponential, cosine']),
    (['--ema_decay=1'], ['--ema_decay', '1']),
    (['--train_coords=c@2'], ['c-00001-of-00002', 'after 9 records', '--skip_corrupt_records']),
    (['--train_coords=empty'], ['empty', '--skip_corrupt_records']),
    (['--train_coords=elsewhere.tfrecord'], ["'w'", '--data_volumes', '--label_volumes', 'v']),
    (['--train_coords=outside.tfrecord'], ['out of bounds', '--margin']),
    (['--learning_rate=1e38', '--train_dir=far'], ['loss is', 'at step', '--learning_rate']),
]


def write_shards(folder: Path) -> None:
    """Two files, the second of which is cut in its tenth record."""
    sample.write_coordinates(folder / 'c-00000-of-00002', sample.CENTERS_XYZ[:20])
    sample.write_coordinates(folder / 'c-00001-of-00002', sample.CENTERS_XYZ[20:30])
    cut = folder / 'c-00001-of-00002'
    cut.write_bytes(cut.read_bytes()[:-12])


def test_mistakes_get_one_line(repository, folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['float'] = np.zeros(sample.SHAPE_ZYX, np.float32)
        file['small'] = np.zeros((23, 28, 34), np.int32)
        file['flat'] = np.zeros((24, 28), np.int32)
    write_shards(folder)
    (folder / 'empty').touch()
    sample.write_coordinates(folder / 'elsewhere.tfrecord', sample.CENTERS_XYZ, 'w')
    sample.write_coordinates(folder / 'outside.tfrecord', [(1, 1, 1)])
    before = (folder / 'volume.h5').read_bytes()
    cases = [[*ARGS, *arguments] for arguments, _ in MISTAKES]
    results = call_many(repository, folder, 'train', cases)
    for (arguments, words), (status, errors) in zip(MISTAKES, results):
        check_one_line(status, errors, *words, what=arguments)
    assert (folder / 'volume.h5').read_bytes() == before
    assert not list(folder.glob('*/*.index'))


def test_a_mistake_ends_with_status_1(repository, folder):
    done = run(repository, folder, *ARGS, '--fov_policy=random')
    check_one_line(done.returncode, done.stderr, '--fov_policy', what='random')


ALL_FLAGS = {
    'augmentation': 'augmentation.json',
    'volume_weights': 'v:2',
    'loss_weight_volumes': 'v:volume.h5:weights',
    'optimizer': 'adamw',
    'weight_decay': '0.01',
    'learning_rate': '0.02',
    'learning_rate_schedule': 'cosine',
    'decay_steps': '10',
    'learning_rate_decay_factor': '0.1',
    'warmup_steps': '6',
    'ema_decay': '0.9',
    'precision': 'bfloat16',
    'fov_policy': 'window',
    'fov_window_radius': '2',
    'gradient_clip_value': '0.5',
    'gradient_clip_norm': '1',
    'unrolled_steps': '2',
    'voxel_size': '8,8,33',
    'init_checkpoint': 'model',
    'strategy': 'one_device',
    'skip_corrupt_records': 'true',
    'image_offset_scale_map': 'v:130:40',
    'seed': '3',
    'max_steps': '8',
    'summary_rate_secs': '0',
    'train_dir': 'all',
}
REQUEST = """
image { hdf5: "volume.h5:raw" }
seed_policy: "PolicyPeaks"
inference_options { min_boundary_dist { x: 1 y: 1 z: 1 } segment_threshold: 0.6 }
"""
BOX = 'start { x: 2 y: 2 z: 2 } size { x: 30 y: 24 z: 20 }'


class Runs:
    """Runs of one process: loading TensorFlow takes seconds."""

    def __init__(self, repository: Path, folder: Path):
        sample.write_sample(folder)
        with h5py.File(folder / 'volume.h5', 'a') as file:
            file['weights'] = np.where(sample.labels() == 7, np.float32(2), np.float32(0.5))
        augmentation = (
            '{"comment": "all", "voxel_size": [8, 8, 33], "rotation_2d": {}, "noise": {}}'
        )
        (folder / 'augmentation.json').write_text(augmentation)
        write_shards(folder)
        self.repository, self.folder = repository, folder
        cases = {
            'model': [],
            'all': [f'--{name}={value}' for name, value in ALL_FLAGS.items()],
            'skipping': ['--train_coords=c@2', '--skip_corrupt_records', '--train_dir=skipping'],
            'evaluated': [
                f'--eval_request={REQUEST}',
                '--eval_labels=volume.h5:labels',
                f'--eval_box={BOX}',
                '--eval_steps=2',
                '--train_dir=evaluated',
            ],
        }
        results = call_many(repository, folder, 'train', [[*ARGS, *c] for c in cases.values()])
        self.results = dict(zip(cases, results))

    def check(self, name: str) -> None:
        status, errors = self.results[name]
        assert status == 0, errors


@pytest.fixture(scope='module')
def runs(repository, tmp_path_factory):
    return Runs(repository, tmp_path_factory.mktemp('runs'))


def test_every_flag_of_training_has_its_effect(runs):
    runs.check('all')
    folder = runs.folder / 'all'
    settings = json.loads((folder / 'model.json').read_text())
    assert settings['precision'] == 'bfloat16'
    assert settings['voxel_size'] == [8, 8, 33]
    assert settings['image_offset_scale'] == {'v': [130, 40]}
    rates = read_events(folder)['learning_rate']
    assert len(rates) == 4
    for step, rate in rates.items():  # of the step after
        part = 0.1 + 0.9 * (1 + math.cos(math.pi * step / 10)) / 2
        assert rate == pytest.approx(0.02 * part * min((step + 1) / 6, 1), rel=1e-4)
    stored = checkpoints.read_variables(folder)
    first = checkpoints.read_variables(runs.folder / 'model')
    names = [name for name in first if name.startswith('seed_update/')]
    assert len(names) == 2 * 5
    for name in names:
        # Eight steps of Adam go no further.
        assert np.abs(stored[name] - first[name]).max() < 8 * 0.021
        assert stored[name].dtype == stored[f'ema/{name}'].dtype == np.float32
        assert not np.array_equal(stored[name], stored[f'ema/{name}'])
    saved = (folder / 'train.flags').read_text().splitlines()
    assert '--augmentation=augmentation.json' in saved
    assert '--fov_window_radius=2' in saved


def test_the_checkpoint_is_segmented_with_what_training_left(runs):
    runs.check('all')
    cases = []
    for name, more in (('plain', ''), ('averaged', 'use_ema: true')):
        request = f'{REQUEST} model_checkpoint_path: "all" segmentation_output_dir: "{name}" {more}'
        cases.append([f'--inference_request={request}', f'--bounding_box={BOX}'])
    for status, errors in call_many(runs.repository, runs.folder, 'run_inference', cases):
        assert status == 0, errors
    requests = []
    for name in ('plain', 'averaged'):
        found, _ = storage.load_segmentation(runs.folder / name, (2, 2, 2))
        assert found.shape == (20, 24, 30)
        path = storage.subvolume_path(runs.folder / name, (2, 2, 2), 'npz')
        with np.load(path, allow_pickle=False) as members:
            requests.append(inference_pb2.InferenceRequest.FromString(members['request'].item()))
    assert [request.use_ema for request in requests] == [False, True]
    for request in requests:
        assert request.model_name == sample.MODEL
        assert json.loads(request.model_args) == sample.MODEL_ARGS
        assert (request.image_mean, request.image_stddev) == (140, 50)
        assert request.inference_options.pad_value == pytest.approx(0.05)
        assert request.voxel_size.z == 33


def test_a_held_out_box_is_scored_while_training(runs):
    runs.check('evaluated')
    shown = read_events(runs.folder / 'evaluated')
    scores = {tag: values for tag, values in shown.items() if tag.startswith('heldout/')}
    assert 'heldout/rand_error' in scores
    for values in scores.values():
        assert list(values) == [2, 4]
        assert np.isfinite(list(values.values())).all()
    kept = {path.stem for path in (runs.folder / 'evaluated').glob('*.index')}
    assert kept == {'model.ckpt-2', 'model.ckpt-4', 'model.ckpt-5'}


def test_with_a_damaged_shard_it_trains_if_it_may(runs):
    runs.check('skipping')
    assert checkpoints.latest_checkpoint(runs.folder / 'skipping').endswith('-5')


@pytest.mark.slow
def test_stopped_and_resumed_it_ends_bit_for_bit_as_uncut(repository, folder):
    arguments = [
        *ARGS,
        '--fov_policy=max_pred_moves',
        '--optimizer=adam',
        '--learning_rate=0.01',
        '--ema_decay=0.9',
        '--augmentation={"noise": {}, "rotation_2d": {}}',
    ]
    process = subprocess.Popen(
        command(
            repository, *arguments, '--max_steps=1000000', '--checkpoint_steps=3', '--train_dir=cut'
        ),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    kill_after(process, folder / 'cut' / 'model.ckpt-3.index', signal.SIGTERM, 60)
    assert process.returncode == 0, process.stderr.read()
    last = checkpoints.latest_checkpoint(folder / 'cut')
    end = int(last.rpartition('-')[2]) + 9
    cases = [[*arguments, f'--max_steps={end}', f'--train_dir={name}'] for name in ('cut', 'whole')]
    for status, errors in call_many(repository, folder, 'train', cases):
        assert status == 0, errors
    paths = [f'{folder}/{name}/model.ckpt-{end}' for name in ('cut', 'whole')]
    for read in (checkpoints.read_variables, lambda p: read_input_state(p, 0, 1)):
        cut, whole = map(read, paths)
        assert set(cut) == set(whole)
        for name, value in whole.items():
            np.testing.assert_array_equal(cut[name], value, err_msg=name)
