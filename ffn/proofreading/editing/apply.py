"""Edits become volumes: the corrected segmentation, and labels to train on of the objects that are done.

Volumes are written block by block, over any pool; blocks that are written are not written again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ffn.agglomeration.joined_volume import Relabelling, write_relabelled
from ffn.distributed.pool import Pool
from ffn.proofreading.editing.cut_masks import CutLabels
from ffn.proofreading.editing.objects import Objects
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.id_tables import IdTable
from ffn.utils.labels import NOT_LABELLED, remap
from ffn.volumes.input_states import state_of
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.volume import Volume, VolumeSource


@dataclass(frozen=True)
class ObjectIds:
    """The corrected segmentation: every segment has the id of its object.

    Attributes:
      labels: the segmentation with the parts that were cut off.
      table: segments and their objects.
    """

    labels: CutLabels
    table: IdTable

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """See `ffn.agglomeration.joined_volume.Relabelling`."""
        table = self.table.read()
        segments = self.labels.read(labels, block)
        return remap(segments, table[:, 0], table[:, 1], others='keep')


@dataclass(frozen=True)
class DoneLabels:
    """Objects that are done; all else is not labelled.

    Attributes:
      labels: the segmentation with the parts that were cut off.
      table: segments and their objects, of those that are done.
    """

    labels: CutLabels
    table: IdTable

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """See `ffn.agglomeration.joined_volume.Relabelling`."""
        table = self.table.read()
        segments = self.labels.read(labels, block)
        done = remap(segments, table[:, 0], table[:, 1], others='background')
        return np.where(done > 0, done, np.uint64(NOT_LABELLED))


@dataclass(frozen=True)
class DoneWeights:
    """Weights in the loss: 1 in objects that are done and around them, 0 elsewhere.

    An object that is done ends where it ends: what surrounds it is not part of it, whatever else it is.

    Attributes:
      labels: see `DoneLabels`.
      around: how far around objects, in voxels along each axis.
    """

    labels: DoneLabels
    around: Xyz

    def read(self, labels: Volume, block: Box) -> np.ndarray:
        """See `ffn.agglomeration.joined_volume.Relabelling`."""
        outer = block.grow(self.around).intersection(labels.box) or block
        done = self.labels.read(labels, outer) != np.uint64(NOT_LABELLED)
        near = ndimage.maximum_filter(
            done, size=tuple(2 * n + 1 for n in self.around.zyx), mode='constant'
        )
        return near[block.relative_to(outer.start).slices_zyx].astype(np.uint64)


class EditedVolume:
    """Writes what edits make of a segmentation; `check_done` tells before whether there is anything to train on."""

    def __init__(
        self,
        segmentation: VolumeSource,
        objects: Objects,
        masks: Path,
        folder: Path,
        pool: Pool,
        quiet: bool = False,
    ):
        """Takes the edits.

        Args:
          segmentation: as it is before any edit.
          objects: after the edits.
          masks: folder of the journal's masks.
          folder: receives records of what is written; see `ffn.agglomeration.joined_volume.write_joined`.
          pool: runs the tasks.
          quiet: no progress bars.
        """
        self._segmentation, self._objects = segmentation, objects
        self._labels = CutLabels(masks.absolute(), tuple(objects.cuts))
        self._folder, self._pool, self._quiet, self._told = folder, pool, quiet, False

    def write_objects(self, output: OutputSpec) -> None:
        """Writes the corrected segmentation.

        Raises:
          UserError: another volume exists at the output, or it cannot be written.
        """
        table = self._write_table('objects.npy', self._objects.equivalences())
        self._write(ObjectIds(self._labels, table), table, output)

    def write_done_labels(self, output: OutputSpec) -> None:
        """Writes the objects that are done, uint64; all other voxels are 2^64-1, not labelled.

        Raises:
          UserError: see `write_objects`.
        """
        labels = self._done_labels()
        self._write(labels, labels.table, output)

    def write_done_weights(self, output: OutputSpec, around: Xyz) -> None:
        """Writes 1 in objects that are done and around them, and 0 elsewhere, uint64.

        Args:
          output: volume to write.
          around: how far, in voxels along each axis.

        Raises:
          UserError: see `write_objects`.
        """
        labels = self._done_labels()
        self._write(DoneWeights(labels, around), labels.table, output, f'{tuple(around)}')

    def _done_labels(self) -> DoneLabels:
        done = self._objects.done_objects()
        table = {segment: one for one, members in done.items() for segment in members}
        return DoneLabels(self._labels, self._write_table('done.npy', table))

    def _write_table(self, name: str, table: Mapping[int, int]) -> IdTable:
        rows = np.array(sorted(table.items()), np.uint64).reshape(-1, 2)
        return IdTable.write(self._folder / name, rows)

    def _write(
        self, relabelling: Relabelling, table: IdTable, output: OutputSpec, more: str = ''
    ) -> None:
        cuts = [[cut.of, cut.new, cut.mask] for cut in self._labels.cuts]
        made_of = json.dumps([type(relabelling).__name__, cuts, more]).encode()
        write_relabelled(
            self._segmentation,
            relabelling,
            made_of + table.read().tobytes(),
            output,
            self._folder,
            self._pool,
            self._quiet,
            state_of(self._segmentation),
            tell=not self._told,
        )
        self._told = True


def check_done(objects: Objects, labels: OutputSpec | None, around: Xyz) -> None:
    """Checks that labels and weights of the objects that are done can be made, before anything is written.

    Args:
      objects: after the edits.
      labels: volume of labels to write, None for none.
      around: see `EditedVolume.write_done_weights`.

    Raises:
      UserError: no object is done, `around` is negative, or labels would be where no image is.
    """
    if min(around) < 0:
        raise UserError(f'--around_done is {around}; expected 0 or more voxels')
    if not objects.done_objects():
        raise UserError('no object is marked as done, so there are no labels to train on')
    if labels is not None:
        _check_start(labels)


def _check_start(output: OutputSpec) -> None:
    """Space before the box would be background in formats that begin at 0, and background is labelled."""
    if any(output.box.start) and not output.has_voxel_size:
        raise UserError(
            f'{output.spec} begins at 0, and the segmentation at {output.box.start}: what lies between would count as '
            'background; give a precomputed:// volume'
        )
