"""What is known of each subvolume from its tables and counters; its labels are not read.

Both of two neighbours see the voxels of their overlap. Where they give them one object, they agree; where one of
them has nothing, or another object, a border has had an effect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ffn.assembly.overlaps import Overlap, overlap_path
from ffn.assembly.reconcile import Tables
from ffn.assembly.tiling import Tiling
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import storage
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.npz import read_npz, stored_bytes
from ffn.volumes.provenance import SEGMENT_AGAIN

# Field → counter of a result, milliseconds or a number.
COUNTERS = {
    'steps': 'predict-calls',
    'step_time': 'predict-time-ms',
    'time': 'segment_all-time-ms',
    'kept_time': 'valid-time-ms',
    'weak_time': 'invalid-weak-time-ms',
    'small_time': 'invalid-small-time-ms',
    'seeds': 'seeds',
    'weak': 'rejected-weak',
    'small': 'rejected-small',
    'close': 'rejected-close',
}
OF_BORDERS = ('agree', 'differ', 'one_sided', 'continued', 'ended', 'blocked')
FACTS = np.dtype(
    [
        ('present', bool),
        ('counted', bool),
        ('neighbours', np.int64),
        *((name, np.int64) for name in COUNTERS),
        ('core', np.int64),
        ('filled', np.int64),
        ('ids', np.int64),
        ('most_joined', np.int64),
        ('most_joined_object', np.uint64),
        # Of the overlaps with the next subvolumes along x, y and z.
        *((name, np.int64, 3) for name in OF_BORDERS),
    ]
)
"""One row for each subvolume:

present: it has a result; counted: the result has counters; neighbours: number of the next subvolumes along x, y and z
that it has an overlap with; those of COUNTERS, times in ms; core: voxels that it contributes to the volume, 0 if it is
masked; filled: how many of them have a label; ids: in the subvolume; most_joined: how many of its
ids are one object, and most_joined_object: which. Voxels of an overlap with a label: agree: both sides give them one
object; differ: two; one_sided: one side gives them none. Ids in an overlap with as many voxels as a match needs:
continued: their object is also on the other side; ended: it is not, and most of their voxels have no label there;
blocked: most have another object.
"""


def read_facts(
    directory: Path, tiling: Tiling, tables: Path | None, min_shared: int, pool: Pool, quiet: bool
) -> np.ndarray:
    """Reads the tables of all subvolumes.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      tables: folder of the assembly; None: there is none yet, and fill and borders are not known.
      min_shared: voxels that an id must have in an overlap to count.
      pool: runs the tasks.
      quiet: no progress bar.

    Returns:
      FACTS [subvolumes], in the order of the grid.

    Raises:
      UserError: a file is damaged.
    """
    facts = np.zeros(len(tiling), FACTS)
    x, y, z = tiling.grid

    def rows() -> Iterator[tuple[Any, ...]]:
        for k in range(z):
            for j in range(y):
                yield directory, tiling, tables, min_shared, [Xyz(i, j, k) for i in range(x)]

    done = run_stage(
        pool, read_row, rows(), len(tiling), 'subvolumes', quiet, weight=lambda task: len(task[4])
    )
    for first, row in done:
        facts[first : first + len(row)] = row
    return facts


def read_row(
    directory: Path, tiling: Tiling, tables: Path | None, min_shared: int, places: list[Xyz]
) -> tuple[int, np.ndarray]:
    """Reads the facts of neighbours along x; returns the index of the first, and FACTS [n]."""
    opened = None if tables is None else Tables(tables)
    row = np.zeros(len(places), FACTS)
    for fact, place in zip(row, places, strict=True):
        path = storage.existing_path(directory, tiling.corner_zyx(place), 'npz')
        if path is None:
            continue
        fact['present'] = True
        _add_counters(fact, path)
        if opened is not None and not opened.crcs[tiling.index(place)]:
            continue  # masked: what it has is no part of the volume
        fact['core'] = np.prod(tiling.core(place).size)
        if opened is not None:
            _add_overlap(fact, directory / 'overlaps', tiling, opened, min_shared, place)
    return tiling.index(places[0]), row


def _add_counters(fact: np.void, path: Path) -> None:
    stored = read_npz(path, ['counters'], [], (), SEGMENT_AGAIN).get('counters')
    if stored is None:
        return
    try:
        counters = json.loads(stored_bytes(stored, path).rstrip(b'\0') or b'{}')
        for name, counter in COUNTERS.items():
            fact[name] = int(counters.get(counter, 0))
        fact['counted'] = 'predict-calls' in counters
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f'{path} is damaged: its counters are no numbers ({error})') from error


def _add_overlap(
    fact: np.void, folder: Path, tiling: Tiling, tables: Tables, min_shared: int, place: Xyz
) -> None:
    overlap = Overlap.load(
        overlap_path(folder, tiling.corner_zyx(place)), tiling.subvolume(place).size.zyx
    )
    fact['filled'], fact['ids'] = overlap.voxels.sum(), len(overlap.ids)
    fact['neighbours'] = len(overlap.shared)
    own = tables.look_up(tiling.index(place))
    objects, counts = np.unique(own[1], return_counts=True)
    if len(counts):
        most = counts.argmax()
        fact['most_joined'], fact['most_joined_object'] = counts[most], objects[most]
    for axis, shared in overlap.shared.items():
        neighbour = tiling.next_place(place, axis)
        if neighbour is None:
            raise UserError(f'the overlaps at {tiling.subvolume(place).start} are damaged')
        counted = count_border(shared, own, tables.look_up(tiling.index(neighbour)), min_shared)
        for name, number in counted.items():
            fact[name][axis] = number


def count_border(
    shared: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    min_shared: int,
) -> dict[str, int]:
    """Counts what two neighbours make of the voxels that they share.

    Args:
      shared: uint64 [m, 3], own id, id of the neighbour, voxels; 0 is background.
      own: ids, ascending, and their objects.
      other: the same of the neighbour.
      min_shared: voxels that an id must have in the overlap to count.

    Returns:
      The fields OF_BORDERS of FACTS.
    """
    sides = [_objects(shared[:, side], *ids) for side, ids in enumerate((own, other))]
    voxels = shared[:, 2].astype(np.int64)
    both = (sides[0] > 0) & (sides[1] > 0)
    same = both & (sides[0] == sides[1])
    result = {
        'agree': int(voxels[same].sum()),
        'differ': int(voxels[both & ~same].sum()),
        'one_sided': int(voxels[~both].sum()),
        **dict.fromkeys(('continued', 'ended', 'blocked'), 0),
    }
    for side in (0, 1):
        here = shared[:, side] > 0
        _, number = np.unique(shared[here, side], return_inverse=True)
        total, continued, blocked, alone = (
            np.bincount(number, np.where(which[here], voxels[here], 0)).astype(np.int64)
            for which in (here, same, both & ~same, ~both)
        )
        counts = total >= min_shared
        joined = counts & (continued > 0)
        result['continued'] += int(joined.sum())
        result['ended'] += int((counts & ~joined & (alone >= blocked)).sum())
        result['blocked'] += int((counts & ~joined & (alone < blocked)).sum())
    return result


def _objects(ids: np.ndarray, known: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Objects of ids, int64 [m]; 0 of background."""
    at = np.searchsorted(known, ids)
    found = np.append(objects, 0)[at]
    return np.where((ids > 0) & (np.append(known, np.uint64(0))[at] == ids), found, 0)
