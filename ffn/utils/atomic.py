"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path that becomes `path` when the block succeeds.

    The temporary file lies in the same directory, is flushed to disk and renamed to `path`; if the block
    raises, it is removed and an existing file is left unchanged. Missing directories are created, links are
    followed, and a read-only file is not replaced.

    Args:
      path: the file to write.

    Yields:
      Path of an empty file to fill.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, 'may not be written', str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f'.{path.name}.', suffix='.tmp', dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            # The error of a full disk does not name the file.
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary(path: str | os.PathLike) -> None:
    """Removes temporary files of a path that killed processes left behind; nobody may be writing it now."""
    path = Path(os.path.realpath(path))
    for left in path.parent.glob(f'.{glob.escape(path.name)}.*.tmp'):
        left.unlink(missing_ok=True)


def free_path(path: Path) -> Path:
    """The path, or with a number behind it where there is such a file already."""
    number = 1
    while (free := path.with_name(f'{path.name}{number}' if number > 1 else path.name)).exists():
        number += 1
    return free


def write_json(path: str | os.PathLike, content: Any, indent: int | None = 2) -> None:
    """Writes a JSON file atomically.

    Args:
      path: the file.
      content: anything that JSON can represent.
      indent: spaces per level; None for a single line.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + '\n', encoding='utf-8')


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
