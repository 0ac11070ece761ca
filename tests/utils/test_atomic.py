"""Files and datasets appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.volumes.hdf5 import replaced_dataset, split_output
from ffn.volumes.volume import open_volume

RAW = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = RAW.astype(np.int64) * 1000


class Interrupted(BaseException):
    """Neither Exception nor OSError, as KeyboardInterrupt is."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_there_when_the_block_is_left(tmp_path):
    path = tmp_path / 'a' / 'b' / 'file.npz'
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent  # a rename cannot leave the file system
        assert temporary.read_bytes() == b''
        temporary.write_bytes(b'new')
        assert not path.exists()
    assert path.read_bytes() == b'new'
    assert names(path.parent) == ['file.npz']
    with atomic_path(str(path)) as temporary:
        temporary.write_bytes(b'newer')
        assert path.read_bytes() == b'new'
    assert path.read_bytes() == b'newer'
    assert names(path.parent) == ['file.npz']


def fail_in_block(path: Path, error: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(b'half')
        raise error


@pytest.mark.parametrize('error', [ValueError, OSError, KeyboardInterrupt, Interrupted])
@pytest.mark.parametrize('there', [True, False])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, there):
    path = tmp_path / 'file'
    if there:
        path.write_bytes(b'old')
    with pytest.raises(error):
        fail_in_block(path, error)
    assert names(tmp_path) == (['file'] if there else [])
    if there:
        assert path.read_bytes() == b'old'


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / 'file'
    with atomic_path(path) as first, atomic_path(path) as second:
        assert first != second
        first.write_bytes(b'first')
        second.write_bytes(b'second')
    assert path.read_bytes() == b'first'  # the outer block ends last
    assert names(tmp_path) == ['file']


def test_links_are_followed(tmp_path):
    (tmp_path / 'here').mkdir()
    (tmp_path / 'file').write_text('old')
    (tmp_path / 'here' / 'link').symlink_to('../file')
    with atomic_path(tmp_path / 'here' / 'link') as temporary:
        temporary.write_text('new')
    assert (tmp_path / 'file').read_text() == 'new'
    assert (tmp_path / 'here' / 'link').is_symlink()


def test_a_file_that_may_not_be_written_stays(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_text('old')
    # What os.access tells whoever is not root of a file of mode 444.
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with pytest.raises(PermissionError, match='may not be written'), atomic_path(path):
        pytest.fail('the block is entered')
    assert path.read_text() == 'old'


@pytest.mark.parametrize(('mask', 'mode'), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with atomic_path(tmp_path / 'file'):
            pass
        with replaced_dataset(f'{tmp_path}/v.h5:raw') as (file, name):
            file[name] = RAW
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize('below', ['file/new', 'file/folder/new'])
def test_a_place_where_no_file_can_be(tmp_path, below):
    (tmp_path / 'file').write_bytes(b'old')
    with pytest.raises(OSError, match='file'), atomic_path(tmp_path / below):
        pytest.fail('entered')
    with pytest.raises(OSError, match='file'), replaced_dataset(f'{tmp_path}/{below}:raw'):
        pytest.fail('entered')
    assert names(tmp_path) == ['file']
    assert (tmp_path / 'file').read_bytes() == b'old'


def test_a_folder_in_the_way_stays(tmp_path):
    (tmp_path / 'folder' / 'inside').mkdir(parents=True)
    with pytest.raises(OSError, match='folder'), atomic_path(tmp_path / 'folder') as temporary:
        temporary.write_bytes(b'new')
    assert names(tmp_path) == ['folder']
    assert names(tmp_path / 'folder') == ['inside']


# Datasets.


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
    'dataset', ['raw', '/raw', 'outer/raw', 'outer/inner/labels', '/outer/inner/labels/', 'new',
                'outer/inner/new', 'nothing/a/b', 'other/a', 'ra', 'outer/inner/label'],
)  # fmt: skip
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


def test_split_output_keeps_colons_of_the_path():
    assert split_output('/d:1/a:b.h5:g/raw', '--output') == ('/d:1/a:b.h5', 'g/raw')


# A full disk: no file may grow beyond a limit, in a process of its own.

FULL = """
import resource, signal, sys
import numpy as np
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import run_tool
from ffn.volumes.hdf5 import replaced_dataset

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
noise = np.random.default_rng(0).integers(0, 255, (40, 100, 200), np.uint8)

def plain(argv):
    with atomic_path('v.h5') as temporary:
        temporary.write_bytes(noise.tobytes())

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


@pytest.mark.parametrize('what', ['plain', 'whole', 'chunks'])
def test_full_disk(path, repository, what):
    before = path.read_bytes()
    shown = subprocess.run(
        [sys.executable, '-c', FULL.format(what=what)], cwd=path.parent,
        env={'PYTHONPATH': str(repository)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert path.read_bytes() == before
    assert names(path.parent) == ['v.h5']
    assert shown.returncode == 1, shown.stderr
    assert shown.stderr.startswith('error: ')
    assert 'File too large' in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
