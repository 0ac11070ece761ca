"""Tables of agglomeration as proofreading reads them: which segments were joined, and how sure that is."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ffn.proofreading.editing.objects import neighbours_of
from ffn.utils.checksums import read_checked
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz

_PAIRS = ('id_a', 'id_b', 'distance', 'x', 'y', 'z', 'accepted')
_EQUIVALENCES = ('id', 'joined_id')
# Strength of an edge of which nothing is known, and of one that a person made.
UNKNOWN, BY_HAND = 0.5, 1.0


@dataclass(frozen=True)
class ScoredPair:
    """Two segments that agglomeration looked at.

    Attributes:
      a: the lower id.
      b: the higher id.
      distance: between them, in units of the voxel size.
      point: where they are closest.
      accepted: whether they were joined.
      probability: that they are one object, as far as the table says: its column `probability`, or else the
        intersection over union of the two resegmented objects; None if it has neither.
    """

    a: int
    b: int
    distance: float
    point: Xyz
    accepted: bool
    probability: float | None = None

    @property
    def strength(self) -> float:
        """How strongly the two hold together, from 0 to 1: less, the less probable and the farther apart."""
        probability = UNKNOWN if self.probability is None else self.probability
        return probability / (1 + self.distance)


@dataclass(frozen=True)
class MergeTable:
    """What a table says.

    Attributes:
      pairs: those that were looked at; none in a table of equivalences.
      joined: pairs that hold the objects together.
      digest: of the joined pairs.
    """

    pairs: Sequence[ScoredPair] = ()
    joined: Sequence[tuple[int, int]] = ()

    @property
    def digest(self) -> str:
        """Identifies the objects before any edit; '' where nothing is joined."""
        if not self.joined:
            return ''
        text = '\n'.join(f'{a},{b}' for a, b in sorted(self.joined))
        return hashlib.sha256(text.encode()).hexdigest()

    def neighbours(self) -> dict[int, set[int]]:
        """Segment → those it is joined with."""
        return neighbours_of(self.joined)

    def by_pair(self) -> dict[tuple[int, int], ScoredPair]:
        """(lower id, higher id) → the pair."""
        return {(pair.a, pair.b): pair for pair in self.pairs}


def read_merge_table(path: str | Path | None) -> MergeTable:
    """Reads `merges.csv` or `equivalences.csv` of `ffn agglomerate`, or tables like these.

    Args:
      path: the table; None: nothing is joined.

    Raises:
      UserError: another kind of file, or a line that says nothing valid.
    """
    if path is None:
        return MergeTable()
    if not Path(path).exists():
        raise UserError(f'no such table: {path}')
    data = read_checked(path, 'run again what writes it')
    text = data.decode('utf-8-sig', errors='replace')
    reader = csv.DictReader(io.StringIO(text, newline=''))
    try:
        columns = tuple(reader.fieldnames or ())
        if columns == _EQUIVALENCES:
            rows = ((_id(row['id']), _id(row['joined_id'])) for row in _rows(reader))
            return MergeTable(joined=[(a, b) for a, b in rows if a != b])
        if not set(_PAIRS) <= set(columns):
            raise UserError(
                f'{path} has the columns {",".join(columns)[:100]!r}; expected merges.csv or equivalences.csv '
                f'of ffn agglomerate, with {",".join(_PAIRS)} or {",".join(_EQUIVALENCES)}'
            )
        pairs = [_pair(row) for row in _rows(reader)]
    except UserError:
        raise
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        raise UserError(f'{path}, line {reader.line_num}: {error}') from error
    return MergeTable(pairs, [(one.a, one.b) for one in pairs if one.accepted])


def _rows(reader: csv.DictReader) -> Iterator[Mapping[str, str]]:
    for row in reader:
        if None in row or None in row.values():
            raise ValueError('it has another number of columns than the first line')
        yield row


def _pair(row: Mapping[str, str]) -> ScoredPair:
    a, b = sorted((_id(row['id_a']), _id(row['id_b'])))
    distance, accepted = float(row['distance']), row['accepted']
    if a == b or accepted not in ('0', '1') or not 0 <= distance < math.inf:
        raise ValueError('expected two ids, a distance of 0 or more, and accepted 0 or 1')
    text = row.get('probability') or row.get('iou') or ''
    probability = float(text) if text else None
    if probability is not None and not 0 <= probability <= 1:
        raise ValueError(f'its probability or iou is {text}; expected 0 to 1')
    point = Xyz(int(row['x']), int(row['y']), int(row['z']))
    if max(map(abs, point)) >= 2**62:
        raise ValueError(f'{point} is no voxel')
    return ScoredPair(a, b, distance, point, accepted == '1', probability)


def _id(text: str) -> int:
    value = int(text)
    if not 0 < value < 2**64 - 1:
        raise ValueError(f'{text} is no id, from 1 to 2^64-2')
    return value
