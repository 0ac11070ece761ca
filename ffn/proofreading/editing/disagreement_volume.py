"""How many other segmentations have another object at a voxel, as a volume."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffn.evaluation.contingency import Contingency
from ffn.evaluation.sources import find_results, open_segmentation, shared_box
from ffn.proofreading.editing.cut_masks import NO_CUTS, CutLabels
from ffn.proofreading.editing.disagreement import object_table
from ffn.proofreading.editing.objects import Objects
from ffn.utils.geometry import Box
from ffn.utils.id_tables import IdTable
from ffn.utils.labels import remap
from ffn.volumes.input_states import state_of
from ffn.volumes.provenance import checksums, read_input_stamp
from ffn.volumes.volume import Volume, VolumeSource


@dataclass(frozen=True)
class Disagreement:
    """A volume of how many of the others have another object at a voxel, in hundredths of all.

    An object and that of another segmentation are the same if each has more voxels of the other than of anything else.

    Attributes:
      labels: the segmentation with the parts that were cut off.
      objects: segments and their objects.
      others: the other segmentations, and for each: objects, and their ids in the other one.
      states: by name, what tells that one of the others has been made anew; see `ffn.volumes.input_states`.
    """

    labels: CutLabels
    objects: IdTable
    others: tuple[tuple[str, IdTable], ...]
    states: Mapping[str, str]

    def identity(self) -> bytes:
        """What the volume depends on besides the segmentation, see `ffn.agglomeration.joined_volume.write_relabelled`."""
        tables = [self.objects, *(table for _, table in self.others)]
        others = tuple((spec, table.path) for spec, table in self.others)
        told = repr(others) + (repr(self.labels.cuts) if self.labels.cuts else '')
        return b''.join(table.path.read_bytes() for table in tables) + told.encode()

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """See `ffn.agglomeration.joined_volume.Relabelling`."""
        table = self.objects.read()
        segments = self.labels.read(labels, block)
        ours = remap(segments, table[:, 0], table[:, 1], others='keep')
        differing = np.zeros(ours.shape, np.uint64)
        for spec, pairs in self.others:
            same = pairs.read()
            expected = remap(ours, same[:, 0], same[:, 1], others='background')
            with open_segmentation(spec) as other:
                moved, _ = shared_box(labels, other)
                part = moved.box.intersection(block)
                if part is not None:
                    here = part.relative_to(block.start).slices_zyx
                    theirs = moved.read(part)
                    differing[here] += (ours[here] > 0) & (theirs > 0) & (theirs != expected[here])
        return (100 * differing + len(self.others) // 2) // np.uint64(len(self.others))


def prepare(
    folder: Path,
    objects: Objects,
    others: Sequence[str],
    tables: Sequence[Contingency],
    cuts: CutLabels = NO_CUTS,
) -> Disagreement:
    """Writes the tables from which the volume is made.

    Args:
      folder: receives them.
      objects: as they are now.
      others: the other segmentations.
      tables: see `compare_with_others`.
      cuts: parts that were cut off segments.
    """
    folder.mkdir(parents=True, exist_ok=True)
    segments = IdTable.write(folder / 'objects.npy', object_table(objects))
    named = []
    for n, (spec, every) in enumerate(zip(others, tables, strict=True)):
        table = every.rows(every.where('both'))
        rows = np.intersect1d(_largest(table, table.segmentation), _largest(table, table.truth))
        pairs = np.stack([table.segmentation[rows], table.truth[rows]], axis=1)
        same = IdTable.write(folder / f'same{n}.npy', pairs[np.argsort(pairs[:, 0])])
        named.append((spec, same))
    states: dict[str, str] = {}
    for spec, table in zip(others, tables, strict=True):
        states |= _states(spec, table)
    return Disagreement(cuts, segments, tuple(named), states)


def _states(spec: str, table: Contingency) -> dict[str, str]:
    """What tells that another segmentation has been made anew: its counts, and its stamp, checksums or file."""
    hashed = hashlib.sha256()
    for column in (table.truth, table.segmentation, table.voxels, table.place, table.split_site):
        hashed.update(np.ascontiguousarray(column).data)
    if results := find_results(Path(spec)):
        hashed.update(repr([checksums(path) for path in results]).encode())
        return {f'content of {spec}': hashed.hexdigest()}
    hashed.update(read_input_stamp(spec).encode())
    return {f'content of {spec}': hashed.hexdigest(), **state_of(VolumeSource(spec))}


def _largest(table: Contingency, ids: np.ndarray) -> np.ndarray:
    """Row with the most voxels of each id."""
    order = np.lexsort((table.voxels, ids))
    return (
        order[np.flatnonzero(np.append(np.diff(ids[order]) != 0, [True]))] if len(order) else order
    )
