"""The journal: every edit is a line of JSON that is only ever added, and is on disk before the next one.

The first line says which segmentation the edits are about. Every line has a checksum of its own, `crc`, and its
place, `n`, so that a line that was changed, lost or doubled is noticed. A process that is killed while it writes
leaves a last line without its end; that line is set aside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from absl import logging

from ffn.proofreading.editing.edits import Edit, What
from ffn.utils.atomic import atomic_path, free_path
from ffn.utils.errors import UserError, reason
from ffn.utils.locks import exclusive_file
from ffn.utils.texts import told_apart

FORMAT = 1
_ADVICE = 'restore it from a copy, or remove the lines from there on'


@dataclass(frozen=True)
class Base:
    """The segmentation that edits are about.

    Attributes:
      labels: the volume.
      made_from: its stamp, see `ffn.volumes.provenance`; '' if it has none.
      joined: digest of the table by which segments are joined before any edit, '' without one.
    """

    labels: str
    made_from: str = ''
    joined: str = ''

    def check_same(self, other: Base, path: Path) -> None:
        """Compares what this session works on with what a journal says.

        Args:
          other: of the journal.
          path: the journal.

        Raises:
          UserError: they differ; a volume may have been moved, but not made again.
        """
        if self.made_from != other.made_from or (
            self.labels != other.labels and not self.made_from
        ):
            theirs, ours = told_apart(other.made_from, self.made_from)
            raise UserError(
                f'{path} is about {other.labels} (made from {theirs or "unknown"}), and not about '
                f'{self.labels} (made from {ours or "unknown"}); its ids mean nothing there'
            )
        if self.joined != other.joined:
            theirs, ours = told_apart(other.joined, self.joined)
            raise UserError(
                f'{path} was begun with another --merges table (digest {theirs or "none"}, here '
                f'{ours or "none"}); give that one'
            )


@dataclass(frozen=True)
class Journal:
    """What a journal says.

    Attributes:
      base: the segmentation.
      edits: in the order in which they count.
    """

    base: Base
    edits: tuple[Edit, ...]


def read_journal(path: str | Path) -> Journal:
    """Reads a journal; a torn last line is left out, with a warning.

    Raises:
      UserError: there is none, or a line is damaged.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f'no such journal: {path}') from error
    journal, whole = _parse(data, path)
    if whole < len(data):
        logging.warning('%s: the last line has no end and is left out', path)
    return journal


def write_journal(path: str | Path, journal: Journal) -> None:
    """Writes a whole journal, atomically."""
    with atomic_path(path) as temporary, open(temporary, 'wb') as file:
        file.write(_header(journal.base))
        for n, edit in enumerate(journal.edits, 1):
            file.write(_line(n, edit.as_json()))


@contextlib.contextmanager
def open_journal(path: str | Path, base: Base, who: str = '') -> Iterator[JournalWriter]:
    """Opens a journal to add to it; nobody else can meanwhile.

    Args:
      path: created if it is missing.
      base: the segmentation that is edited.
      who: the proofreader.

    Raises:
      UserError: another process has it open, it is damaged, or is about another segmentation.
    """
    path = Path(path)
    with exclusive_file(path):
        if not path.exists() or not path.stat().st_size:
            write_journal(path, Journal(base, ()))
        journal, whole = _parse(path.read_bytes(), path)
        base.check_same(journal.base, path)
        _set_torn_line_aside(path, whole)
        # Unbuffered: of a line that could not be written, a buffer would write the rest later.
        with path.open('ab', buffering=0) as file:
            yield JournalWriter(path, file, journal, who)


class JournalWriter:
    """A journal that is open to be added to; threads may share it.

    Attributes:
      path: the file.
      base: the segmentation.
    """

    def __init__(self, path: Path, file: FileIO, journal: Journal, who: str):
        """Takes the open file; see `open_journal`."""
        self.path, self.base = path, journal.base
        self._file, self._who = file, who
        self._size = os.fstat(file.fileno()).st_size
        self._edits = list(journal.edits)
        self._lock = threading.Lock()

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits."""
        with self._lock:
            return tuple(self._edits)

    def add(self, what: What, number: str = '') -> Edit:
        """Adds an edit; it is on disk when this returns.

        Args:
          what: the edit.
          number: that it is to have, if what it says depends on that; see `new_number`.

        Raises:
          OSError: it cannot be written, for instance as the disk is full; the journal is as before.
        """
        with self._lock:
            edit = Edit(number or new_number(), round(time.time(), 3), what, self._who)
            line = _line(len(self._edits) + 1, edit.as_json())
            try:
                self._append(line)
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._size)
                raise
            self._size += len(line)
            self._edits.append(edit)
            return edit

    def _append(self, line: bytes) -> None:
        self._file.truncate(self._size)  # if that was not possible when an edit failed
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())


def new_number() -> str:
    """A number that no other edit has."""
    return uuid.uuid4().hex


# Lines.


def _header(base: Base) -> bytes:
    return _line(0, {'kind': 'journal', 'format': FORMAT, **dataclasses.asdict(base)})


def _line(n: int, content: dict[str, Any]) -> bytes:
    content = json.loads(json.dumps({'n': n, **content}))
    return json.dumps({**content, 'crc': _crc(content)}).encode() + b'\n'


def _crc(content: dict[str, Any]) -> str:
    return f'{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}'


def _parse(data: bytes, path: str | Path) -> tuple[Journal, int]:
    """Reads all lines that are whole; returns the number of their bytes as well."""
    whole = data.rfind(b'\n') + 1
    lines = data[:whole].split(b'\n')[:-1]
    if not lines:
        raise UserError(f'{path} is no journal: it has no whole line')
    edits: list[Edit] = []
    numbers: set[str] = set()
    base = _read_base(_checked(lines[0], 0, path), path)
    for n, line in enumerate(lines[1:], 1):
        content = _checked(line, n, path)
        try:
            edit = Edit.from_json(content)
            if edit.number in numbers:
                raise ValueError('an earlier line has the same number')
        except (ValueError, OverflowError) as error:
            raise _damaged(path, n, str(error)) from error
        numbers.add(edit.number)
        edits.append(edit)
    return Journal(base, tuple(edits)), whole


def _checked(line: bytes, n: int, path: str | Path) -> dict[str, Any]:
    try:
        content = json.loads(line)
        crc, place = content.pop('crc'), content.pop('n')
        fits = crc == _crc({'n': place, **content})
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, n, reason(error)) from error
    if not fits:
        raise _damaged(path, n, 'its crc does not fit')
    if place != n or type(place) is not int:
        raise _damaged(path, n, f'it is numbered {place!r:.40}, and {n} is expected')
    return content


def _read_base(content: dict[str, Any], path: str | Path) -> Base:
    texts = [content.get(name) for name in ('labels', 'made_from', 'joined')]
    if content.get('kind') != 'journal' or not all(isinstance(text, str) for text in texts):
        raise UserError(f'{path} is no journal: its first line does not say so')
    if content.get('format') != FORMAT:
        raise UserError(
            f'{path} has format {content.get("format")!r:.40}; this version reads {FORMAT}'
        )
    return Base(*map(str, texts))


def _damaged(path: str | Path, n: int, why: str) -> UserError:
    return UserError(f'{path}, line {n + 1} is damaged: {why}; {_ADVICE}')


def _set_torn_line_aside(path: Path, whole: int) -> None:
    with path.open('rb+') as file:
        file.seek(whole)
        torn = file.read()
        if not torn:
            return
        aside = free_path(path.with_name(f'{path.name}.torn'))
        aside.write_bytes(torn)
        file.truncate(whole)
        file.flush()
        os.fsync(file.fileno())
    logging.warning(
        '%s: the last line has no end, as if its writer was killed; its %d bytes are moved to %s',
        path,
        len(torn),
        aside,
    )
