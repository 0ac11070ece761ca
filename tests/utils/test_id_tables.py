"""Tables of ids are read once in each process, and are known by their content."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ffn.utils import id_tables
from ffn.utils.checksums import read_checked_npy
from ffn.utils.errors import UserError
from ffn.utils.id_tables import IdTable

TABLE = np.array([[3, 1], [7, 1], [2**63 + 1, 7]], np.uint64)


def test_a_table_is_read_once(tmp_path, monkeypatch):
    read = []

    def count(path, advice):
        read.append(path)
        return read_checked_npy(path, advice)

    monkeypatch.setattr(id_tables, 'read_checked_npy', count)
    path = tmp_path / 'equivalences.npy'
    for number, rows in enumerate((TABLE, TABLE + np.uint64(1), TABLE[:0]), 1):
        table = IdTable.write(path, rows)
        for _ in range(3):
            found = table.read()
            np.testing.assert_array_equal(found, rows)
            assert found[:, 0].flags.c_contiguous
            with pytest.raises(ValueError, match='read-only'):
                found[:] = 0
        assert len(read) == number


def test_a_table_that_was_written_over(tmp_path):
    """In the same file, of the same size and with the same time."""
    path = tmp_path / 'equivalences.npy'
    former = IdTable.write(path, TABLE + np.uint64(1))
    before = former.read()
    at = path.stat()
    table = IdTable.write(tmp_path / 'new.npy', TABLE)
    for ending in ('', '.crc'):
        new = (tmp_path / f'new.npy{ending}').read_bytes()
        with open(f'{path}{ending}', 'r+b') as file:
            file.write(new)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert (at.st_ino, at.st_size) == (path.stat().st_ino, path.stat().st_size)
    np.testing.assert_array_equal(IdTable(path, table.sha256).read(), TABLE)
    np.testing.assert_array_equal(former.read(), before)
    id_tables._read.cache_clear()
    with pytest.raises(UserError, match=r'equivalences\.npy holds another table.*; run again'):
        former.read()


def test_a_table_that_is_damaged(tmp_path):
    table = IdTable.write(tmp_path / 'equivalences.npy', TABLE)
    table.path.write_bytes(table.path.read_bytes()[:-1] + b'x')
    with pytest.raises(UserError, match=r'equivalences\.npy is damaged.*; run again'):
        table.read()
