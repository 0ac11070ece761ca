"""Reading npz files that other labs made, object arrays included, without running code from them.

Origins and overlaps are stored as NumPy object arrays, which are pickles. The unpickler here admits plain
containers, NumPy arrays and scalars, and the named tuples that the caller lists; a pickle that names anything
else is refused before any of it runs.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format

from ffn.utils.arrays import native
from ffn.utils.errors import UserError

_CONTAINERS = {
    'dict',
    'list',
    'tuple',
    'set',
    'frozenset',
    'int',
    'float',
    'complex',
    'bool',
    'str',
    'bytes',
    'bytearray',
    'object',
}
_NUMPY = {
    'multiarray': {'_reconstruct', 'scalar'},
    'numeric': {'_frombuffer'},
    '': {'ndarray', 'dtype'},
}


_END = 22  # bytes of the record at the end of an archive, which has the number of members
# What is raised for a damaged npz, also where damage looks like encryption or a newer kind of archive.
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, RuntimeError)


class _Unpickler(pickle.Unpickler):
    """Admits containers, NumPy and the given named-tuple classes, whatever module names them."""

    def __init__(self, file: io.BufferedIOBase, classes: Iterable[type]):
        # Python 2 wrote byte strings where Python 3 expects text; latin1 keeps both apart losslessly.
        super().__init__(file, encoding='latin1')
        self._classes = {cls.__name__: cls for cls in classes}

    def find_class(self, module: str, name: str) -> Any:
        if name in self._classes:
            return self._classes[name]
        if module in ('builtins', '__builtin__') and name in _CONTAINERS:
            return super().find_class('builtins', name)
        if (module, name) == ('__builtin__', 'long'):
            return int
        if (module, name) == ('__builtin__', 'unicode'):
            return str
        if (module, name) in (('collections', 'OrderedDict'), ('_codecs', 'encode')):
            return super().find_class(module, name)
        if module == 'numpy' or module.startswith(('numpy.core.', 'numpy._core.')):
            part = module.rpartition('.')[2] if '.' in module else ''
            if name in _NUMPY.get(part, ()):
                return super().find_class(module.replace('numpy.core.', 'numpy._core.'), name)
        raise pickle.UnpicklingError(f'it names {module}.{name}')


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
    return NpyHeader(*read(file))


@contextlib.contextmanager
def open_archive(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """Opens an npz whose directory is whole: otherwise a member of which it is damaged would seem to be absent.

    Raises:
      Exception: one of DAMAGES.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            archive.open(member).close()  # under the same name as in the directory
        with open(path, 'rb') as file:
            file.seek(-_END - len(archive.comment), io.SEEK_END)
            count = int.from_bytes(file.read(_END)[10:12], 'little')
        if count not in (len(archive.infolist()), 0xFFFF):  # which stands for a large number
            raise zipfile.BadZipFile(f'{len(archive.infolist())} of {count} members are listed')
        yield archive


def read_npz(path: str | Path, names: Iterable[str], classes: Iterable[type]) -> dict[str, Any]:
    """Reads members of an npz file; object arrays only if their content is harmless.

    Args:
      path: the file.
      names: members to read; absent ones are missing from the result.
      classes: named-tuple classes that object arrays may hold, recognized by their name alone.

    Returns:
      {name: array in native byte order}; 0-d object arrays are unpacked to the object in them.

    Raises:
      UserError: no such file, no npz, a damaged member, or a pickle that names other things.
    """
    if not Path(path).exists():
        raise UserError(f'no such file: {path}')
    try:
        with open_archive(path) as archive:
            present = set(archive.namelist())
            return {
                name: _read_member(archive.read(f'{name}.npy'), classes)
                for name in names
                if f'{name}.npy' in present
            }
    except pickle.UnpicklingError as error:
        raise UserError(
            f'{path} is refused: an object stored in it is not plain data ({error}); do not trust '
            'where it came from'
        ) from error
    except DAMAGES as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{path} is not a whole npz file ({error})') from error


def bytes_member(data: bytes) -> np.void:
    """Makes a member of bytes from which NumPy drops no zeros at the end; see `stored_bytes`."""
    return np.void(data)


def stored_bytes(member: np.ndarray) -> bytes:
    """Returns all bytes of a member, also of one that was stored as NumPy bytes, whose item lacks them."""
    return member.tobytes()


def _read_member(data: bytes, classes: Iterable[type]) -> Any:
    file = io.BytesIO(data)
    shape, _, dtype = read_npy_header(file)
    if not dtype.hasobject:
        return native(npy_format.read_array(io.BytesIO(data), allow_pickle=False))
    try:
        array = _Unpickler(file, classes).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:
        raise ValueError(f'damaged pickle: {error}') from error
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ValueError('object member is no array')
    return array.item() if array.shape == () else array
