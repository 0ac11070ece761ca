"""Image stacks in MRC files as mrcfile writes them."""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from ffn.utils.errors import UserError
from ffn.volumes.importing import import_stack
from ffn.volumes.importing.import_labels import import_labels

mrcfile = pytest.importorskip('mrcfile')

SHAPE_ZYX = (5, 7, 11)
STACK = np.random.default_rng(0).integers(-100, 100, SHAPE_ZYX)
STACK[3, 2, 8] = 99


def write(path: Path, dtype: type, voxel_size=(46.0, 48.0, 450.0), stack=STACK) -> Path:
    with mrcfile.new(path) as mrc:
        mrc.set_data(stack.astype(dtype))
        mrc.voxel_size = voxel_size  # ångström
    return path


def imported(path: Path, **settings) -> tuple[np.ndarray, list[float] | None]:
    output = path.parent / 'v.h5'
    import_stack.import_stack(str(path), f'{output}:raw', quiet=True, **settings)
    with h5py.File(output, 'r') as file:
        size = file['raw'].attrs.get('resolution')
        return file['raw'][:], None if size is None else size.tolist()


@pytest.mark.parametrize('dtype', [np.int8, np.int16, np.float32, np.float16])
def test_modes(tmp_path, dtype):
    result, size = imported(write(tmp_path / 's.mrc', dtype))
    assert result.dtype == (np.float32 if dtype == np.float16 else dtype)
    np.testing.assert_array_equal(result, STACK)
    assert size == [45, 4.8, 4.6]


def test_unsigned_16_bits(tmp_path):
    result, _ = imported(write(tmp_path / 's.mrc', np.uint16, stack=STACK + 40000))
    assert result.dtype == np.uint16
    np.testing.assert_array_equal(result, STACK + 40000)


def test_big_endian(tmp_path):
    with mrcfile.new(tmp_path / 's.mrc') as mrc:
        mrc.set_data(STACK.astype('>i2'))
        mrc.voxel_size = (46, 48, 450)
    assert (tmp_path / 's.mrc').read_bytes()[:4] == struct.pack('>i', 11)
    result, size = imported(tmp_path / 's.mrc')
    np.testing.assert_array_equal(result, STACK)
    assert size == [45, 4.8, 4.6]


@pytest.mark.parametrize(('flags', 'expected'), [(0, 156), (1, -100)])
def test_bytes_of_imod_are_signed_where_its_flags_say_so(tmp_path, flags, expected):
    stack = STACK.copy()
    stack[1, 2, 3] = -100
    path = write(tmp_path / 's.mrc', np.int8, stack=stack)
    data = bytearray(path.read_bytes())
    data[152:160] = struct.pack('<2i', 1146047817, flags)
    path.write_bytes(data)
    result, _ = imported(path)
    assert result[1, 2, 3] == expected
    assert result.dtype == (np.int8 if flags else np.uint8)


@pytest.mark.parametrize('size', [(1, 1, 1), (0, 0, 0)])
def test_sizes_that_nobody_set(tmp_path, caplog, size):
    _, stored = imported(write(tmp_path / 's.mrc', np.int8, size))
    assert stored is None
    assert 'nothing says how large its voxels are; give --voxel_size X,Y,Z' in caplog.text


def test_contradiction(tmp_path, caplog):
    _, stored = imported(write(tmp_path / 's.mrc', np.int8), voxel_size=(4.6, 4.8, 40))
    assert stored == [40, 4.8, 4.6]
    assert (
        'x,y,z 4.6,4.8,40 nm (--voxel_size), but x,y,z 4.6,4.8,45 nm (the header of' in caplog.text
    )


def test_labels(tmp_path):
    labels = np.abs(STACK)
    path = write(tmp_path / 'l.mrc', np.int16, stack=labels)
    import_labels(str(path), f'{tmp_path}/v.h5:l', quiet=True)
    with h5py.File(tmp_path / 'v.h5', 'r') as file:
        np.testing.assert_array_equal(file['l'][:], labels)
        assert file['l'].attrs['resolution'].tolist() == [45, 4.8, 4.6]


def test_other_order_of_axes(tmp_path):
    path = write(tmp_path / 's.mrc', np.int8)
    data = bytearray(path.read_bytes())
    data[64:76] = struct.pack('<3i', 3, 2, 1)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r'stores axes in the order \[3, 2, 1\]'):
        imported(path)


@pytest.mark.parametrize('cut', [3, 200])
def test_truncated(tmp_path, cut):
    path = write(tmp_path / 's.mrc', np.int16)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r's\.mrc'):
        imported(path)


def test_gzip(tmp_path):
    path = write(tmp_path / 's.mrc', np.int16)
    (tmp_path / 's.mrc.gz').write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UserError, match=r'is packed with gzip; .* unpack it with gunzip'):
        imported(tmp_path / 's.mrc.gz')


def test_without_mrcfile(tmp_path, monkeypatch):
    path = write(tmp_path / 's.mrc', np.int16)
    monkeypatch.setitem(sys.modules, 'mrcfile', None)
    with pytest.raises(UserError, match='needs the package mrcfile: pip install mrcfile'):
        imported(path)
