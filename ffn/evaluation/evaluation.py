"""The evaluation of a segmentation against its ground truth: scores, coverage, errors, run length."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np

from ffn.evaluation.blocks import band_widths, compare_volumes
from ffn.evaluation.contingency import Contingency, Counted
from ffn.evaluation.erl import ErlScore, erl_score, read_voxels
from ffn.evaluation.error_cases import ErrorCase, MissedObject, find_missed_objects, find_splits
from ffn.evaluation.matches import NO_MATCHES, Matches, find_matches
from ffn.evaluation.plain import to_plain
from ffn.evaluation.rand import compute_rand
from ffn.evaluation.skeletons import Skeletons
from ffn.evaluation.voi import compute_voi
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume


@dataclass(frozen=True)
class Scores:
    """Scores over one choice of voxels.

    Attributes:
      voxels: number of voxels.
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
        """Scores a table all of whose voxels count."""
        return cls(int(table.voxels.sum()), *compute_voi(table), *compute_rand(table))


@dataclass(frozen=True)
class Coverage:
    """How much of the truth is covered by segments.

    Attributes:
      voxels: number of voxels in the box.
      truth_voxels: voxels that belong to an object.
      segmentation_voxels: voxels that belong to a segment.
      both_voxels: voxels that belong to both.
      covered_fraction: fraction of the truth's voxels with a segment.
      objects: number of objects in the truth.
      segments: number of segments.
      objects_covered: objects with a segment in at least half of their voxels.
      objects_missing: objects without a segment in any voxel.
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
            int(table.voxels.sum()),
            truth_voxels,
            int(table.voxels[in_segmentation].sum()),
            both,
            both / max(truth_voxels, 1),
            len(objects),
            len(np.unique(table.segmentation[in_segmentation])),
            int(np.count_nonzero(2 * covered >= sizes)),
            int(np.count_nonzero(covered == 0)),
        )


@dataclass(frozen=True)
class Evaluation:
    """A segmentation scored against its ground truth.

    Attributes:
      box: region that was compared, in coordinates of the ground truth.
      boundary: width of the boundary band in voxels, on all axes or x, y, z; 0: none.
      scores: by choice of voxels; None if there are none.
      inner_scores: the same without the boundary band; None if there is no band.
      coverage: how much of the truth is covered.
      splits: split objects, worst first. All cases ignore the boundary band, if there is one.
      mergers: segments that merge objects, worst first.
      missing: missed objects, worst first.
      erl: expected run length; None without skeletons.
      matches: which object and segment are taken for the same; not in the JSON.
    """

    box: Box
    boundary: int | Xyz
    scores: dict[Counted, Scores | None]
    inner_scores: dict[Counted, Scores | None] | None
    coverage: Coverage
    splits: tuple[ErrorCase, ...]
    mergers: tuple[ErrorCase, ...]
    missing: tuple[MissedObject, ...]
    erl: ErlScore | None = None
    matches: Matches = field(default=NO_MATCHES, repr=False, compare=False)

    @classmethod
    def of(cls, table: Contingency, boundary: int | Xyz = 0, worst: int = 10) -> Evaluation:
        """Evaluates a table of all voxels.

        Args:
          table: the table.
          boundary: width of the band that its `inner` excludes.
          worst: maximum number of cases of each kind.
        """
        has_band = any(band_widths(boundary))
        inner = table.without_boundary() if has_band else table
        return cls(
            table.box,
            boundary,
            _scores(table),
            _scores(inner) if has_band else None,
            Coverage.of(table),
            find_splits(inner, worst),
            find_splits(inner.swapped(), worst),
            find_missed_objects(inner, worst),
            matches=find_matches(table),
        )

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers, lists and dicts, as doc/formats.md describes them."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        box = {'start_xyz': list(self.box.start), 'size_xyz': list(self.box.size)}
        return to_plain(
            {'box': box, 'boundary_voxels': fields.pop('boundary')}
            | {name: value for name, value in fields.items() if name not in ('box', 'matches')}
        )


def _scores(table: Contingency) -> dict[Counted, Scores | None]:
    rows = {counted: table.where(counted) for counted in get_args(Counted)}
    return {
        counted: Scores.of(table.rows(which)) if which.any() else None
        for counted, which in rows.items()
    }


def evaluate_volumes(
    truth: Volume,
    segmentation: Volume,
    box: Box,
    *,
    boundary: int | Xyz = 0,
    worst: int = 10,
    skeletons: Skeletons | None = None,
    voxel_size_xyz: Sequence[float] = (1, 1, 1),
    merge_threshold: float | None = None,
    quiet: bool = True,
) -> Evaluation:
    """Evaluates a segmentation; the volumes may be larger than memory.

    Args:
      truth: labels.
      segmentation: labels, in the same coordinates (see `ffn.evaluation.sources.shared_box`).
      box: region to compare, inside both.
      boundary: `inner_scores` exclude voxels this close to another label in the truth.
      worst: maximum number of cases of each kind.
      skeletons: for the expected run length, if any.
      voxel_size_xyz: physical size of a voxel.
      merge_threshold: see `ffn.evaluation.erl`; None: its default.
      quiet: no progress bar.

    Raises:
      UserError: the truth has no label in the box, or no skeleton lies inside it.
    """
    inside = None if skeletons is None else skeletons.clipped(box)
    table = compare_volumes(truth, segmentation, box, boundary=boundary, quiet=quiet)
    if not (table.truth > 0).any():
        raise UserError(f'{truth.name} has no label in box {box}: there is nothing to compare with')
    evaluation = Evaluation.of(table, boundary, worst)
    if inside is None:
        return evaluation
    segments = read_voxels(segmentation, inside.voxels_zyx)
    return dataclasses.replace(
        evaluation, erl=erl_score(inside, segments, voxel_size_xyz, merge_threshold)
    )
