"""The scores of a network on a held-out box, as numbers and as a line of a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ffn.evaluation.contingency import Contingency, Counted
from ffn.evaluation.rand import compute_rand
from ffn.evaluation.voi import compute_voi

# Heading, field, format; all columns have the same width.
_COLUMNS = (
    ('Rand', 'rand_error', '.4f'),
    ('precision', 'rand_precision', '.4f'),
    ('recall', 'rand_recall', '.4f'),
    ('VOI split', 'voi_split', '.4f'),
    ('merge', 'voi_merge', '.4f'),
    ('filled', 'filled_fraction', '.1%'),
    ('objects', 'objects', 'd'),
    ('steps', 'steps', 'd'),
    ('seconds', 'seconds', '.1f'),
)
HEADER = ' '.join(f'{heading:>9}' for heading, *_ in _COLUMNS)


@dataclass(frozen=True)
class Segmented:
    """A segmentation of the box, and its cost.

    Attributes:
      labels: integer [z, y, x], 0 is background.
      steps: number of network steps.
      seconds: time taken.
      complete: whether the run ended without reaching a limit.
    """

    labels: np.ndarray
    steps: int = 0
    seconds: float = 0.0
    complete: bool = True


@dataclass(frozen=True)
class HeldOutScore:
    """How well a network segments the box.

    Attributes:
      rand_error: adapted Rand error, 0 is perfect.
      rand_precision: low where objects are merged.
      rand_recall: low where objects are split.
      voi_split: H(segmentation | truth), bits.
      voi_merge: H(truth | segmentation), bits.
      filled_fraction: fraction of the box's voxels that belong to segments.
      objects: number of segments.
      steps: number of network steps.
      seconds: time taken.
      complete: whether the run ended without reaching a limit; otherwise the scores are those of the
        objects segmented by then.
    """

    rand_error: float
    rand_precision: float
    rand_recall: float
    voi_split: float
    voi_merge: float
    filled_fraction: float
    objects: int
    steps: int
    seconds: float
    complete: bool

    @classmethod
    def of(cls, truth: np.ndarray, found: Segmented, counted: Counted = 'either') -> HeldOutScore:
        """Scores a segmentation against the truth.

        Args:
          truth: integer [z, y, x], 0 is unlabelled.
          found: the segmentation.
          counted: which voxels count, see `Contingency.counted`.

        Raises:
          UserError: different shapes, or no voxel counts.
        """
        table = Contingency.of(truth, found.labels).counted(counted)
        rand, voi = compute_rand(table), compute_voi(table)
        filled = found.labels > 0
        return cls(
            rand.error,
            rand.precision,
            rand.recall,
            voi.split,
            voi.merge,
            filled_fraction=float(filled.mean()),
            objects=len(np.unique(found.labels[filled])),
            steps=found.steps,
            seconds=found.seconds,
            complete=found.complete,
        )

    def scalars(self) -> dict[str, float]:
        """Returns names and values, for logging during training."""
        return {name: float(value) for name, value in dataclasses.asdict(self).items()}

    def row(self) -> str:
        """Formats a line under HEADER."""
        cells = ' '.join(f'{getattr(self, name):>9{form}}' for _, name, form in _COLUMNS)
        return cells if self.complete else f'{cells} (stopped at a limit)'
