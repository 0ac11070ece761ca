"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffn.utils.errors import UserError
from ffn.utils.processes import Process, beating

# .NAME.HOST-PID-RANDOM.tmp, and what a library may insist on to add.
_TEMPORARY = re.compile(r'\..+\.([0-9a-f]{8})-(\d+)-\w{8}\.tmp(\.\w+)*')
# As it is typed, and as `Path` has it.
_URL = re.compile(r'[a-z][a-z0-9+.-]+:/')
# How long a process of another host does not touch its temporary file until it is taken for dead.
_DEAD_S = 3600.0


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

    Raises:
      UserError: see `check_writable`.
    """
    check_writable(path)
    path = Path(os.path.realpath(path))
    with scratch_path(path) as temporary, full_disk_named(path):
        yield temporary
        with open(temporary, 'rb+') as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Adds a file or folder to errors of the system that name none, as that of a full disk does."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def check_writable(path: str | os.PathLike, what: str = '') -> None:
    """Refuses a file that cannot be written, before the work that it is for; nothing is made.

    Args:
      path: the file; it and folders above it need not exist.
      what: name of the flag, for errors.

    Raises:
      UserError: a URL, which would become a file in a folder `gs:` of this machine; a folder, a device or a pipe; or
        below what is no folder.
      PermissionError: it, or a file in its folder, may not be written.
    """
    text = os.fspath(path)
    named = f'{what} {text}'.lstrip()
    if _URL.match(text):
        typed = named if '://' in text else named.replace(':/', '://', 1)
        raise UserError(f'{typed} is a URL; expected a file of this machine')
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise UserError(f'{named} is a folder; expected a file')
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f'{named} is a device or a pipe; expected a file')
    there = next(above for above in (place, *place.parents) if above.exists())
    if there != place and not there.is_dir():
        raise UserError(f'{named} cannot be written: {there} is not a folder')
    folder = place.parent if there == place else there  # of the temporary file
    for needed, mode in ((there, os.W_OK), (folder, os.W_OK | os.X_OK)):
        if not os.access(needed, mode):
            raise PermissionError(errno.EACCES, 'may not be written', str(needed))


def make_folder(folder: str | os.PathLike) -> None:
    """Makes a folder and those above it, where they do not exist.

    Raises:
      UserError: it, or something above it, is a file.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        above = (Path(folder), *Path(folder).parents)
        there = next(place for place in above if os.path.lexists(place))
        raise UserError(f'the folder {folder} cannot be made: {there} is not a folder') from error


@contextlib.contextmanager
def scratch_path(path: Path) -> Iterator[Path]:
    """Yields a temporary file beside a path, which is removed in the end.

    Its name says which process writes it, and it is touched while that lives. Those that killed processes left
    in the directory are removed, whatever they were for, when a process first makes one there.

    Args:
      path: what the file is for; missing directories are created.

    Yields:
      Path of an empty file.

    Raises:
      UserError: see `make_folder`.
    """
    make_folder(path.parent)
    writer = Process.this()
    _clear_once(path.parent, writer)
    prefix = f'.{path.name}.{writer.host}-{writer.pid}-'
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix='.tmp', dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        with beating(lambda: os.utime(temporary)):
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@functools.lru_cache(maxsize=1024)
def _clear_once(folder: Path, process: Process) -> None:
    """See `remove_abandoned`; once for each process, as a directory may be large."""
    remove_abandoned(folder)


def remove_abandoned(folder: Path) -> None:
    """Removes the temporary files of a directory whose writers are dead; one of another host after an hour."""
    with os.scandir(folder) as entries:
        found = [(entry.path, _TEMPORARY.fullmatch(entry.name)) for entry in entries]
    for path, named in found:
        if named is not None and Process(named[1], int(named[2])).is_dead(Path(path), _DEAD_S):
            with contextlib.suppress(OSError):  # another user's, or removed meanwhile
                os.unlink(path)


def free_path(path: Path) -> Path:
    """The path, or with a number behind it where there is such a file already."""
    number = 1
    while (free := path.with_name(f'{path.name}{number}' if number > 1 else path.name)).exists():
        number += 1
    return free


def set_aside(path: Path, why: object) -> None:
    """Renames a file that is of no use, NAME.aside, and warns: what was made from it is made anew.

    Args:
      path: the file.
      why: what is wrong with it.
    """
    aside = free_path(path.with_name(f'{path.name}.aside'))
    path.replace(aside)
    # Here, since what grows objects needs no absl.
    from absl import logging

    logging.warning('%s; it is moved to %s', why, aside)


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
