"""Writing HDF5: datasets appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import replaced_dataset, split_output
from ffn.volumes.volume import open_volume

RAW = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = RAW.astype(np.int64) * 1000


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path) -> Path:
    """A file with datasets and attributes on three levels."""
    with h5py.File(tmp_path / 'v.h5', 'w') as file:
        file.attrs['source'] = 'sample Ω'
        file['raw'] = RAW
        file['raw'].attrs.update(resolution=[8.0, 8.0, 33.0], text='α', empty=h5py.Empty('f4'))
        outer = file.create_group('outer')
        outer.attrs['level'] = 1
        inner = outer.create_group('inner')
        inner.attrs['level'] = 2
        inner.create_dataset('labels', data=LABELS, chunks=(1, 4, 5), compression='gzip')
        inner['labels'].attrs['bounding_boxes'] = [[[0, 0, 0], [5, 4, 3]]]
        inner['names'] = ['a', 'bc']
        outer['raw'] = RAW[::-1]
        file.create_group('nothing')
    return tmp_path / 'v.h5'


def content(path: Path) -> dict:
    """Everything a file holds: {name: (kind, data, attributes)}."""
    found = {}

    def add(name: str, item: h5py.Group | h5py.Dataset) -> None:
        data = item[()].tolist() if isinstance(item, h5py.Dataset) else None
        storage = (item.dtype, item.chunks, item.compression) if data is not None else None
        attrs = {key: repr(value) for key, value in item.attrs.items()}
        found[name] = (type(item), data, storage, attrs)

    with h5py.File(path, 'r') as file:
        add('/', file)
        file.visititems(add)
    return found


@pytest.mark.parametrize(
    'dataset',
    [
        'raw',
        '/raw',
        'outer/raw',
        'outer/inner/labels',
        '/outer/inner/labels/',
        'new',
        'outer/inner/new',
        'nothing/a/b',
        'other/a',
        'ra',
        'outer/inner/label',
    ],
)
def test_everything_else_stays(path, dataset):
    before = content(path)
    with replaced_dataset(f'{path}:{dataset}') as (file, name):
        assert name not in file
        file[name] = [7]
        file[name].attrs['new'] = 3
    after = content(path)
    assert after.pop(dataset.strip('/'))[1] == [7]
    before.pop(dataset.strip('/'), None)
    made = {name for name in after if f'/{dataset}'.startswith(f'/{name}/')} - before.keys()
    assert {name: item for name, item in after.items() if name not in made} == before
    assert names(path.parent) == ['v.h5']


@pytest.mark.parametrize('error', [ValueError, OSError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_datasets(path, error):
    def fail() -> None:
        with replaced_dataset(f'{path}:raw') as (file, name):
            file[name] = LABELS
            raise error

    before = path.read_bytes()
    with pytest.raises(error):
        fail()
    assert path.read_bytes() == before
    assert names(path.parent) == ['v.h5']


def test_the_old_file_can_be_read_meanwhile(path):
    with replaced_dataset(f'{path}:raw') as (file, name):
        with open_volume(f'{path}:raw') as old:
            file[name] = old.read(old.box) + 1
    with h5py.File(path, 'r') as file:
        np.testing.assert_array_equal(file['raw'][:], RAW + 1)


def test_links_stay_links(path):
    with h5py.File(path, 'a') as file:
        file['alias'] = h5py.SoftLink('/outer/inner/labels')
        file['outer/dangling'] = h5py.SoftLink('/absent')
        file['elsewhere'] = h5py.ExternalLink('absent.h5', '/raw')
    with replaced_dataset(f'{path}:outer/inner/labels') as (file, name):
        file[name] = [7]
    with h5py.File(path, 'r') as file:
        assert file.get('alias', getlink=True).path == '/outer/inner/labels'
        assert file['alias'][:].tolist() == [7]
        assert file.get('outer/dangling', getlink=True).path == '/absent'
        assert file.get('elsewhere', getlink=True).filename == 'absent.h5'


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        ('v.h5', "--output is 'v.h5'; expected path:dataset of an HDF5 file"),
        ('v.h5:', 'expected path:dataset'),
        (':raw', 'expected path:dataset'),
        ('zarr://v.zarr:raw', 'expected path:dataset of an HDF5 file'),
        ('.:raw', r'--output: \. is a directory; expected an HDF5 file'),
        ('v.h5:outer/inner', "--output: 'outer/inner' is a group of v.h5; expected a dataset"),
        ('v.h5:/', "--output: '/' is a group of v.h5"),
        ('text.h5:raw', 'text.h5 is not a readable HDF5 file'),
        ('v.h5:raw/new', "--output: 'raw' is a dataset of v.h5"),
        ('v.h5:outer/inner/labels/a/b', "--output: 'outer/inner/labels' is a dataset of v.h5"),
    ],
)
def test_outputs_that_cannot_be(path, monkeypatch, spec, message):
    monkeypatch.chdir(path.parent)
    Path('text.h5').write_text('hello')
    before = path.read_bytes()
    with pytest.raises(UserError, match=message), replaced_dataset(spec, '--output'):
        pytest.fail('entered')
    assert path.read_bytes() == before
    assert names(path.parent) == ['text.h5', 'v.h5']


@pytest.mark.parametrize('name', ['a//b', './a/./b', '/a/b/'])
def test_another_way_to_write_a_name_is_the_same_dataset(tmp_path, name):
    for value in (1, 2):
        with replaced_dataset(f'{tmp_path}/v.h5:{name}') as (file, plain):
            file[plain] = [value]
    assert content(tmp_path / 'v.h5')['a/b'][1] == [2]


def test_split_output_keeps_colons_of_the_path():
    assert split_output('/d:1/a:b.h5:g/raw', '--output') == ('/d:1/a:b.h5', 'g/raw')


@pytest.mark.parametrize(('mask', 'mode'), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with replaced_dataset(f'{tmp_path}/v.h5:raw') as (file, name):
            file[name] = RAW
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / 'v.h5').stat().st_mode) == mode


@pytest.mark.parametrize('below', ['file/new', 'file/folder/new'])
def test_a_place_where_no_file_can_be(tmp_path, below):
    (tmp_path / 'file').write_bytes(b'old')
    told = f'{tmp_path}/file is not a folder$'
    with (
        pytest.raises(UserError, match=told),
        replaced_dataset(f'{tmp_path}/{below}:raw'),
    ):
        pytest.fail('entered')
    assert names(tmp_path) == ['file']
    assert (tmp_path / 'file').read_bytes() == b'old'


WRITES = """
import sys, time
from ffn.volumes.hdf5 import replaced_dataset
with replaced_dataset(sys.argv[1]) as (file, name):
    file[name] = [1, 2]
    print('writing', flush=True)
    time.sleep(float(sys.argv[2]))
"""


def test_two_write_to_one_hdf5_file(tmp_path, repository):
    """Both datasets are there afterwards, and nothing of a third one that was killed."""
    path = tmp_path / 'a.h5'

    def start(name, seconds):
        return subprocess.Popen(
            [sys.executable, '-c', WRITES, f'{path}:{name}', str(seconds)],
            cwd=repository,
            stdout=subprocess.PIPE,
        )

    killed = start('c', 600)
    assert killed.stdout.readline() == b'writing\n'
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob('.a.h5.*.tmp'))) == 1
    first = start('a', 1)
    assert first.stdout.readline() == b'writing\n'
    second = start('b', 0)
    assert [first.wait(60), second.wait(60)] == [0, 0]
    with h5py.File(path) as file:
        assert sorted(file) == ['a', 'b']
    assert [p.name for p in tmp_path.iterdir()] == ['a.h5']
    for process in (first, second):
        process.stdout.close()


# A full disk: no file may grow beyond a limit, in a process of its own.

FULL = """
import resource, signal, sys
import numpy as np
from ffn.utils.errors import run_tool
from ffn.volumes.hdf5 import replaced_dataset

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0).integers(0, 255, (40, 100, 200), np.uint8)

def whole(argv):
    with replaced_dataset('v.h5:new') as (file, name):
        file[name] = noise

def chunks(argv):
    with replaced_dataset('v.h5:new') as (file, name):
        new = file.create_dataset(name, noise.shape, 'u1', chunks=(8, 100, 200), compression='gzip')
        for z in range(0, 40, 8):
            new[z : z + 8] = noise[z : z + 8]

run_tool({what})
"""


@pytest.mark.parametrize('what', ['whole', 'chunks'])
def test_full_disk(path, repository, what):
    before = path.read_bytes()
    shown = subprocess.run(
        [sys.executable, '-c', FULL.format(what=what)],
        cwd=path.parent,
        env={'PYTHONPATH': str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert path.read_bytes() == before
    assert names(path.parent) == ['v.h5']
    assert shown.returncode == 1, shown.stderr
    assert shown.stderr.startswith('error: ')
    assert 'File too large' in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
