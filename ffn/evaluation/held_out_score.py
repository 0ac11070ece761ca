"""What a held-out box says of a network, as numbers and as a line of a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ffn.evaluation.contingency import Contingency, Counted
from ffn.evaluation.rand import rand_of
from ffn.evaluation.voi import voi_of

# Heading, name of the field, format; all columns are equally wide.
_COLUMNS = (
    ('Rand', 'rand_error', '.4f'), ('precision', 'rand_precision', '.4f'),
    ('recall', 'rand_recall', '.4f'), ('VOI split', 'voi_split', '.4f'),
    ('merge', 'voi_merge', '.4f'), ('filled', 'filled_fraction', '.1%'),
    ('objects', 'objects', 'd'), ('steps', 'steps', 'd'), ('seconds', 'seconds', '.1f'),
)  # fmt: skip
HEADER = ' '.join(f'{heading:>9}' for heading, *_ in _COLUMNS)


@dataclass(frozen=True)
class Segmented:
    """A segmentation of the box, and what it took.

    Attributes:
      labels: integer [z, y, x], 0 is background.
      steps: network steps.
      seconds: time of segmenting.
      complete: no limit ended the run.
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
      filled_fraction: part of the box's voxels that belong to segments.
      objects: segments.
      steps: network steps.
      seconds: time of segmenting.
      complete: no limit ended the run; else the scores are of what was segmented until then.
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
        """Compares a segmentation with the truth.

        Args:
          truth: integer [z, y, x], 0 is unlabelled.
          found: the segmentation.
          counted: over which voxels, see `Contingency.counted`.

        Raises:
          UserError: different shapes, or no voxel counts.
        """
        table = Contingency.of(truth, found.labels).counted(counted)
        rand, voi = rand_of(table), voi_of(table)
        filled = found.labels > 0
        return cls(
            rand.error, rand.precision, rand.recall, voi.split, voi.merge,
            filled_fraction=float(filled.mean()),
            objects=len(np.unique(found.labels[filled])),
            steps=found.steps, seconds=found.seconds, complete=found.complete,
        )  # fmt: skip

    def scalars(self) -> dict[str, float]:
        """Names and values, as a training logs them."""
        return {name: float(value) for name, value in dataclasses.asdict(self).items()}

    def row(self) -> str:
        """A line under HEADER."""
        cells = ' '.join(f'{getattr(self, name):>9{form}}' for _, name, form in _COLUMNS)
        return cells if self.complete else f'{cells} (stopped at a limit)'
