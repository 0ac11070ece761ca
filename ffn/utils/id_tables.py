"""Tables of ids and what each becomes, which every block of a volume looks up."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.errors import UserError

# Of a volume that is made from several; a process keeps no more.
_KEPT = 8
_ADVICE = 'run again, and it is made again'


@dataclass(frozen=True)
class IdTable:
    """A table in a file, which can be sent to other processes; each reads it once.

    It is known by its content: a process that lives long must not take a former table for it, and what shared storage says
    about a file (its time, size and number) may be a minute old, or the same for both.

    Attributes:
      path: npy of uint64 [n, 2], id and its replacement, ascending by id.
      sha256: of these numbers.
    """

    path: Path
    sha256: str

    @classmethod
    def write(cls, path: Path, rows: np.ndarray) -> IdTable:
        """Writes a table.

        Args:
          path: the file.
          rows: uint64 [n, 2], ascending by id.
        """
        write_checked_npy(path, rows)
        return cls(path.absolute(), _digest(rows))

    def read(self) -> np.ndarray:
        """Returns its rows, read-only; columns are contiguous, so that looking up copies none.

        Raises:
          UserError: the file is damaged, or holds another table.
          OSError: it cannot be read.
        """
        return _read(self)


@functools.lru_cache(_KEPT)
def _read(table: IdTable) -> np.ndarray:
    rows = read_checked_npy(table.path, _ADVICE)
    if _digest(rows) != table.sha256:
        raise UserError(
            f'{table.path} holds another table than the one that was written there for this volume; {_ADVICE}'
        )
    rows = np.asfortranarray(rows)
    rows.flags.writeable = False
    return rows


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).data).hexdigest()
