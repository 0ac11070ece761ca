"""Which ids neighbouring subvolumes give to the voxels that they share.

Each subvolume has an npz, `overlap-X_Y_Z.npz`: its ids, how many voxels each has in the core, and for each
of the next subvolumes along x, y and z how many shared voxels have which pair of ids. No threshold is
applied yet, so that another threshold does not read the voxels again.

Ids under which two subvolumes have the same object of init_segmentation are listed as well; these are one object however
few voxels they share.

Neighbours along the three axes suffice: voxels that two diagonal neighbours share are also shared by
their common neighbours along the axes, and an object that extends from one to the other does so through
these.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import fastremap
import numpy as np

from ffn.assembly.subvolumes import MadeWith, Subvolumes
from ffn.assembly.tiling import AXES, Tiling
from ffn.inference import storage
from ffn.inference.given_segments import look_up
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz, Zyx
from ffn.utils.labels import NOT_LABELLED, joint_histogram
from ffn.utils.npz import read_npz

_ADVICE = 'remove it, and ffn segment or assemble makes it again'


@dataclass
class Overlap:
    """What the npz of a subvolume holds.

    Attributes:
      ids: uint64 [n], its ids in any voxel, ascending, without 0.
      voxels: int64 [n], voxels in the core.
      shared: axis (0 is x) → uint64 [m, 3]: own id, id of the next subvolume, voxels that both give
        these; 0 is background.
      same: axis → uint64 [k, 2]: own id and id of the next subvolume that were one in init_segmentation.
      crcs: uint32 [5], checksums of the labels that were counted: its own, and those of the next
        subvolumes along x, y and z, 0 where there is none; and of its request.
      unlabelled: whether it has voxels with a label that means 'not labelled'.
    """

    ids: np.ndarray
    voxels: np.ndarray
    shared: dict[int, np.ndarray] = field(default_factory=dict)
    same: dict[int, np.ndarray] = field(default_factory=dict)
    crcs: np.ndarray = field(default_factory=lambda: np.zeros(5, np.uint32))
    unlabelled: bool = False

    def save(self, path: Path) -> None:
        """Writes the npz."""
        tables = {
            f'{name}_{AXES[axis]}': table
            for name, found in (('shared', self.shared), ('same', self.same))
            for axis, table in found.items()
        }
        storage.save_npz(
            path,
            ids=self.ids,
            voxels=self.voxels,
            crcs=self.crcs,
            unlabelled=np.array(self.unlabelled),
            **tables,
        )

    @classmethod
    def load(cls, path: Path, shape: Zyx | None = None) -> Overlap:
        """Reads the npz.

        Args:
          path: see `overlap_path`.
          shape: of the subvolume, which bounds what the file may declare.

        Raises:
          UserError: it is missing or damaged.
        """
        names = [f'{kind}_{axis}' for kind in ('shared', 'same') for axis in AXES]
        needed = ['ids', 'voxels', 'crcs']
        data = read_npz(path, [*needed, *names], [], shape, _ADVICE)
        if not set(needed) <= set(data):
            raise UserError(f'{path} holds no overlaps; {_ADVICE}')
        shared, same = (
            {i: data[f'{kind}_{a}'] for i, a in enumerate(AXES) if f'{kind}_{a}' in data}
            for kind in ('shared', 'same')
        )
        found = cls(data['ids'], data['voxels'], shared, same, data['crcs'])
        if not found._fits():
            raise UserError(f'{path} is damaged; {_ADVICE}')
        return found

    def _fits(self) -> bool:
        """Whether these are tables as the attributes describe them."""
        tables = self.ids, self.voxels, self.crcs, *self.shared.values(), *self.same.values()
        return (
            all(table.dtype.kind in 'iu' for table in tables)
            and self.ids.ndim == 1
            and self.ids.shape == self.voxels.shape
            and self.crcs.shape == (5,)
            and all(table.ndim == 2 and table.shape[1] == 3 for table in self.shared.values())
            and all(table.ndim == 2 and table.shape[1] == 2 for table in self.same.values())
        )


def overlap_path(folder: str | Path, corner_zyx: Zyx) -> Path:
    """Path of a subvolume's overlaps."""
    x, y, z = corner_zyx.xyz
    return Path(folder, str(x), str(y), f'overlap-{x}_{y}_{z}.npz')


def read_overlaps(
    tiling: Tiling, present: Container[Xyz], folder: str | Path
) -> Iterator[tuple[Xyz, Overlap]]:
    """Reads the overlaps of all subvolumes in the order of the grid.

    Raises:
      UserError: one is missing or damaged.
    """
    for place in tiling.places():
        if place in present:
            path = overlap_path(folder, tiling.corner_zyx(place))
            yield place, Overlap.load(path, tiling.subvolume(place).size.zyx)


class Row(NamedTuple):
    """What was found in a row of subvolumes.

    Attributes:
      written: how many of their overlaps were written.
      crcs: index of a place → checksum of its labels.
      unlabelled: how many have voxels with a label that means 'not labelled'; files of earlier versions do not tell.
      made_with: what they say that they were made with, each once, and the first place of each.
    """

    written: int
    crcs: dict[int, int]
    unlabelled: int
    made_with: list[tuple[Xyz, MadeWith]]


def count_row(
    directory: str | Path,
    tiling: Tiling,
    folder: str | Path,
    row: list[Xyz],
    present: Container[Xyz],
) -> Row:
    """Writes the overlaps of a row of subvolumes along x, so that each is read once.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      folder: where the overlaps go; files that were made from the same labels stay.
      row: the places.
      present: the row's places and their neighbours, without those that are masked everywhere.

    Raises:
      UserError: a subvolume that is missing, damaged or of another shape.
    """
    subvolumes, written, unlabelled = Subvolumes(directory, tiling), 0, 0
    crcs: dict[int, int] = {}
    made_with: dict[tuple[int, int], tuple[Xyz, MadeWith]] = {}
    read = functools.cache(subvolumes.crcs)
    for place in row:
        path = overlap_path(folder, tiling.corner_zyx(place))
        near = [tiling.next_place(place, axis) for axis in range(3)]
        next_crcs = [0 if p is None or p not in present else read(p)['segmentation'] for p in near]
        own = read(place)
        now = np.array([own['segmentation'], *next_crcs, own.get('request', 0)], np.uint32)
        crcs[tiling.index(place)] = own['segmentation']
        if (said := (own.get('request', 0), own.get('inputs', 0))) not in made_with:
            made_with[said] = place, subvolumes.made_with(place)
        if path.exists():
            tables = ['ids', *(f'shared_{axis}' for axis in AXES)]
            stored = read_npz(path, ['crcs', 'unlabelled', *tables], [], (), _ADVICE)
            # Earlier versions took voxels that are not labelled for an object.
            outdated = any(NOT_LABELLED in stored[name] for name in tables if name in stored)
            if not outdated and np.array_equal(stored.get('crcs', ()), now):
                unlabelled += bool(np.any(stored.get('unlabelled', False)))
                continue
        overlap = count_overlap(subvolumes, place, present)
        overlap.crcs, overlap.unlabelled = now, place in subvolumes.unlabelled
        overlap.save(path)
        written += 1
        unlabelled += overlap.unlabelled
    return Row(written, crcs, unlabelled, list(made_with.values()))


def count_overlap(subvolumes: Subvolumes, place: Xyz, present: Container[Xyz]) -> Overlap:
    """Counts the ids of a subvolume and the voxels that it shares with the next ones.

    Args:
      subvolumes: reads them.
      place: which one.
      present: places of the subvolumes that exist.

    Raises:
      UserError: see `Subvolumes.read`.
    """
    tiling = subvolumes.tiling
    box, labels = tiling.subvolume(place), subvolumes.read(place)
    core = labels[tiling.core(place).relative_to(box.start).slices_zyx]
    ids = _positive(*fastremap.unique(labels, return_counts=True))[0]
    core_ids, counts = _positive(*fastremap.unique(core, return_counts=True))
    voxels = np.zeros(len(ids), np.int64)
    voxels[np.searchsorted(ids, core_ids)] = counts
    found = Overlap(ids, voxels)
    for axis in (2, 1, 0):  # x last: its subvolume stays in memory and comes next in the row
        other = tiling.next_place(place, axis)
        if other is None or other not in present:
            continue
        if (region := box.intersection(tiling.subvolume(other))) is None:
            continue
        own = labels[region.relative_to(box.start).slices_zyx]
        if axis == 0:
            subvolumes.read(other)
        shared = joint_histogram(own, subvolumes.read_box(other, region))
        found.shared[axis] = shared
        given, other_given = (
            look_up(subvolumes.given_ids(at), shared[:, side])
            for side, at in enumerate((place, other))
        )
        if (same := (given == other_given) & (given > 0)).any():
            found.same[axis] = shared[same, :2]
    return found


def _positive(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops background; ids become uint64."""
    return ids[ids > 0].astype(np.uint64), counts[ids > 0]
