"""Reading checkpoints of Flax and Orbax: layouts, types of numbers, where they are found, and damage."""

import json
import shutil
import sys

import ml_dtypes
import msgpack
import numpy as np
import pytest

from ffn.models.flax_checkpoints import open_checkpoint
from tests.models.flax_files import pack_array, write_flax, write_orbax
from tests.models.small_network import refused

ARRAYS = {
    'step': np.array(7),
    'params/0:pre_a/kernel': np.arange(120, dtype=np.float32).reshape(1, 2, 3, 4, 5),
    'params/0:pre_a/bias': np.zeros(5, np.float32),
    'opt_state/0/mu': np.array([0.5, 2, -1], ml_dtypes.bfloat16),
    'opt_state/0/nu': np.array([0.5, 2], np.float16),
}


def write(path, layout):
    if layout == 'flax':
        return write_flax(path, ARRAYS)
    return write_orbax(path, ARRAYS, driver=layout.split()[0], ocdbt='ocdbt' in layout)


@pytest.mark.parametrize('layout', ['flax', 'zarr', 'zarr ocdbt', 'zarr3', 'zarr3 ocdbt'])
def test_what_is_read(tmp_path, layout):
    checkpoint = open_checkpoint(write(tmp_path / 'saved', layout))
    assert checkpoint.path == tmp_path / 'saved'
    assert checkpoint.step is None
    assert set(checkpoint.readers) == set(ARRAYS)
    for name, expected in ARRAYS.items():
        found = checkpoint.read(name)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found, expected)


def test_scalars_and_what_is_no_array(tmp_path):
    scalar = msgpack.ExtType(3, msgpack.packb(((), 'int64', np.int64(9).tobytes())))
    content = {'a': 1.5, 'b': scalar, 'text': 'x', 'none': None, 'more': {3: 4}}
    (tmp_path / 'saved').write_bytes(msgpack.packb(content))
    checkpoint = open_checkpoint(tmp_path / 'saved')
    found = {name: checkpoint.read(name).item() for name in checkpoint.readers}
    assert found == {'a': 1.5, 'b': 9, 'more/3': 4}


@pytest.mark.parametrize(('names', 'chosen', 'step'), [
    (['checkpoint_9', 'checkpoint_10'], 'checkpoint_10', 10), (['ckpt-3.flax'], 'ckpt-3.flax', 3),
    (['7', '20', '100.orbax-checkpoint-tmp-1'], '20', 20), (['state'], 'state', None),
    (['5/default'], '5/default', 5), (['checkpoint_17/checkpoint'], 'checkpoint_17/checkpoint', 17),
    (['5/params', '5/metadata.txt'], '5/params', 5),
])  # fmt: skip
def test_where_it_is_found(tmp_path, names, chosen, step):
    for name in names:
        path = tmp_path / 'run' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith('.txt'):
            path.write_text('')
        elif name.startswith('c'):
            write_flax(path, ARRAYS)
        else:
            write_orbax(path, ARRAYS)
    for given in ('run', f'run/{chosen}'):
        checkpoint = open_checkpoint(tmp_path / given)
        assert checkpoint.path == tmp_path / 'run' / chosen
        assert checkpoint.read('step') == 7
    assert open_checkpoint(tmp_path / 'run').step == step


def test_where_nothing_is_found(tmp_path):
    with refused(f'no such file or folder: {tmp_path}/nowhere'):
        open_checkpoint(tmp_path / 'nowhere')
    with refused(str(tmp_path), 'holds no checkpoint', 'manifest.ocdbt'):
        open_checkpoint(tmp_path)
    for name in ('ema', 'state'):
        write_orbax(tmp_path / '3' / name, ARRAYS)
    with refused(f'{tmp_path}/3 holds several items; give one of them: ema, state'):
        open_checkpoint(tmp_path)
    # TensorStore takes the folder for an empty database.
    (tmp_path / '3' / 'ema' / 'manifest.ocdbt').unlink()
    with refused(f'{tmp_path}/3/ema holds no checkpoint'):
        open_checkpoint(tmp_path / '3' / 'ema')


def test_without_msgpack(tmp_path, monkeypatch):
    write_flax(tmp_path / 'saved', ARRAYS)
    write_orbax(tmp_path / 'folder', ARRAYS)
    monkeypatch.setitem(sys.modules, 'msgpack', None)
    with refused('pip install "flood-filling-networks[flax]"'):
        open_checkpoint(tmp_path / 'saved')
    assert open_checkpoint(tmp_path / 'folder').read('step') == 7


@pytest.mark.parametrize('content', [
    b'', b'\x80\x04pickle', b'no checkpoint at all' * 9, msgpack.packb([1, 2]), msgpack.packb({'a': 1})[:-1],
    b'\x81\xa1a' * 5000,
])  # fmt: skip
def test_files_that_are_none(tmp_path, content):
    (tmp_path / 'saved').write_bytes(content)
    with refused(f'{tmp_path}/saved is damaged or of another kind', 'expected a file of Flax'):
        open_checkpoint(tmp_path / 'saved')


@pytest.mark.parametrize('packed', [
    ((3,), 'float32', b'1234'), ((1,), 'object', b'12345678'), ((1,), 'no type', b'1234'), ('x', 'float32', b'1234'),
    ((1,), 'float32'), 5,
])  # fmt: skip
def test_arrays_that_are_none(tmp_path, packed):
    array = msgpack.ExtType(1, msgpack.packb(packed))
    (tmp_path / 'saved').write_bytes(msgpack.packb({'a': array, 'b': pack_array(ARRAYS['step'])}))
    checkpoint = open_checkpoint(tmp_path / 'saved')
    with refused(f'{tmp_path}/saved is damaged', 'a cannot be read'):
        checkpoint.read('a')
    assert checkpoint.read('b') == 7


def test_a_damaged_database(tmp_path):
    folder = write_orbax(tmp_path / 'saved', ARRAYS)
    manifest = folder / 'manifest.ocdbt'
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-5])
    with refused(f'{folder} is damaged'):
        open_checkpoint(folder)
    manifest.write_bytes(whole)
    shutil.rmtree(folder / 'd')
    with refused(f'{folder} is damaged'):
        open_checkpoint(folder).read('step')


@pytest.mark.parametrize(('member', 'value'), [
    ('shape', [2**20, 2**20]), ('chunks', [2**31, 3]), ('shape', 'x'), ('dtype', '|O'),
])  # fmt: skip
def test_damaged_metadata(tmp_path, member, value):
    folder = write_orbax(tmp_path / 'saved', {'a': np.zeros((4, 3))}, ocdbt=False)
    marker = folder / 'a' / '.zarray'
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {member: value}))
    with refused(f'{folder} is damaged', 'a cannot be read'):
        open_checkpoint(folder).read('a')


def test_a_chunk_that_is_missing_is_not_read_as_zeros(tmp_path):
    folder = write_orbax(tmp_path / 'saved', {'a': np.ones((4, 3))}, ocdbt=False)
    (folder / 'a' / '0.0').unlink()
    with refused(f'{folder} is damaged', 'a cannot be read'):
        open_checkpoint(folder).read('a')
