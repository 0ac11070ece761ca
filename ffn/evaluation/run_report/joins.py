"""What an agglomeration decided, from its table."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffn.evaluation.run_report.run_files import MERGES
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

_NEEDED = ('id_a', 'id_b', 'x', 'y', 'z', 'accepted')
_SCORES = ('probability', 'iou')
_BINS, _EXAMPLES = 20, 5


@dataclass(frozen=True)
class Decision:
    """A pair of the table.

    Attributes:
      ids: of the two segments.
      at_xyz: where they are closest.
      score: how much speaks for one object, 0 to 1.
    """

    ids: tuple[int, int]
    at_xyz: Xyz
    score: float


@dataclass(frozen=True)
class Joins:
    """The decisions of an agglomeration.

    Attributes:
      score: the column that decides the order of examples: 'probability' or 'iou'.
      accepted: number of pairs that were joined.
      rejected: number that were not.
      not_scored: of these, pairs of which not both segments could be grown again.
      histogram_accepted: number of joined pairs by score, in equal steps from 0 to 1.
      histogram_rejected: the same of the others.
      weakest_accepted: joined pairs with the lowest scores.
      strongest_rejected: the others with the highest.
    """

    score: str
    accepted: int
    rejected: int
    not_scored: int
    histogram_accepted: list[int]
    histogram_rejected: list[int]
    weakest_accepted: tuple[Decision, ...]
    strongest_rejected: tuple[Decision, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers, lists and dicts."""
        return dataclasses.asdict(self)


def read_joins(folder: Path) -> Joins:
    """Reads the table of decisions, line by line.

    Raises:
      UserError: it is of another kind.
    """
    path = folder / MERGES
    sides: dict[bool, list[Decision]] = {True: [], False: []}
    counts, unscored = {True: 0, False: 0}, 0
    histograms = {side: np.zeros(_BINS, np.int64) for side in sides}
    with path.open(newline='', encoding='utf-8', errors='replace') as file:
        reader = csv.DictReader(file)
        try:
            score = _choose_score(reader.fieldnames or (), path)
            for row in reader:
                decision, accepted = _decision(row, score)
                counts[accepted] += 1
                if math.isnan(decision.score):
                    unscored += 1
                    continue
                histograms[accepted][min(int(decision.score * _BINS), _BINS - 1)] += 1
                _keep(sides[accepted], decision, lowest=accepted)
        except (TypeError, ValueError, KeyError, csv.Error) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f'{path}, line {reader.line_num}: {error}') from error
    return Joins(
        score,
        counts[True],
        counts[False],
        unscored,
        histograms[True].tolist(),
        histograms[False].tolist(),
        tuple(sides[True]),
        tuple(sides[False]),
    )


def _choose_score(columns: Sequence[str], path: Path) -> str:
    score = next((name for name in _SCORES if name in columns), '')
    if not score or not set(_NEEDED) <= set(columns):
        raise UserError(
            f'{path} is no table of decisions: it has the columns {",".join(columns)[:100]}; '
            f'expected {",".join(_NEEDED)} and one of {",".join(_SCORES)}'
        )
    return score


def _keep(examples: list[Decision], decision: Decision, lowest: bool) -> None:
    """Keeps some decisions, with the lowest scores or with the highest."""
    examples.append(decision)
    examples.sort(key=lambda one: one.score if lowest else -one.score)
    del examples[_EXAMPLES:]


def _decision(row: dict[str, str], score: str) -> tuple[Decision, bool]:
    value = float(row[score]) if row[score] else math.nan
    if not (math.isnan(value) or 0 <= value <= 1) or row['accepted'] not in ('0', '1'):
        raise ValueError(f'{score} is {row[score]!r} and accepted {row["accepted"]!r}')
    at = Xyz(int(row['x']), int(row['y']), int(row['z']))
    ids = int(row['id_a']), int(row['id_b'])
    if not all(0 <= i < 2**64 for i in ids):
        raise ValueError(f'the ids are {ids}; expected 0 to 2^64 - 1')
    return Decision(ids, at, value), row['accepted'] == '1'
