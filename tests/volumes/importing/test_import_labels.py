"""Labels of other programs to HDF5."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from ffn.cli import import_labels as cli_import_labels
from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx
from ffn.volumes.importing import import_labels as importing
from ffn.volumes.importing import label_sources
from tests.real_data import training2_labels

SHAPE_ZYX = (9, 12, 17)
SUPERVOXELS = np.random.default_rng(1).integers(0, 40, SHAPE_ZYX)


def make_transforms(dtype=np.int64, scale: int = 1) -> np.ndarray:
    """Pairs for supervoxels 0..39 in disorder, three of them per body."""
    ids = np.random.default_rng(2).permutation(40)
    return np.stack([ids, (ids + 2) // 3 * scale], axis=1).astype(dtype)


def write(path: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(path, 'w') as file:
        for name, data in datasets.items():
            file[name] = data
    return path


def imported(tmp_path: Path, source: Path, *arguments: str) -> np.ndarray:
    cli_import_labels.main(
        ['--input', str(source), '--output', f'{tmp_path}/out.h5:labels', *arguments]
    )
    with h5py.File(tmp_path / 'out.h5', 'r') as file:
        assert file['labels'].compression == 'gzip'
        return file['labels'][:]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(label_sources, '_BLOCK_ZYX', Zyx(4, 5, 7))


@pytest.mark.parametrize('stored', [np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize(
    ('scale', 'expected'), [(1, np.uint8), (1000, np.uint16), (2**40, np.uint64)]
)
@pytest.mark.parametrize('packed', [False, True])
def test_neuroproof(tmp_path, stored, scale, expected, packed):
    pairs = make_transforms(scale=scale)
    source = write(tmp_path / 'in.h5', stack=SUPERVOXELS.astype(stored), transforms=pairs)
    if packed:
        packed_path = tmp_path / 'in.h5.gz'
        packed_path.write_bytes(gzip.compress(source.read_bytes()))
        source.unlink()
        source = packed_path
    result = imported(tmp_path, source)
    body = dict(pairs.tolist())
    brute = np.array([body[s] for s in SUPERVOXELS.ravel().tolist()]).reshape(SHAPE_ZYX)
    assert result.dtype == expected
    np.testing.assert_array_equal(result, brute)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source.name, 'out.h5'])


def test_ids_up_to_the_last_of_uint64(tmp_path):
    top = 2**64 - 1
    pairs = np.array([[top, top - 1], [5, 6]], np.uint64)
    stack = np.array([top, 5, 0], np.uint64).reshape(1, 1, 3)
    source = write(tmp_path / 'in.h5', stack=stack, transforms=pairs)
    assert imported(tmp_path, source).ravel().tolist() == [top - 1, 6, 0]


@pytest.mark.parametrize('dtype', [np.int8, np.uint16, np.int32, np.uint64])
def test_plain_labels(tmp_path, dtype):
    labels = (SUPERVOXELS % 25).astype(dtype)
    source = write(tmp_path / 'in.h5', volume=labels, image=labels.astype(np.float32))
    result = imported(tmp_path, source)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, labels)


def test_dataset_is_taken_as_it_is(tmp_path):
    source = write(tmp_path / 'in.h5', stack=SUPERVOXELS, transforms=make_transforms())
    result = imported(tmp_path, source, '--dataset', 'stack', '--quiet')
    np.testing.assert_array_equal(result, SUPERVOXELS)


def test_negative_labels_become_background(tmp_path, caplog):
    source = write(tmp_path / 'in.h5', labels=SUPERVOXELS - 3)
    result = imported(tmp_path, source)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.maximum(SUPERVOXELS - 3, 0))
    number = (SUPERVOXELS < 3).sum()
    assert f'{number} of {SUPERVOXELS.size} voxels' in caplog.text


def test_one_channel_and_bool(tmp_path):
    source = write(tmp_path / 'in.h5', labels=(SUPERVOXELS > 20)[np.newaxis])
    np.testing.assert_array_equal(imported(tmp_path, source), SUPERVOXELS > 20)


def test_into_its_own_file(tmp_path):
    source = write(tmp_path / 'out.h5', stack=SUPERVOXELS, transforms=make_transforms())
    imported(tmp_path, source)
    with h5py.File(source, 'r') as file:
        assert set(file) == {'stack', 'transforms', 'labels'}
        np.testing.assert_array_equal(file['stack'][:], SUPERVOXELS)


@pytest.mark.parametrize(
    ('datasets', 'arguments', 'message'),
    [
        (
            {'stack': SUPERVOXELS, 'transforms': make_transforms()[1:]},
            [],
            'lists no body for supervoxel ',
        ),
        (
            {'stack': SUPERVOXELS, 'transforms': np.zeros((0, 2), int)},
            [],
            'no body for supervoxel 1;',
        ),
        (
            {
                'stack': np.full((3, 4, 5), 2**32 + 5, np.uint64),
                'transforms': np.array([[5, 7]], np.int32),
            },
            [],
            'no body for supervoxel 4294967301',
        ),
        (
            {'stack': SUPERVOXELS, 'transforms': make_transforms().T},
            [],
            'of shape (2, 40); expected',
        ),
        ({'stack': SUPERVOXELS, 'transforms': make_transforms(float)}, [], 'is float64 of shape'),
        ({'stack': SUPERVOXELS, 'transforms': np.array([[1, 2], [1, 3]])}, [], 'supervoxel 1 two'),
        ({'a': SUPERVOXELS, 'b': SUPERVOXELS}, [], '2 datasets that can be labels; choose one'),
        ({'a': SUPERVOXELS.astype(float)}, [], '0 datasets that can be labels'),
        ({'a': SUPERVOXELS.astype(float)}, ['--dataset', 'a'], 'labels must be integers'),
        ({'a': SUPERVOXELS}, ['--dataset', 'b'], "no dataset 'b'; it holds a (9, 12, 17)"),
        ({'a': SUPERVOXELS[0]}, ['--dataset', 'a'], 'expected 3-d'),
        ({'a': np.stack([SUPERVOXELS] * 2)}, [], '2 channels; expected one'),
    ],
)
def test_errors(tmp_path, datasets, arguments, message):
    source = write(tmp_path / 'in.h5', **datasets)
    with pytest.raises(UserError) as caught:
        imported(tmp_path, source, *arguments)
    assert message in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ['in.h5']


@pytest.mark.parametrize(
    ('source', 'arguments', 'message'),
    [
        ('in.h5:a', ['--dataset', 'b'], '--dataset b contradicts --input, which names a of'),
        ('in.h5:c#0', ['--channel', '1'], '--channel 1 contradicts --input, which names 0 of'),
        ('*.png', ['--dataset', 'a'], 'names images'),
        ('s.png', ['--dataset', 'a'], '--dataset a is for files that hold datasets'),
    ],
)
def test_flags_that_are_of_no_use_or_contradict_the_input(tmp_path, source, arguments, message):
    write(tmp_path / 'in.h5', a=SUPERVOXELS, b=SUPERVOXELS, c=np.stack([SUPERVOXELS] * 2))
    Image.fromarray(SUPERVOXELS[0].astype(np.uint8)).save(tmp_path / 's.png')
    with pytest.raises(UserError, match=re.escape(message)):
        imported(tmp_path, tmp_path / source, *arguments)
    assert not (tmp_path / 'out.h5').exists()


def test_flags_that_say_what_the_input_says(tmp_path):
    source = write(tmp_path / 'in.h5', a=np.stack([SUPERVOXELS, SUPERVOXELS + 1]), b=SUPERVOXELS)
    more = '--channel', '1', '--dataset', 'a'
    np.testing.assert_array_equal(imported(tmp_path, f'{source}:a#1', *more), SUPERVOXELS + 1)


def test_what_is_not_labelled_is_outside_of_objects_with_transforms_too(tmp_path):
    labels = np.full((3, 4, 9), 1, np.int32)
    labels[..., 4], labels[..., 7:] = 2, -1
    source = write(tmp_path / 'in.h5', stack=labels, transforms=np.array([[1, 3], [2, 5]]))
    result = imported(tmp_path, source, '--instances', 'membrane:5')
    np.testing.assert_array_equal(result[1, 1], [1, 1, 1, 1, 0, 2, 2, 0, 0])


def test_a_channel_of_several(tmp_path):
    source = write(tmp_path / 'in.h5', a=np.stack([SUPERVOXELS, SUPERVOXELS + 1]))
    for more in (['--channel', '1'], []):
        name = source if more else f'{source}:a#1'
        np.testing.assert_array_equal(imported(tmp_path, name, *more), SUPERVOXELS + 1)
    for wrong in ('2', '-1'):
        with pytest.raises(UserError, match=f'has 2 channels; channel {wrong} is asked for'):
            imported(tmp_path, source, '--channel', wrong)


@pytest.mark.parametrize('keep', [5, 0.5, 0.999])
def test_truncated_gzip(tmp_path, keep):
    data = gzip.compress(write(tmp_path / 'in.h5', a=SUPERVOXELS).read_bytes())
    source = tmp_path / 'in.h5.gz'
    source.write_bytes(data[: keep if keep > 1 else int(len(data) * keep)])
    with pytest.raises(UserError, match=r'in\.h5\.gz is no whole gzip file'):
        imported(tmp_path, source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['in.h5', 'in.h5.gz']


def test_command_line(repository, tmp_path):
    """One line on success, one line on failure, and no TensorFlow."""
    source = write(tmp_path / 'in.h5', stack=SUPERVOXELS, transforms=make_transforms())

    def run(name: str):
        return subprocess.run(
            [
                sys.executable,
                '-X',
                'importtime',
                '-m',
                'ffn.utils.import_labels',
                '--input',
                name,
                '--output',
                'out.h5:labels',
            ],
            cwd=tmp_path,
            env={'PYTHONPATH': str(repository)},
            capture_output=True,
            text=True,
            check=False,
        )

    good = run(source.name)
    assert good.returncode == 0, good.stderr
    assert good.stdout == 'out.h5:labels: uint8 x,y,z 17,12,9, 14 labels, with background 0\n'
    assert 'tensorflow' not in good.stderr
    bad = run('missing.h5')
    assert bad.returncode == 1
    assert bad.stderr.splitlines()[-1] == 'error: no such file: missing.h5'
    assert 'Traceback' not in bad.stderr


def test_sample_volume(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(label_sources, '_BLOCK_ZYX', Zyx(64, 512, 512))
    source = data_dir / 'fib25' / 'training_sample2' / 'groundtruth.h5.gz'
    result = imported(tmp_path, source)
    assert result.dtype == np.uint32
    np.testing.assert_array_equal(result, training2_labels(data_dir))
    _, counts = np.unique(result, return_counts=True)
    assert len(counts) == 526
    assert (counts >= 10000).sum() == 93


def test_ids_of_many_blocks_are_not_sorted_again_for_every_block(tmp_path, monkeypatch):
    labels = np.arange(1, 1 + 12 * 20 * 35, dtype=np.uint16).reshape(12, 20, 35)
    rows, unique = 0, importing.fastremap.unique

    def counted(ids):
        nonlocal rows
        rows += ids.size
        return unique(ids)

    monkeypatch.setattr(importing.fastremap, 'unique', counted)
    monkeypatch.setattr(importing, '_MAX_IDS', 100, raising=False)
    source = write(tmp_path / 'in.h5', labels=labels)
    np.testing.assert_array_equal(imported(tmp_path, source), labels)
    assert rows < 6 * labels.size
