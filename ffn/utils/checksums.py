"""Checksums of what is written now and read again later, so that a flipped bit is noticed.

- A JSON object carries `sha256`, that of everything else in it.
- A table (CSV, npy, plain numbers) has a file beside it, `NAME.crc`: the CRC-32 of each 64 KiB, so that a part of
  a large table is checked without reading the rest, and the CRC-32 of these; uint32, little-endian.
- An npz needs neither: a zip archive has the CRC-32 of each member.

What an earlier version wrote has no checksum, and is taken as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, damage_told
from ffn.utils.npz import read_npy_header

KEY = 'sha256'
_ENDING = '.crc'
_BLOCK = 1 << 16


# JSON objects.


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of what JSON can hold, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the checksum to a JSON object."""
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return {**plain, KEY: digest(plain)}


def unsealed(text: str | bytes, source: str | Path, advice: str) -> dict[str, Any]:
    """Parses a JSON object and takes its checksum, if it has one, off.

    Args:
      text: JSON.
      source: where it comes from, for messages.
      advice: what to do if it is damaged.

    Raises:
      UserError: it is no JSON object, or its checksum does not fit.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise UserError(f'{source} is damaged: {error}; {advice}') from error
    if not isinstance(content, dict):
        raise UserError(f'{source} is damaged: it holds no JSON object; {advice}')
    stated = content.pop(KEY, None)
    if stated is not None and stated != digest(content):
        raise UserError(
            f'{source} is damaged, as its {KEY} does not fit; {advice} (if you have edited it, remove '
            f'"{KEY}" from it)'
        )
    return content


# Tables.


@contextlib.contextmanager
def checked_path(path: str | Path) -> Iterator[Path]:
    """Writes a table and its checksums; otherwise as `ffn.utils.atomic.atomic_path`."""
    path = Path(path)
    with atomic_path(path) as temporary:
        yield temporary
        crcs = _block_crcs(temporary)
        # A table without checksums is admitted, but not one with those of another.
        _beside(path).unlink(missing_ok=True)
    _write(path, crcs)


def record(path: Path) -> None:
    """Writes the checksums of a table that is complete."""
    _write(path, _block_crcs(path))


def read_checked(path: str | Path, advice: str) -> bytes:
    """Reads a table and compares it with its checksums.

    Args:
      path: the table.
      advice: what to do if it is damaged.

    Raises:
      UserError: it is damaged.
      OSError: it cannot be read.
    """
    crcs, data = _read_crcs(Path(path), advice), Path(path).read_bytes()
    if crcs is not None and not np.array_equal(crcs, _crcs_of(data)):
        raise _damaged(Path(path), advice)
    return data


def open_checked(path: str | Path, advice: str) -> io.BufferedReader:
    """Opens a table whose parts are compared with their checksums as they are read, from its beginning to its end.

    Args:
      path: the table.
      advice: what to do if it is damaged.

    Raises:
      UserError: its checksums are damaged; reading raises it where the table is.
      OSError: it cannot be read.
    """
    return io.BufferedReader(_CheckedFile(Path(path), advice), _BLOCK)


class _CheckedFile(io.RawIOBase):
    def __init__(self, path: Path, advice: str):
        self._crcs = _read_crcs(path, advice)
        self._path, self._advice, self._number = path, advice, 0
        self._file, self._rest = path.open('rb'), b''

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills part of a buffer; see `io.RawIOBase`."""
        if not self._rest:
            self._rest = self._file.read(_BLOCK)
            crcs, number = self._crcs, self._number
            is_end = not self._rest
            if crcs is not None and (
                (is_end and number != len(crcs))
                or (not is_end and (number >= len(crcs) or zlib.crc32(self._rest) != crcs[number]))
            ):
                raise _damaged(self._path, self._advice)
            self._number += not is_end
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def write_checked_npy(path: str | Path, array: np.ndarray) -> None:
    """Writes an array as npy, atomically, and its checksums."""
    file = io.BytesIO()  # to files, NumPy loses the end of what a full disk does not take
    np.save(file, array)
    with checked_path(path) as temporary:
        temporary.write_bytes(file.getbuffer())


def read_checked_npy(path: str | Path, advice: str) -> np.ndarray:
    """Reads what `write_checked_npy` wrote; see `read_checked`."""
    file = io.BytesIO(read_checked(path, advice))
    with damage_told(path, advice):
        shape, fortran, dtype = read_npy_header(file)
        data = file.read()
        # Compared before anything of that size is made.
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data):
            raise ValueError(f'{dtype} of shape {shape} in {len(data)} bytes')
        return np.frombuffer(data, dtype).reshape(shape, order='F' if fortran else 'C')


class CheckedTable:
    """A table of numbers in a file, of which parts are read; what is read is checked first.

    `table[i]`, `table[i:j]` and, of an array of integers, `table[indices]` are as those of an array.
    """

    def __init__(self, path: Path, dtype: type, advice: str):
        """Opens a table.

        Args:
          path: plain numbers.
          dtype: their type.
          advice: what to do if it is damaged.

        Raises:
          UserError: it is damaged.
          OSError: there is none.
        """
        self._path, self._advice, self._dtype = path, advice, np.dtype(dtype)
        size = path.stat().st_size
        # An empty file cannot be mapped.
        self._bytes = np.memmap(path, np.uint8, 'r') if size else np.zeros(0, np.uint8)
        self._crcs = _map_crcs(path, advice)
        blocks = -(-size // _BLOCK)
        if size % self._dtype.itemsize or (self._crcs is not None and len(self._crcs) != blocks):
            raise _damaged(path, advice)
        self._is_checked = np.zeros(blocks, bool)

    def __len__(self) -> int:
        return len(self._bytes) // self._dtype.itemsize

    def __getitem__(self, index: Any) -> Any:
        """Reads some of the numbers.

        Raises:
          UserError: they are damaged.
        """
        if isinstance(index, np.ndarray):
            return self._take(index)
        places = range(len(self))[index]
        if isinstance(places, int):
            return self[places : places + 1][0]
        if places.step != 1:
            raise IndexError(f'{places} is not one piece')
        begin, end = (n * self._dtype.itemsize for n in (places.start, places.stop))
        if begin < end:
            self._check(range(begin // _BLOCK, -(-end // _BLOCK)))
        return self._bytes[begin:end].view(self._dtype)

    def _take(self, index: np.ndarray) -> np.ndarray:
        if index.dtype.kind not in 'iu':
            raise IndexError(f'an index of {index.dtype}; expected integers')
        taken: np.ndarray = self._bytes.view(self._dtype)[index]
        is_needed = np.zeros(len(self._is_checked), bool)
        is_needed[index.astype(np.int64) % len(self) // (_BLOCK // self._dtype.itemsize)] = True
        self._check(np.flatnonzero(is_needed).tolist())
        return taken

    def _check(self, blocks: Iterable[int]) -> None:
        if self._crcs is not None:
            for block in blocks:
                self._check_block(block, self._crcs[block])

    def _check_block(self, block: int, crc: int) -> None:
        if self._is_checked[block]:
            return
        data = self._bytes[block * _BLOCK : (block + 1) * _BLOCK]
        if zlib.crc32(data.data) != crc:
            _read_crcs(self._path, self._advice)  # raises an error if they are what is damaged
            raise _damaged(self._path, self._advice)
        self._is_checked[block] = True


def _beside(path: Path) -> Path:
    return path.with_name(path.name + _ENDING)


def _crcs_of(data: bytes) -> np.ndarray:
    starts = range(0, len(data), _BLOCK)
    view = memoryview(data)
    return np.array([zlib.crc32(view[i : i + _BLOCK]) for i in starts], '<u4')


def _block_crcs(path: Path) -> np.ndarray:
    with path.open('rb') as file:
        blocks = iter(lambda: file.read(_BLOCK), b'')
        return np.fromiter(map(zlib.crc32, blocks), '<u4')


def _write(path: Path, crcs: np.ndarray) -> None:
    with atomic_path(_beside(path)) as temporary, temporary.open('wb') as file:
        file.write(crcs.data)
        file.write(zlib.crc32(crcs.data).to_bytes(4, 'little'))


def _read_crcs(path: Path, advice: str) -> np.ndarray | None:
    try:
        stored = _beside(path).read_bytes()
    except FileNotFoundError:
        return None
    data, last = memoryview(stored)[:-4], stored[-4:]
    if len(stored) % 4 or zlib.crc32(data).to_bytes(4, 'little') != last:
        raise UserError(f'{_beside(path)} is damaged; {advice}')
    return np.frombuffer(data, '<u4')


def _map_crcs(path: Path, advice: str) -> np.ndarray | None:
    """The same without reading them: damage shows where one of them does not fit its part of the table."""
    try:
        size = _beside(path).stat().st_size
    except FileNotFoundError:
        return None
    if size % 4 or not size:
        raise UserError(f'{_beside(path)} is damaged; {advice}')
    return np.memmap(_beside(path), '<u4', 'r')[:-1]


def _damaged(path: Path, advice: str) -> UserError:
    return UserError(
        f'{path} is damaged, as it does not fit its checksums, {_beside(path).name}; {advice} (if you have '
        f'edited it, remove {_beside(path).name})'
    )
