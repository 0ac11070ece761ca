"""train.py as a user calls it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.training import checkpoints
from tests.calls import call_many, check_one_line
from tests.events import read_events
from tests.training import sample

ARGS = (
    '--train_coords=coordinates.tfrecord', '--data_volumes=v:volume.h5:raw',
    '--label_volumes=v:volume.h5:labels', f'--model_name={sample.MODEL}',
    f'--model_args={json.dumps(sample.MODEL_ARGS)}', '--image_mean=140', '--image_stddev=50',
    '--train_dir=model', '--batch_size=2', '--max_steps=5',
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    sample.write_sample(tmp_path)
    return tmp_path


def command(repository: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(repository / 'train.py'), *arguments]


def run(repository: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(repository, *arguments), cwd=folder, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


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
    done = run(repository, folder, *ARGS, '--optimizer=adam', '--fov_policy=max_pred_moves',
               '--image_offset_scale_map=v:130:40')  # fmt: skip
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


def test_killed_it_goes_on_from_its_last_checkpoint(repository, folder):
    arguments = (*ARGS, '--max_steps=1000000', '--checkpoint_steps=3', '--summary_rate_secs=0.2')
    process = subprocess.Popen(
        command(repository, *arguments), cwd=folder, stderr=subprocess.PIPE, text=True
    )
    kill_after(process, folder / 'model' / 'model.ckpt-9.index', signal.SIGKILL, 60)
    assert process.returncode == -signal.SIGKILL
    last = checkpoints.latest_checkpoint(folder / 'model')
    step = int(last.rpartition('-')[2])
    assert step >= 9
    assert step % 3 == 0
    done = run(repository, folder, *ARGS, f'--max_steps={step + 2}')
    assert done.returncode == 0, done.stderr
    assert f'going on from {Path(last).relative_to(folder)}, step {step}' in done.stderr
    assert checkpoints.latest_checkpoint(folder / 'model').endswith(f'-{step + 2}')
    assert step + 2 in steps_of_events(folder / 'model')


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
    (['--image_offset_scale_map=w:1:2'], ['w', '--data_volumes']),
    (['--train_dir=volume.h5'], ['volume.h5']),
]


def test_mistakes_get_one_line(repository, folder):
    with h5py.File(folder / 'volume.h5', 'a') as file:
        file['float'] = np.zeros(sample.SHAPE_ZYX, np.float32)
        file['small'] = np.zeros((23, 28, 34), np.int32)
        file['flat'] = np.zeros((24, 28), np.int32)
    before = (folder / 'volume.h5').read_bytes()
    cases = [[*ARGS, *arguments] for arguments, _ in MISTAKES]
    results = call_many(repository, folder, 'train', cases)
    for (arguments, words), (status, errors) in zip(MISTAKES, results):
        check_one_line(status, errors, *words, what=arguments)
    assert (folder / 'volume.h5').read_bytes() == before


def test_a_mistake_ends_with_status_1(repository, folder):
    done = run(repository, folder, *ARGS, '--fov_policy=random')
    check_one_line(done.returncode, done.stderr, '--fov_policy', what='random')
