"""Loaders of what proofreading writes and reads: journals, masks of cut parts, tables of merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ffn.proofreading.editing import cut_masks
from ffn.proofreading.editing.cut_masks import PartMask, save_mask
from ffn.proofreading.editing.edits import Cut, Edit, Item
from ffn.proofreading.editing.journal import Base, Journal, _crc, read_journal, write_journal
from ffn.proofreading.editing.merge_table import read_merge_table
from ffn.proofreading.editing.queue import Queued
from ffn.proofreading.editing.queue_table import read_queue, write_queue
from ffn.utils.geometry import Box, Xyz
from tests.fuzz.case import Loader
from tests.fuzz.mutations import Rng, edit_csv_file, edit_json, edit_npz_file, edit_text_file
from tests.proofreading.samples import decision, done, edit, merge, note, split, undo

_WHATS = (
    merge(1, 2**63),
    split([1, 2], [3, 99], [Cut(2, 99, 'ab12.npz')]),
    done(1),
    note(1, 'a text'),
    decision('wrong', 1, 3),
    undo(2),
)
_MERGES = """id_a,id_b,distance,x,y,z,accepted,iou,note
1,2,0,10,11,12,1,0.9500,
2,3,1.5,20,21,22,0,,not found
3,18446744073709551614,0,30,31,32,1,0.5000,
"""


def _write_journal(folder: Path) -> None:
    edits = tuple(edit(n, what, who='Ada') for n, what in enumerate(_WHATS))
    write_journal(folder / 'edits.jsonl', Journal(Base('l.h5:l', 'stamp', 'table'), edits))


def _edit_line(path: Path, rng: Rng) -> None:
    """Changes what a line says, and makes its checksum anew."""
    lines = path.read_text().splitlines()
    at = int(rng.integers(len(lines)))
    content = json.loads(lines[at])
    del content['crc']
    content = edit_json(content, rng)
    if isinstance(content, dict):
        content = {**content, 'crc': _crc(content)}
    path.write_text('\n'.join([*lines[:at], json.dumps(content), *lines[at + 1 :]]) + '\n')


def _good_journal(journal: Journal) -> bool:
    """Whether it can be written and is the same then."""
    again = [Edit.from_json(json.loads(json.dumps(one.as_json()))) for one in journal.edits]
    return again == list(journal.edits)


def _write_mask(folder: Path) -> None:
    voxels = np.random.default_rng(5).random((4, 3, 5)) < 0.5
    save_mask(folder, PartMask.of(Box(Xyz(3, 4, 5), Xyz(5, 3, 4)), voxels))


def _read_mask(folder: Path) -> Any:
    # The name stays, whatever becomes of the file: an edit names it.
    _write_mask(folder / 'again')
    (name,) = (path.name for path in (folder / 'again').iterdir())
    return cut_masks._read_mask(folder / name)  # which is not one that is kept


def _write_queue(folder: Path) -> None:
    pair = Queued(Item('pair', (1, 2**63), Xyz(3, 4, 5)), 12.5, 'apart, probability 0.5')
    write_queue(folder / 'queue.csv', [pair, Queued(Item('missing', (), Xyz(3, 4, 5)), 1, 'x')])
    (folder / 'queue.csv.crc').unlink()


LOADERS = (
    Loader(
        'queue of places (CSV)',
        _write_queue,
        lambda folder: read_queue(folder / 'queue.csv'),
        ('*.csv',),
        (('*.csv', edit_csv_file), ('*.csv', edit_text_file)),
        check=lambda queue: all(one.priority >= 0 and one.item.key for one in queue),
    ),
    Loader(
        'journal of edits (JSON lines)',
        _write_journal,
        lambda folder: read_journal(folder / 'edits.jsonl'),
        ('*.jsonl',),
        (('*.jsonl', _edit_line), ('*.jsonl', edit_text_file)),
        check=_good_journal,
    ),
    Loader(
        'mask of a cut part (npz)',
        _write_mask,
        _read_mask,
        ('*.npz',),
        (('*.npz', edit_npz_file),),
        sealed=True,
    ),
    Loader(
        'table of merges (CSV)',
        lambda folder: (folder / 'merges.csv').write_text(_MERGES),
        lambda folder: read_merge_table(folder / 'merges.csv'),
        ('*.csv',),
        (('*.csv', edit_csv_file), ('*.csv', edit_text_file)),
        check=lambda table: all(0 < i < 2**64 - 1 for pair in table.joined for i in pair),
    ),
)
