"""All that is known about the candidates, in tables on disk, of which one at a time is in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.config import ResegmentationConfig
from ffn.agglomeration.evidence import ADVICE, SCORES, scores_of
from ffn.agglomeration.features import FEATURES, measure_pair
from ffn.agglomeration.pairs import task_for
from ffn.agglomeration.resegmentation import result_path
from ffn.distributed.pool import Pool, run_stage
from ffn.utils.checksums import read_checked_npy, write_checked_npy
from ffn.utils.geometry import Xyz

# Pairs of a table, which is made by one task.
_PAIRS = 64
_PER_FOLDER = 1000
# Of the tables: those of another version are made again.
_VERSION = 4

# Scores and features of pairs that could not be resegmented are NaN, as are scores of an object that was not grown.
ROW = np.dtype(
    [
        ('id_a', '<u8'),
        ('id_b', '<u8'),
        ('distance', '<f8'),
        ('point_xyz', '<i8', (3,)),
        ('scores', '<f8', (len(SCORES),)),
        ('features', '<f8', (len(FEATURES),)),
    ]
)


@dataclass(frozen=True)
class EvidenceTable:
    """What is known about each candidate; it can be read again and again.

    Attributes:
      config: how pairs were resegmented.
      candidates: returns the candidates, which need not be held in memory.
      folder: of the tables.
    """

    config: ResegmentationConfig
    candidates: Callable[[], Iterable[Candidate]]
    folder: Path

    def forget_unfinished(self) -> None:
        """Removes tables with pairs whose results are missing, so that they are made again."""
        for pairs, path in self._tables():
            if path.exists() and not all(_result(self.config, pair).exists() for pair in pairs):
                path.unlink()

    def measure(self, pool: Pool, quiet: bool = False) -> None:
        """Makes the tables that are missing.

        Args:
          pool: runs the tasks.
          quiet: no progress bar.

        Raises:
          UserError: a result is damaged, or a volume cannot be read.
        """

        def left() -> Iterator[tuple[ResegmentationConfig, Sequence[Candidate], Path]]:
            for pairs, path in self._tables():
                if not path.exists():
                    yield self.config, pairs, path

        count = sum(len(pairs) for _, pairs, _ in left())
        for _ in run_stage(
            pool, measure_table, left(), count, 'evidence', quiet, lambda task: len(task[1]), 'pair'
        ):
            pass

    def read(self) -> Iterator[np.ndarray]:
        """Yields the tables, arrays of ROW, in the order of the candidates.

        Raises:
          UserError: one is damaged.
        """
        for _, path in self._tables():
            table = read_checked_npy(path, ADVICE)
            yield table

    def _tables(self) -> Iterator[tuple[Sequence[Candidate], Path]]:
        pairs = iter(self.candidates())
        for number in itertools.count():
            if not (batch := tuple(itertools.islice(pairs, _PAIRS))):
                return
            folder, name = divmod(number, _PER_FOLDER)
            yield batch, self.folder / f'v{_VERSION}' / str(folder) / f'{name}.npy'


def measure_table(config: ResegmentationConfig, pairs: Sequence[Candidate], path: Path) -> None:
    """Measures some pairs, and writes their table.

    Args:
      config: how they were resegmented.
      pairs: those without a result get NaN.
      path: table to write.

    Raises:
      UserError: see `ffn.agglomeration.features.measure_pair`.
    """
    rows = np.zeros(len(pairs), ROW)
    with config.segmentation.open() as volume, config.inference.image.open() as image:
        labels, image = volume.require_labels(), image.single_channel()
        for row, pair in zip(rows, pairs, strict=True):
            row['id_a'], row['id_b'], row['distance'], row['point_xyz'] = pair
            result = _result(config, pair)
            if result.exists():
                scores, features = measure_pair(result, pair.distance, labels, image)
                row['scores'], row['features'] = scores_of(scores), features
            else:
                row['scores'] = row['features'] = np.nan
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checked_npy(path, rows)


def candidate_of(row: np.void) -> Candidate:
    """Returns the candidate that a row is about."""
    point = Xyz(*row['point_xyz'].tolist())
    return Candidate(int(row['id_a']), int(row['id_b']), float(row['distance']), point)


def _result(config: ResegmentationConfig, pair: Candidate) -> Path:
    return result_path(config, task_for(pair))
