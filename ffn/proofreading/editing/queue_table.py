"""The queue as a table: `ffn queue` writes it, `ffn proofread` reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ffn.proofreading.editing.edits import Item
from ffn.proofreading.editing.queue import Queued
from ffn.utils.checksums import checked_path, read_checked
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

_COLUMNS = ('kind', 'ids', 'x', 'y', 'z', 'priority', 'reason')


def write_queue(path: str | Path, queue: Sequence[Queued]) -> None:
    """Writes a queue as CSV, atomically; see doc/formats.md."""
    with checked_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for item, priority, reason in queue:
            ids = '-'.join(map(str, item.ids))
            writer.writerow([item.kind, ids, *item.point, f'{priority:g}', reason])


def read_queue(path: str | Path) -> list[Queued]:
    """Reads what `write_queue` wrote.

    Raises:
      UserError: another kind of file, or a line that says nothing valid.
    """
    if not Path(path).exists():
        raise UserError(f'no such queue: {path}')
    data = read_checked(path, 'run ffn queue again')
    reader = csv.reader(io.StringIO(data.decode(errors='replace'), newline=''))
    try:
        if tuple(next(reader, ())) != _COLUMNS:
            raise UserError(f'{path} is no queue, with columns {",".join(_COLUMNS)}')
        return [_read_row(row) for row in reader]
    except UserError:
        raise
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UserError(f'{path}, line {reader.line_num}: {error}') from error


def _read_row(row: Sequence[str]) -> Queued:
    kind, ids_text, x, y, z, priority_text, reason = row
    ids = tuple(int(part) for part in ids_text.split('-') if part)
    priority = float(priority_text)
    point = Xyz(int(x), int(y), int(z))
    if not all(0 < i < 2**64 - 1 for i in ids) or max(map(abs, point)) >= 2**62:
        raise ValueError('expected ids from 1 to 2^64-2, and a voxel')
    if not kind.isalpha() or not 0 <= priority < 2**64:
        raise ValueError('expected a kind, and a priority of 0 or more')
    return Queued(Item(kind, ids, point), priority, reason)
