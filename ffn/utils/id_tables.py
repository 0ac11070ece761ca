"""Tables of ids and what each becomes, which every block of a volume looks up."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from ffn.utils.checksums import read_checked_npy

# Of a volume that is made from several; a process keeps no more.
_KEPT = 8


def read_id_table(path: Path) -> np.ndarray:
    """Reads a table that `ffn.utils.checksums.write_checked_npy` wrote, once in each process until it is written anew.

    Args:
      path: npy of uint64 [n, 2], id and its replacement, ascending by id.

    Returns:
      The same, read-only; columns are contiguous, so that looking up copies none.

    Raises:
      UserError: it is damaged.
      OSError: it cannot be read.
    """
    there = path.stat()
    return _read(path.absolute(), (there.st_ino, there.st_mtime_ns, there.st_size))


@functools.lru_cache(_KEPT)
def _read(path: Path, _identity: tuple[int, int, int]) -> np.ndarray:
    table = np.asfortranarray(read_checked_npy(path, 'run again, and it is made again'))
    table.flags.writeable = False
    return table
