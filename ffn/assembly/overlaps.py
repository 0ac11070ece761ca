"""What neighbouring subvolumes call the voxels that they share.

For each subvolume one npz, `overlap-X_Y_Z.npz`: its ids, how many voxels each has in the core, and
for each of the next subvolumes along x, y and z how many shared voxels have which pair of ids. No
threshold has been applied, so that another one costs no second look at the voxels.

Neighbours along the three axes suffice: what two diagonal neighbours share, their common neighbours
along the axes share as well, and an object that goes from one to the other does so through these.
"""

from __future__ import annotations

import functools
import math
import zipfile
import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

import fastremap
import numpy as np

from ffn.assembly.tiling import AXES, Tiling
from ffn.inference import storage
from ffn.inference.request_identity import request_digest
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import joint_histogram
from ffn.utils.npz import read_npy_header, read_npz
from ffn.volumes import provenance


@dataclass
class Overlap:
    """What the npz of a subvolume holds.

    Attributes:
      ids: uint64 [n], its ids in any voxel, ascending, without 0.
      voxels: int64 [n], voxels in the core.
      shared: axis (0 is x) → uint64 [m, 3]: own id, id of the next subvolume, voxels that both give
        these; 0 is background.
      settings: digest of the request that it was segmented with.
      crcs: uint32 [5], checksums of the labels that were counted: its own, and those of the next
        subvolumes along x, y and z, 0 where there is none; and of its request.
    """

    ids: np.ndarray
    voxels: np.ndarray
    shared: dict[int, np.ndarray] = field(default_factory=dict)
    settings: str = ''
    crcs: np.ndarray = field(default_factory=lambda: np.zeros(5, np.uint32))

    def save(self, path: Path) -> None:
        """Writes the npz."""
        tables = {f'shared_{AXES[axis]}': table for axis, table in self.shared.items()}
        storage.save_npz(
            path, ids=self.ids, voxels=self.voxels, settings=np.array(self.settings),
            crcs=self.crcs, **tables,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Overlap:
        """Reads the npz.

        Raises:
          UserError: none, or a damaged one.
        """
        names = {f'shared_{name}': axis for axis, name in enumerate(AXES)}
        needed = ['ids', 'voxels', 'settings', 'crcs']
        data = read_npz(path, [*needed, *names], [])
        if not set(needed) <= set(data):
            raise UserError(f'{path} holds no overlaps; remove it, and it is made again')
        shared = {axis: data[name] for name, axis in names.items() if name in data}
        return cls(data['ids'], data['voxels'], shared, str(data['settings']), data['crcs'])


class Subvolumes:
    """Reads the segmented subvolumes of a tiling; keeps the one that was read last.

    Attributes:
      directory: the segmentation's folder.
      tiling: where they are.
    """

    def __init__(self, directory: str | Path, tiling: Tiling):
        self.directory, self.tiling = Path(directory), tiling
        self._last: tuple[Xyz, np.ndarray] | None = None

    def path(self, place: Xyz) -> Path:
        """File of a subvolume.

        Raises:
          UserError: there is none.
        """
        corner = self.tiling.corner_zyx(place)
        path = storage.existing_path(self.directory, corner, 'npz')
        if path is None:
            expected = storage.subvolume_path(self.directory, corner, 'npz')
            raise UserError(f'the subvolume at {corner.xyz} is missing: no {expected}')
        return path

    def crcs(self, place: Xyz) -> tuple[int, int]:
        """Checksums of the labels and of the request of a subvolume; see `ffn.inference.storage`."""
        return provenance.checksums(self.path(place))

    def read(self, place: Xyz) -> np.ndarray:
        """Labels of a subvolume, [z, y, x] of any integer type, background is 0 or less.

        Raises:
          UserError: missing, damaged, or of another shape.
        """
        if self._last is None or self._last[0] != place:
            self._last = None  # one at a time
            self._last = place, self._read(place, self.tiling.subvolume(place).size.z)
        return self._last[1]

    def read_box(self, place: Xyz, box: Box) -> np.ndarray:
        """Labels of a box inside of a subvolume; see `read`. The subvolume itself is not kept."""
        whole = self.tiling.subvolume(place)
        index = box.relative_to(whole.start).slices_zyx
        if self._last is not None and self._last[0] == place:
            return self._last[1][index]
        return self._read(place, index[0].stop)[index]

    def _read(self, place: Xyz, sections: int) -> np.ndarray:
        """The first sections of a subvolume; what lies behind them is not unpacked."""
        path, shape = self.path(place), self.tiling.subvolume(place).size.zyx
        try:
            with zipfile.ZipFile(path) as archive, archive.open('segmentation.npy') as file:
                there, fortran, dtype = read_npy_header(file)
                if len(there) != 3 or dtype.kind not in 'iu':
                    raise UserError(f'{path} holds {dtype} of shape {there}; expected 3-d labels')
                if there != shape:
                    raise UserError(
                        f'{path} has shape {Zyx.of(there)}; the subvolume there has {shape}: it was '
                        'made with another bounding box, subvolume size or overlap'
                    )
                count = math.prod(shape if fortran else (sections, *shape[1:]))
                data = file.read(count * dtype.itemsize)
                labels = np.frombuffer(data, dtype, count)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f'{path} is damaged ({error}); remove it and run again to segment it anew'
            ) from error
        if fortran:
            return labels.reshape(shape[::-1]).T
        return labels.reshape(sections, *shape[1:])

    def settings(self, place: Xyz) -> str:
        """Digest of the request that a subvolume was segmented with."""
        stored = read_npz(self.path(place), ['request'], []).get('request')
        return request_digest(stored.item() if stored is not None else b'')


def overlap_path(folder: str | Path, corner_zyx: Zyx) -> Path:
    """Path of a subvolume's overlaps."""
    x, y, z = corner_zyx.xyz
    return Path(folder, str(x), str(y), f'overlap-{x}_{y}_{z}.npz')


def match_row(
    directory: str | Path,
    tiling: Tiling,
    folder: str | Path,
    row: list[Xyz],
    present: Container[Xyz],
) -> tuple[int, dict[int, int]]:
    """Writes the overlaps of subvolumes that follow each other along x, so that each is read once.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      folder: where the overlaps go; what is there already, of the same labels, stays.
      row: the places.
      present: the row's places and their neighbours, without those that are masked everywhere.

    Returns:
      How many were written, and number of a place → checksum of its labels.

    Raises:
      UserError: a subvolume that is missing, damaged or of another shape.
    """
    subvolumes, written, crcs = Subvolumes(directory, tiling), 0, {}
    read = functools.cache(subvolumes.crcs)
    for place in row:
        path = overlap_path(folder, tiling.corner_zyx(place))
        near = [tiling.next_place(place, axis) for axis in range(3)]
        there = [0 if p is None or p not in present else read(p)[0] for p in near]
        now = np.array([read(place)[0], *there, read(place)[1]], np.uint32)
        crcs[tiling.number(place)] = int(now[0])
        if path.exists():
            stored = read_npz(path, ['crcs'], []).get('crcs')
            if stored is not None and np.array_equal(stored, now):
                continue
        overlap = match(subvolumes, place, present)
        overlap.crcs = now
        overlap.save(path)
        written += 1
    return written, crcs


def match(subvolumes: Subvolumes, place: Xyz, present: Container[Xyz]) -> Overlap:
    """Counts the ids of a subvolume and what it shares with those next to it.

    Args:
      subvolumes: reads them.
      place: which one.
      present: the places that were segmented.

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
    found = Overlap(ids, voxels, settings=subvolumes.settings(place))
    for axis in (2, 1, 0):  # the last one that is read is the next one of the row
        other = tiling.next_place(place, axis)
        if other is None or other not in present:
            continue
        region = box.intersection(tiling.subvolume(other))
        own = labels[region.relative_to(box.start).slices_zyx]
        if axis == 0:
            subvolumes.read(other)
        found.shared[axis] = joint_histogram(own, subvolumes.read_box(other, region))
    return found


def _positive(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out background; ids as uint64."""
    return ids[ids > 0].astype(np.uint64), counts[ids > 0]
