"""One id space for all subvolumes: which ids of neighbours are the same object, and its number.

Nodes of the graph are the ids of all subvolumes, numbered consecutively in the order of the grid; edges
are pairs of ids of neighbours that share enough of their overlap. Every connected component is one
object. Tables that grow with the volume are files; one block of them at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fastremap
import numpy as np

from ffn.assembly.matching import MatchedIds, Matching, match_ids
from ffn.assembly.overlaps import Overlap
from ffn.assembly.tiling import AXES, Tiling
from ffn.assembly.union import Components
from ffn.utils import checksums
from ffn.utils.atomic import full_disk_named, write_json
from ffn.utils.checksums import CheckedTable
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.mapped_files import map_written

STATISTICS = 'statistics.json'
_TABLES = {
    'offsets': np.int64,
    'ids': np.uint64,
    'objects': np.int64,
    'sizes': np.int64,
    'crcs': np.uint32,
}
_BLOCK = 1 << 20
_EXAMPLES = 20


class Tables:
    """The files of a reconciliation; of each, what is looked at is read.

    Attributes:
      offsets: int64 [subvolumes + 1], index of the first id of each, in the order of the grid.
      ids: uint64 [n], ids within their subvolumes.
      objects: int64 [n], number of the object of each id, from 1.
      sizes: int64 [objects + 1], voxels of each object; 0 for object 0.
      crcs: uint32 [subvolumes], checksums of their labels; 0 for masked subvolumes.
    """

    def __init__(self, folder: str | Path):
        """Opens the files.

        Raises:
          UserError: they do not exist, or are damaged.
        """
        try:
            tables = {
                name: CheckedTable(Path(folder, f'{name}.bin'), dtype, again(folder))
                for name, dtype in _TABLES.items()
            }
        except OSError as error:
            raise UserError(f'{folder} holds no reconciled ids: {error}') from error
        self.offsets, self.ids = tables['offsets'], tables['ids']
        self.objects, self.sizes = tables['objects'], tables['sizes']
        self.crcs = tables['crcs']
        whole = len(self.offsets) == len(self.crcs) + 1 and len(self.ids) == len(self.objects)
        if not whole or self.offsets[-1] != len(self.ids):
            raise UserError(f'the tables in {folder} are damaged; {again(folder)}')

    def look_up(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of a subvolume, ascending, and their objects.

        Raises:
          UserError: the tables are damaged there.
        """
        begin, end = self.offsets[index : index + 2]
        return self.ids[begin:end], self.objects[begin:end]


def again(folder: str | Path) -> str:
    """What to do if a file of a reconciliation is damaged."""
    return f'remove {Path(folder, STATISTICS)} and run again, and ids are reconciled again'


def _map_file(path: Path, dtype: type) -> np.ndarray:
    if path.stat().st_size == 0:  # cannot be mapped
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, 'r')


def reconcile(
    tiling: Tiling,
    overlaps: Iterable[tuple[Xyz, Overlap]],
    matching: Matching,
    folder: str | Path,
    tick: Callable[[], object] = lambda: None,
    block: int = _BLOCK,
) -> dict[str, Any]:
    """Numbers the objects of all subvolumes.

    Args:
      tiling: where the subvolumes are.
      overlaps: places and their overlaps, in the order of the grid, without masked subvolumes.
      matching: when two ids are one object.
      folder: where the files of `Tables` go, and statistics.json, which is written last.
      tick: called after each subvolume.
      block: rows of tables that are in memory at a time.

    Returns:
      The statistics.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f'{name}.bin' for name in ('ids', 'voxels', 'edges')}
    offsets, counts = _write_graph(tiling, overlaps, matching, folder, paths, tick)
    components = Components(folder / 'objects.bin', int(offsets[-1]), block)
    _join(components, paths, offsets, block)
    objects = components.number()
    del components
    ids = int(offsets[-1])
    del offsets
    paths['edges'].unlink()
    sizes = _sum_sizes(folder, objects, paths['voxels'], block)
    paths['voxels'].unlink()
    for name in _TABLES:
        checksums.record(folder / f'{name}.bin')
    statistics = {
        **counts,
        'ids': ids,
        'objects': objects,
        'joined_within_subvolumes': _count_joined_within(Tables(folder)),
        **sizes,
    }
    write_json(folder / STATISTICS, checksums.sealed(statistics))
    return statistics


def _write_graph(
    tiling: Tiling,
    overlaps: Iterable[tuple[Xyz, Overlap]],
    matching: Matching,
    folder: Path,
    paths: dict[str, Path],
    tick: Callable[[], object],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Writes ids and voxels of all nodes, and the edges between them; returns offsets and counts."""
    counts = dict.fromkeys(('subvolumes', 'pairs_of_subvolumes', 'candidates', 'edges'), 0)
    conflicts = _Conflicts(tiling)
    offsets, crcs = np.zeros(len(tiling) + 1, np.int64), np.zeros(len(tiling), np.uint32)
    with (
        full_disk_named(folder),
        paths['ids'].open('wb') as ids,
        paths['voxels'].open('wb') as voxels,
        paths['edges'].open('wb') as edges,
    ):
        for place, overlap in overlaps:
            index = tiling.index(place)
            offsets[index + 1], crcs[index] = len(overlap.ids), overlap.crcs[0]
            # Not `tofile`, which loses the end of what a full disk does not take.
            ids.write(overlap.ids.astype(np.uint64).tobytes())
            voxels.write(overlap.voxels.astype(np.int64).tobytes())
            counts['subvolumes'] += 1
            for axis, shared in overlap.shared.items():
                if (neighbour := tiling.next_place(place, axis)) is None:
                    raise UserError(f'the overlaps at {tiling.subvolume(place).start} are damaged')
                found = match_ids(shared, matching)
                conflicts.add(place, neighbour, axis, found)
                counts['pairs_of_subvolumes'] += 1
                counts['candidates'] += found.candidates
                pairs = found.pairs
                if axis in overlap.same:
                    pairs = np.unique(np.concatenate([pairs, overlap.same[axis]]), axis=0)
                counts['edges'] += len(pairs)
                ends = np.array([[index, tiling.index(neighbour)]], np.uint64)
                ends = ends.repeat(len(pairs), axis=0)
                edges.write(np.concatenate([ends, pairs], axis=1).tobytes())
            tick()
    np.cumsum(offsets, out=offsets)
    for name, table in (('offsets', offsets), ('crcs', crcs)):
        with full_disk_named(folder):
            Path(folder, f'{name}.bin').write_bytes(table.data)
    return offsets, {**counts, **conflicts.as_dict()}


class _Conflicts:
    """Counts the ids that match several of a neighbour, and keeps some as examples."""

    def __init__(self, tiling: Tiling):
        self._tiling, self._count = tiling, 0
        self._examples: list[dict[str, Any]] = []

    def add(self, place: Xyz, neighbour: Xyz, axis: int, found: MatchedIds) -> None:
        self._count += len(found.conflicts)
        for side, i in found.conflicts[: _EXAMPLES - len(self._examples)].tolist():
            own, other = (place, neighbour) if side == 0 else (neighbour, place)
            self._examples.append(
                {
                    'id': i,
                    'subvolume_xyz': list(self._tiling.subvolume(own).start),
                    'neighbour_xyz': list(self._tiling.subvolume(other).start),
                    'along': AXES[axis],
                }
            )

    def as_dict(self) -> dict[str, Any]:
        return {'conflicts': self._count, 'conflict_examples': self._examples}


def _join(components: Components, paths: dict[str, Path], offsets: np.ndarray, block: int) -> None:
    """Joins the ends of all edges: rows of two subvolumes and two ids."""
    ids = _map_file(paths['ids'], np.uint64)
    for part in _read_rows(paths['edges'], block):
        nodes = np.empty((len(part), 2), np.int64)
        for side in (0, 1):
            numbers = part[:, side].astype(np.int64)
            order = np.argsort(numbers, kind='stable')
            borders = np.flatnonzero(np.diff(numbers[order])) + 1
            for which in np.split(order, borders):
                first, last = offsets[numbers[which[0]] : numbers[which[0]] + 2]
                places = np.searchsorted(ids[first:last], part[which, 2 + side])
                nodes[which, side] = first + places
        components.join(nodes)


def _read_rows(path: Path, block: int) -> Iterator[np.ndarray]:
    """Reads a table of four columns in blocks."""
    with path.open('rb') as file:
        while len(part := np.fromfile(file, np.uint64, 4 * block)):
            yield part.reshape(-1, 4)


def _sum_sizes(folder: Path, objects: int, voxels_path: Path, block: int) -> dict[str, Any]:
    """Sums the voxels of each object into sizes.bin; returns how large objects are."""
    numbers = _map_file(folder / 'objects.bin', np.int64)
    voxels = _map_file(voxels_path, np.int64)
    zeros = (np.zeros(min(block, objects + 1 - i)) for i in range(0, objects + 1, block))
    sizes = map_written(folder / 'sizes.bin', np.int64, zeros)
    for begin in range(0, len(numbers), block):
        part, inverse = np.unique(numbers[begin : begin + block], return_inverse=True)
        sizes[part] += np.bincount(inverse, voxels[begin : begin + block]).astype(np.int64)
    if isinstance(sizes, np.memmap):
        sizes.flush()
    histogram = np.zeros(20, np.int64)
    total, largest = 0, np.zeros(0, np.int64)
    for begin in range(1, objects + 1, block):
        part = np.asarray(sizes[begin : begin + block])
        total += int(part.sum())
        digits = np.searchsorted(10 ** np.arange(1, 19, dtype=np.int64), part[part > 0], 'right')
        histogram += np.bincount(digits, minlength=20)
        largest = np.sort(np.concatenate([largest, part]))[::-1][:10]
    return {
        'voxels': total,
        'objects_in_cores': int(histogram.sum()),
        'sizes': {f'{10**n} to {10 ** (n + 1) - 1}': int(c) for n, c in enumerate(histogram) if c},
        'largest': largest.tolist(),
    }


def _count_joined_within(tables: Tables) -> int:
    """Counts the joins of ids of one subvolume that others brought about: of three ids in one object, two."""
    count = 0
    for index in range(len(tables.offsets) - 1):
        objects = tables.look_up(index)[1]
        count += len(objects) - len(fastremap.unique(objects))
    return count
