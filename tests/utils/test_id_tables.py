"""Tables of ids are read once, and anew where they have changed."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.utils import id_tables
from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.errors import UserError
from ffn.utils.id_tables import read_id_table

TABLE = np.array([[3, 1], [7, 1], [2**63 + 1, 7]], np.uint64)


def test_a_table_is_read_once_until_it_changes(tmp_path, monkeypatch):
    read = []

    def count(path, advice):
        read.append(path)
        return read_checked_npy(path, advice)

    monkeypatch.setattr(id_tables, 'read_checked_npy', count)
    path = tmp_path / 'equivalences.npy'
    for number, table in enumerate((TABLE, TABLE + np.uint64(1), TABLE[:0]), 1):
        write_checked_npy(path, table)
        for _ in range(3):
            found = read_id_table(path)
            np.testing.assert_array_equal(found, table)
            assert found[:, 0].flags.c_contiguous
            with pytest.raises(ValueError, match='read-only'):
                found[:] = 0
        assert len(read) == number


def test_a_table_that_is_damaged_after_it_was_read(tmp_path):
    path = tmp_path / 'equivalences.npy'
    write_checked_npy(path, TABLE)
    read_id_table(path)
    path.write_bytes(path.read_bytes()[:-1] + b'x')
    with pytest.raises(UserError, match=r'equivalences\.npy is damaged.*; run again'):
        read_id_table(path)
