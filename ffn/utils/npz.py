"""Npz files: writing them, and reading those that other labs made, checking what they declare before any is read.

Origins and overlaps are stored as NumPy object arrays, which are pickles; `ffn.utils.plain_pickle` reads them
without running anything.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from ffn.utils.arrays import native
from ffn.utils.errors import UserError
from ffn.utils.pickled_arrays import NotPlainError
from ffn.utils.plain_pickle import load_objects

# What a file of a subvolume may declare: probabilities and labels of 8 bytes, logits, and tables by id.
_BYTES_PER_VOXEL, _LEAST = 128, 1 << 24
_CHUNK = 1 << 24
# Of zip archives: bytes before the name of a member in its own place; bytes of the record at the end, which has
# the number of members; and the flag of names in UTF-8.
_HEADER, _END, _UTF8 = 30, 22, 0x800
# What is raised for a damaged npz, also where damage looks like encryption or a newer kind of archive.
REMOVE_DAMAGED = 'remove it and run again, or copy it again'
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, RuntimeError)


class NpyHeader(NamedTuple):
    """The header of an npy file.

    Attributes:
      shape: of the array.
      fortran_order: whether the first axis varies fastest.
      dtype: of the array.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype


def read_npy_header(file: IO[bytes]) -> NpyHeader:
    """Reads the header of an npy file or npz member; the data follows.

    Raises:
      ValueError: this is no npy file.
    """
    read = (
        npy_format.read_array_header_1_0
        if npy_format.read_magic(file) == (1, 0)
        else npy_format.read_array_header_2_0
    )
    try:
        return NpyHeader(*read(file))
    except (TypeError, SyntaxError, RecursionError, OverflowError, tokenize.TokenError) as error:
        raise ValueError(f'damaged header: {error}') from error


@contextlib.contextmanager
def open_archive(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Opens an npz whose directory is whole: otherwise a member of which it is damaged would seem to be absent.

    Raises:
      Exception: one of DAMAGES.
    """
    with open(path, 'rb') as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.orig_filename.encode('utf-8' if member.flag_bits & _UTF8 else 'cp437')
            file.seek(member.header_offset + _HEADER)
            if file.read(len(name)) != name:
                raise zipfile.BadZipFile(f'{member.filename} has another name in its own place')
        at = file.seek(-_END - len(archive.comment), io.SEEK_END)
        count, size, offset = struct.unpack('<HII', file.read(_END)[10:20])
        if count != 0xFFFF and 0xFFFFFFFF not in (size, offset):  # which stand for large numbers
            if count != len(archive.infolist()):
                raise zipfile.BadZipFile(f'{len(archive.infolist())} of {count} members are listed')
            if offset + size != at:  # an archive without members would have none before it
                raise zipfile.BadZipFile('its list of members is not where it should be')
        yield archive


def read_npz(
    path: str | Path,
    names: Iterable[str],
    classes: Iterable[type],
    shape: Sequence[int] | None = None,
    advice: str = '',
) -> dict[str, Any]:
    """Reads members of an npz file; object arrays only if their content is harmless.

    Args:
      path: the file.
      names: members to read; absent ones are missing from the result.
      classes: named-tuple classes that object arrays may hold, recognized by their name alone.
      shape: of the volume that the file is about, where it is known, () for a few numbers: a file that
        declares far more is refused. Without it, one is refused that declares more than the memory of this machine.
      advice: what to do if it is damaged or declares too much; default: to remove a damaged one.

    Returns:
      {name: array in native byte order}; 0-d object arrays are unpacked to the object in them.

    Raises:
      UserError: no such file, no npz, a damaged member, one that declares too much, or a pickle that holds
        more than results do.
    """
    if not Path(path).exists():
        raise UserError(f'no such file: {path}')
    try:
        with open_archive(path) as archive:
            infos = {info.filename: info for info in archive.infolist()}
            found = {name: infos[f'{name}.npy'] for name in names if f'{name}.npy' in infos}
            headers = {name: _checked_header(archive, info) for name, info in found.items()}
            _check_sum(path, [info.file_size for info in found.values()], shape, advice)
            # Objects last: arrays show first whether the file is what it declares.
            order = sorted(found, key=lambda name: headers[name].dtype.hasobject)
            read = {name: _read_member(archive, found[name], classes) for name in order}
            return {name: read[name] for name in found}
    except NotPlainError as error:
        raise UserError(
            f'{path} is refused: an object stored in it is not plain data ({error}); do not trust '
            'where it came from'
        ) from error
    except DAMAGES as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f'{path} is not a whole npz file ({error}); {advice or REMOVE_DAMAGED}'
        ) from error


def _check_sum(
    path: str | Path, sizes: Iterable[int], shape: Sequence[int] | None, advice: str
) -> None:
    declared, allowed, than = sum(sizes), memory(), 'the memory of this machine'
    if shape is not None:
        justified = math.prod(shape) * _BYTES_PER_VOXEL + _LEAST
        if justified < allowed:
            allowed, than = justified, f'belongs to a volume of shape {tuple(shape)}'
    if declared > allowed:
        then = f'; {advice}' if advice else ''
        raise UserError(
            f'{path} is refused: it declares {declared:,} bytes, more than {than}{then}'
        )


def memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def _checked_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NpyHeader:
    """Reads the header of a member, and compares what it declares with the size that the archive has."""
    with archive.open(info) as file:
        header = read_npy_header(file)
        size = info.file_size - file.tell()
    declared = math.prod(header.shape) * header.dtype.itemsize
    if any(n < 0 for n in header.shape) or not (header.dtype.hasobject or declared == size):
        raise ValueError(
            f'{info.filename} declares {header.dtype} of shape {header.shape}, but has {size:,} bytes'
        )
    if header.dtype.kind not in 'biufcSUVO' or header.dtype.names is not None:
        raise ValueError(f'{info.filename} is {header.dtype}; expected numbers or texts')
    return header


def write_compressed(file: str | Path | IO[bytes], **members: Any) -> None:
    """Writes members as `numpy.savez_compressed` does, but those of empty volumes in half the time.

    Args:
      file: a path, or a file open for writing.
      **members: arrays, or what becomes one.
    """
    volumes = [member for member in members.values() if np.ndim(member) == 3]
    # Where nothing is, zlib's lowest level is as good as its default, 6.
    level = 1 if volumes and not any(map(np.any, volumes)) else 6
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, member in members.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as target:
                npy_format.write_array(target, np.asanyarray(member), allow_pickle=True)


def bytes_member(data: bytes) -> np.void:
    """Makes a member of bytes from which NumPy drops no zeros at the end; see `stored_bytes`."""
    return np.void(data)


def stored_bytes(member: Any, path: str | Path) -> bytes:
    """Returns all bytes of a member, also of one that was stored as NumPy bytes, whose item lacks them.

    Args:
      member: as `read_npz` returned it.
      path: of the file.

    Raises:
      UserError: the member holds something else.
    """
    if not isinstance(member, np.ndarray) or member.dtype.kind not in 'SVu':
        raise UserError(
            f'{path} is damaged: where bytes should be, it holds {type(member).__name__}'
        )
    return member.tobytes()


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, classes: Iterable[type]) -> Any:
    with archive.open(info) as file:
        shape, fortran, dtype = read_npy_header(file)
        if dtype.hasobject:
            objects = load_objects(file.read(info.file_size - file.tell()), shape, classes)
            return objects.item() if shape == () else objects
        array = np.empty(shape, dtype, order='F' if fortran else 'C')
        # In parts, and never to the end: what a member declares is not exceeded by what it holds.
        flat = (
            array.reshape(-1, order='A').view(np.uint8) if array.nbytes else np.zeros(0, np.uint8)
        )
        while len(flat):
            part = file.read(min(len(flat), _CHUNK))
            if not part:
                raise EOFError(f'{info.filename} ends too early')
            flat[: len(part)] = np.frombuffer(part, np.uint8)
            flat = flat[len(part) :]
        return native(array)
