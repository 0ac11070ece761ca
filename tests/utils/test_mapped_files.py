"""Arrays in files have their place on disk before they are changed."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.utils.mapped_files import map_written
from tests.full_disk import files_of_at_most


def test_changes_are_in_the_file(tmp_path):
    path = tmp_path / 'table.bin'
    path.write_bytes(b'what was there')
    table = map_written(path, np.int64, (np.arange(i, i + 3) for i in (0, 3, 6)))
    table[4] = 70
    np.testing.assert_array_equal(np.fromfile(path, np.int64), [0, 1, 2, 3, 70, 5, 6, 7, 8])
    assert map_written(path, np.int64, []).shape == (0,)
    assert path.stat().st_size == 0


def test_a_full_disk_is_an_error_before_anything_is_mapped(tmp_path):
    path = tmp_path / 'table.bin'
    map_written(path, np.int64, [np.zeros(100_000)])
    assert path.stat().st_blocks * 512 >= 800_000  # no holes
    with files_of_at_most(500), pytest.raises(OSError, match=r'table\.bin'):
        map_written(path, np.int64, [np.zeros(60), np.zeros(3)])
