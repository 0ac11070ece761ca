"""compute_partitions.py and build_coordinates.py as a user calls them."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tests.calls import call_many, check_one_line, run_python
from tests.real_data import PARTITION_COUNTS, THRESHOLDS, training2_labels


@pytest.fixture
def run(repository: Path, tmp_path: Path):
    """Calls a script in tmp_path; returns the finished process, its stderr in `.stderr`."""

    def call(script: str, *arguments: str, python: tuple[str, ...] = (), **options):
        return run_python(
            tmp_path, *python, str(repository / script), *arguments, timeout=120, **options
        )

    return call


@pytest.fixture
def labels(tmp_path: Path) -> np.ndarray:
    """Two objects and dust, [z, y, x] of sides that differ; in labels.h5 beside an image."""
    array = np.zeros((14, 17, 22), np.uint64)
    array[2:12, 3:9, 4:19] = 2**40
    array[1:13, 10:16, 2:20] = 7
    array[0, 0, :3] = 5
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file['stack'] = array
        file['image'] = array.astype(np.float32)
    return array


def one_line(process: subprocess.CompletedProcess) -> str:
    """The message of a run that failed as it should."""
    assert process.returncode == 1, process.stderr
    assert 'Traceback' not in process.stderr
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith('error: ')
    return lines[0]


COMPUTE = (
    '--input_volume=labels.h5:stack',
    '--output_volume=labels.h5:af',
    '--thresholds=0.2,0.5,0.8',
    '--lom_radius=3,1,2',
    '--min_size=10',
)


def test_both_stages(run, labels, tmp_path):
    (tmp_path / 'masks.pbtxt').write_text(
        'masks { coordinate_expression { expression: "z > 10" } }'
    )
    computed = run(
        'compute_partitions.py',
        *COMPUTE,
        '--id_whitelist=7',
        '--exclusion_regions=9,12,5,1.5',
        '--mask_configs=masks.pbtxt',
        python=('-X', 'importtime'),
    )
    assert computed.returncode == 0, computed.stderr
    assert 'ffn.training.sampling.partitions' in computed.stderr
    assert 'tensorflow' not in computed.stderr
    assert 'keras' not in computed.stderr
    with h5py.File(tmp_path / 'labels.h5') as file:
        assert set(file) == {'stack', 'image', 'af'}
        partitions = file['af'][:]
        np.testing.assert_array_equal(
            file['af'].attrs['partition_counts'],
            np.unique(partitions[2:-2, 1:-1, 3:-3], return_counts=True),
        )
    assert partitions[5, 12, 9] == partitions[5, 13, 10] == 255  # the sphere
    assert (partitions[9:] == 255).all()  # the mask, 2 voxels early, and the border
    assert partitions[6, 5, 10] == 0  # not whitelisted
    assert partitions[6, 13, 14] == 4  # its box holds label 7 only

    built = run(
        'build_coordinates.py',
        '--partition_volumes=train:labels.h5:af',
        '--margin=0,0,0',
        '--coordinate_output=out/coordinates',
        '--seed=1',
        '--shards=2',
        '--max_coordinates=500',
        '--quiet',
        python=('-X', 'importtime'),
    )
    assert built.returncode == 0, built.stderr
    assert 'tensorflow' not in built.stderr
    shards = [str(tmp_path / f'out/coordinates-0000{i}-of-00002') for i in range(2)]
    assert sorted(map(str, (tmp_path / 'out').iterdir())) == shards
    drawn = []
    for record in tf.data.TFRecordDataset(shards, compression_type='GZIP'):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        x, y, z = feature['center'].int64_list.value
        assert feature['label_volume_name'].bytes_list.value == [b'train']
        drawn.append(partitions[z, y, x])
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == sorted(set(np.unique(partitions)) - {255})
    assert len(set(counts)) == 1
    assert 500 - len(values) < len(drawn) <= 500


def test_sample_volume_within_memory(repository, data_dir, tmp_path):
    with h5py.File(tmp_path / 'labels.h5', 'w') as file:
        file.create_dataset('stack', data=training2_labels(data_dir), chunks=(64, 64, 64))
    thresholds = ','.join(map(str, THRESHOLDS))
    with open(tmp_path / 'log', 'w') as log:
        process = subprocess.Popen(
            [
                sys.executable,
                str(repository / 'compute_partitions.py'),
                '--input_volume=labels.h5:stack',
                '--output_volume=p.h5:af',
                f'--thresholds={thresholds}',
                '--lom_radius=24,24,24',
                '--min_size=10000',
            ],
            cwd=tmp_path,
            stderr=log,
        )
        peak_kilobytes = 0
        while process.poll() is None:
            # Of this process alone: ru_maxrss of a child counts the parent that it came from.
            status = Path(f'/proc/{process.pid}/status').read_text()
            peak_kilobytes = max([peak_kilobytes, *map(int, re.findall(r'VmHWM:\s*(\d+)', status))])
            time.sleep(0.01)
    assert process.returncode == 0, (tmp_path / 'log').read_text()
    with h5py.File(tmp_path / 'p.h5') as file:
        values, counts = file['af'].attrs['partition_counts']
    assert values.tolist() == list(range(14))
    assert tuple(counts.tolist()) == PARTITION_COUNTS
    assert 100_000 < peak_kilobytes <= 700_000


def check_mistakes(
    repository: Path, folder: Path, script: str, mistakes: Mapping[str, str], *arguments: str
) -> None:
    """Checks that a mistake in a command line gets one line and leaves the folder as it is.

    Args:
      repository: where the script is.
      folder: with labels.h5 alone.
      script: its name without .py.
      mistakes: wrong flag → part of the message.
      *arguments: flags without a mistake.
    """
    before = (folder / 'labels.h5').read_bytes()
    results = call_many(repository, folder, script, [[*arguments, wrong] for wrong in mistakes])
    for (wrong, message), (status, errors) in zip(mistakes.items(), results, strict=True):
        check_one_line(status, errors, message, what=wrong)
        assert len(errors.splitlines()) == 1, (wrong, errors)
    assert (folder / 'labels.h5').read_bytes() == before
    assert os.listdir(folder) == ['labels.h5']


def test_compute_partitions_errors(repository, labels, tmp_path):
    mistakes = {
        '--thresholds=0.5,0.2': 'ascending',
        '--thresholds=0.5,high': "'0.5,high'; expected a list of numbers",
        '--lom_radius=3,1,7': 'x,y,z 3,1,7 (z,y,x 7,1,3) is too large',
        '--exclusion_regions=10,010,3,4': '--exclusion_regions is 010: 10 as a decimal number, but 8',
        '--exclusion_regions=1,2,3,4,5': 'has 5 numbers; expected x,y,z,r',
        '--mask_configs=masks { volumes }': '--mask_configs is not a valid MaskConfigs',
        '--input_volume=labels.h5:image': 'labels must be integers',
        '--input_volume=labels.h5:stacks': "no dataset 'stacks'; it holds",
        '--output_volume=labels.h5/under/a_file.h5:af': 'labels.h5',
    }
    check_mistakes(repository, tmp_path, 'compute_partitions', mistakes, *COMPUTE)


def test_a_stray_argument_is_refused(run, labels, tmp_path):
    assert "unexpected argument 'stray'" in one_line(
        run('compute_partitions.py', *COMPUTE, 'stray')
    )
    assert os.listdir(tmp_path) == ['labels.h5']


def test_build_coordinates_errors(repository, labels, tmp_path):
    with h5py.File(tmp_path / 'labels.h5', 'a') as file:
        file['af'] = np.ones((5, 6, 7), np.uint8)
    mistakes = {
        '--partition_volumes=labels.h5:af': 'not of the form name:path:dataset',
        '--margin=1,1': 'three integers z,y,x',
        '--margin=1,3,2': 'z,y,x 1,3,2 (x,y,z 2,3,1) leaves nothing',
        '--coordinate_output=labels.h5/c': 'labels.h5',
    }
    right = ('--partition_volumes=a:labels.h5:af', '--margin=1,1,1', '--coordinate_output=c')
    check_mistakes(repository, tmp_path, 'build_coordinates', mistakes, *right)


def full_disk() -> None:
    """Lets the process write files of at most 20 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_full_disk_loses_nothing(run, tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / 'p.h5', 'w') as file:
        file['stack'] = rng.integers(1, 9, (40, 50, 60), dtype=np.int32)
        file['af'] = rng.integers(0, 9, (40, 50, 60), dtype=np.uint8)
    (tmp_path / 'c').write_text('of an earlier run')
    before = (tmp_path / 'p.h5').read_bytes()
    built = run(
        'build_coordinates.py',
        '--partition_volumes=a:p.h5:af',
        '--coordinate_output=c',
        '--margin=1,1,1',
        '--seed=1',
        preexec_fn=full_disk,
    )
    assert 'error: ' in one_line(built)
    computed = run(
        'compute_partitions.py',
        '--input_volume=p.h5:stack',
        '--output_volume=p.h5:new',
        '--thresholds=0.1,0.2',
        '--lom_radius=1,1,1',
        preexec_fn=full_disk,
    )
    assert 'File too large' in one_line(computed)
    assert (tmp_path / 'p.h5').read_bytes() == before
    assert (tmp_path / 'c').read_text() == 'of an earlier run'
    assert sorted(os.listdir(tmp_path)) == ['c', 'p.h5']
