"""Arrays in files, changed in place."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ffn.utils.atomic import full_disk_named


def map_written(path: Path, dtype: type, parts: Iterable[np.ndarray]) -> np.ndarray:
    """Writes an array to a file and maps that.

    A file that is only mapped has holes: where the disk is full, the system ends the process that changes them.

    Args:
      path: overwritten.
      dtype: of the array.
      parts: of any shape, one after the other.

    Returns:
      [n], a memmap that writes to the file; without elements, nothing is mapped.

    Raises:
      OSError: the disk is full, or the file cannot be written.
    """
    with full_disk_named(path), path.open('wb') as file:
        for part in parts:
            file.write(part.astype(dtype, copy=False).tobytes())
        file.flush()
        os.fsync(file.fileno())  # some servers tell only then that they are full
    if path.stat().st_size == 0:  # cannot be mapped
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, 'r+')
