"""The queue as a table: `ffn queue` writes it, `ffn proofread` reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from ffn.proofreading.editing.edits import Item
from ffn.proofreading.editing.queue import Queued
from ffn.utils.checksums import checked_path, read_checked
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.provenance import check_made_from

_COLUMNS = ('kind', 'ids', 'x', 'y', 'z', 'priority', 'reason', 'made_from')


def write_queue(path: str | Path, queue: Sequence[Queued], made_from: str = '') -> None:
    """Writes a queue as CSV, atomically; see doc/formats.md.

    Args:
      path: of the table.
      queue: places.
      made_from: stamp of the segmentation that has these segments; '' if it has none.
    """
    with checked_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for item, priority, reason in queue:
            ids = '-'.join(map(str, item.ids))
            writer.writerow([item.kind, ids, *item.point, f'{priority:g}', reason, made_from])


def read_queue(path: str | Path, made_from: str = '') -> list[Queued]:
    """Reads what `write_queue` wrote.

    Args:
      path: of the table.
      made_from: stamp of the segmentation that is proofread; '' if it has none.

    Raises:
      UserError: another kind of file, a line that says nothing valid, or a queue of another segmentation.
    """
    if not Path(path).exists():
        raise UserError(f'no such queue: {path}')
    data = read_checked(path, 'run ffn queue again')
    reader = csv.reader(io.StringIO(data.decode(errors='replace'), newline=''))
    try:
        columns = tuple(next(reader, ()))
        if columns not in (_COLUMNS, _COLUMNS[:-1]):  # the latter from earlier versions
            raise UserError(f'{path} is no queue, with columns {",".join(_COLUMNS)}')
        found = []
        for values in reader:
            row = dict(zip(columns, values, strict=True))
            check_made_from(path, row.get('made_from', ''), made_from, 'run ffn queue again')
            found.append(_read_row(row))
        return found
    except UserError:
        raise
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UserError(f'{path}, line {reader.line_num}: {error}') from error


def _read_row(row: Mapping[str, str]) -> Queued:
    kind, reason = row['kind'], row['reason']
    ids = tuple(int(part) for part in row['ids'].split('-') if part)
    priority = float(row['priority'])
    point = Xyz(*(int(row[axis]) for axis in 'xyz'))
    if not all(0 < i < 2**64 - 1 for i in ids) or max(map(abs, point)) >= 2**62:
        raise ValueError('expected ids from 1 to 2^64-2, and a voxel')
    if not kind.isalpha() or not 0 <= priority < 2**64:
        raise ValueError('expected a kind, and a priority of 0 or more')
    return Queued(Item(kind, ids, point), priority, reason)
