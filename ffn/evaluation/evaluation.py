"""Everything that is said of a segmentation beside its ground truth, as one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.contingency import Contingency, Counted
from ffn.evaluation.erl import ErlScore, erl_score, labels_at
from ffn.evaluation.rand import rand_of
from ffn.evaluation.skeletons import Skeletons
from ffn.evaluation.voi import voi_of
from ffn.evaluation.worst import Case, Missing, most_missing, worst_cuts
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.volumes.volume import Volume


@dataclass(frozen=True)
class Scores:
    """Scores over one choice of voxels.

    Attributes:
      voxels: how many.
      voi_split: H(segmentation | truth), bits.
      voi_merge: H(truth | segmentation), bits.
      rand_error: adapted Rand error.
      rand_precision: low where objects are merged.
      rand_recall: low where objects are split.
    """

    voxels: int
    voi_split: float
    voi_merge: float
    rand_error: float
    rand_precision: float
    rand_recall: float

    @classmethod
    def of(cls, table: Contingency) -> Scores:
        """Scores a table whose voxels all count."""
        return cls(int(table.voxels.sum()), *voi_of(table), *rand_of(table))


@dataclass(frozen=True)
class Coverage:
    """How much of the truth has a segment.

    Attributes:
      voxels: of the box.
      truth_voxels: with an object.
      segmentation_voxels: with a segment.
      both_voxels: with both.
      covered_fraction: part of the truth's voxels with a segment.
      objects: of the truth.
      segments: of the segmentation.
      objects_covered: objects of which half the voxels or more have a segment.
      objects_missing: objects of which no voxel has a segment.
    """

    voxels: int
    truth_voxels: int
    segmentation_voxels: int
    both_voxels: int
    covered_fraction: float
    objects: int
    segments: int
    objects_covered: int
    objects_missing: int

    @classmethod
    def of(cls, table: Contingency) -> Coverage:
        """Counts a table of all voxels."""
        in_truth, in_segmentation = table.truth > 0, table.segmentation > 0
        objects, group = np.unique(table.truth[in_truth], return_inverse=True)
        sizes = np.bincount(group, table.voxels[in_truth])
        covered = np.bincount(group, (table.voxels * in_segmentation)[in_truth])
        both = int(table.voxels[in_truth & in_segmentation].sum())
        truth_voxels = int(table.voxels[in_truth].sum())
        return cls(
            int(table.voxels.sum()), truth_voxels, int(table.voxels[in_segmentation].sum()), both,
            both / max(truth_voxels, 1), len(objects),
            len(np.unique(table.segmentation[in_segmentation])),
            int(np.count_nonzero(2 * covered >= sizes)), int(np.count_nonzero(covered == 0)),
        )  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """A segmentation beside its ground truth.

    Attributes:
      box: what was compared, in coordinates of the ground truth.
      boundary: width of the boundary band, voxels; 0: none.
      scores: by which voxels count; None where there are none.
      inner_scores: the same without the boundary band; None without a band.
      coverage: how much of the truth has a segment.
      splits: objects that are cut, the worst first. Cases are of the voxels without the boundary
        band, where there is one.
      mergers: segments that join objects, the worst first.
      missing: objects that are left out, the worst first.
      erl: expected run length; None without skeletons.
    """

    box: Box
    boundary: int
    scores: dict[Counted, Scores | None]
    inner_scores: dict[Counted, Scores | None] | None
    coverage: Coverage
    splits: tuple[Case, ...]
    mergers: tuple[Case, ...]
    missing: tuple[Missing, ...]
    erl: ErlScore | None = None

    @classmethod
    def of(cls, table: Contingency, boundary: int = 0, worst: int = 10) -> Evaluation:
        """Evaluates a table of all voxels.

        Args:
          table: the table.
          boundary: width of the band that its `inner` leaves out.
          worst: how many cases to list at most.
        """
        inner = table.without_boundary() if boundary else table
        return cls(
            table.box, boundary, _scores(table), _scores(inner) if boundary else None,
            Coverage.of(table), worst_cuts(inner, worst), worst_cuts(inner.swapped(), worst),
            most_missing(inner, worst),
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """Plain numbers, lists and dicts; formats.md says what is what."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        box = {'start_xyz': list(self.box.start), 'size_xyz': list(self.box.size)}
        return plain(
            {'box': box, 'boundary_voxels': fields.pop('boundary')}
            | {name: value for name, value in fields.items() if name != 'box'}
        )


def plain(value: Any) -> Any:
    """Turns dataclasses and tuples in a value into dicts and lists, as JSON has them."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


def _scores(table: Contingency) -> dict[Counted, Scores | None]:
    rows = {counted: table.where(counted) for counted in get_args(Counted)}
    return {
        counted: Scores.of(table.rows(which)) if which.any() else None
        for counted, which in rows.items()
    }


def evaluate_volumes(
    truth: Volume, segmentation: Volume, box: Box, *, boundary: int = 0, worst: int = 10,
    skeletons: Skeletons | None = None, voxel_size_xyz: Sequence[float] = (1, 1, 1),
    merge_threshold: float | None = None, quiet: bool = True,
) -> Evaluation:  # fmt: skip
    """Evaluates a segmentation; the volumes may be larger than memory.

    Args:
      truth: labels.
      segmentation: labels, in the same coordinates (see `ffn.evaluation.sources.shared_box`).
      box: what to compare, inside of both.
      boundary: voxels this near to a change of the truth's label are left out of `inner_scores`.
      worst: how many cases to list at most.
      skeletons: for the expected run length; None: without.
      voxel_size_xyz: physical size of a voxel.
      merge_threshold: see `ffn.evaluation.erl`; None: its default.
      quiet: no progress bar.

    Raises:
      UserError: the truth has no label in the box, or no skeleton is inside of it.
    """
    inside = None if skeletons is None else skeletons.clipped(box)
    table = compare_volumes(truth, segmentation, box, boundary=boundary, quiet=quiet)
    if not (table.truth > 0).any():
        raise UserError(f'{truth.name} has no label in box {box}: there is nothing to compare with')
    evaluation = Evaluation.of(table, boundary, worst)
    if inside is None:
        return evaluation
    segments = labels_at(segmentation, inside.voxels_zyx)
    return dataclasses.replace(
        evaluation, erl=erl_score(inside, segments, voxel_size_xyz, merge_threshold)
    )
