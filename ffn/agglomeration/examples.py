"""Pairs of segments that a person has judged, as a table, and what they are to a fit.

`ffn apply-edits --examples` writes such tables of what was proofread, `ffn agglomerate --fit_examples` takes them, beside
a ground truth or instead of one. An example counts for its pair alone; what several say together only finds those that
contradict others, and keeps one object on one side of cross-validation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from scipy.cluster.hierarchy import DisjointSet

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.volumes.provenance import check_made_from

_REQUIRED = ('id_a', 'id_b', 'label')
_COLUMNS = ('id_a', 'id_b', 'x', 'y', 'z', 'label', 'source', 'made_from')

Pair = tuple[int, int]


class Example(NamedTuple):
    """Two segments, and whether they are one object.

    Attributes:
      id_a: the lower id.
      id_b: the higher id.
      point: where they meet, or where one was pointed at.
      label: 1 if they are one object, 0 if not.
      source: 'merge', 'split' or 'decision'.
    """

    id_a: int
    id_b: int
    point: Xyz
    label: int
    source: str


def write_examples(path: Path, examples: Collection[Example], made_from: str) -> None:
    """Writes examples as CSV, atomically; see doc/formats.md.

    Args:
      path: of the table.
      examples: what was judged.
      made_from: stamp of the segmentation that has these segments; '' if it has none.
    """
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for one in examples:
            writer.writerow([one.id_a, one.id_b, *one.point, one.label, one.source, made_from])


def read_examples(path: str | Path, made_from: str) -> list[tuple[Pair, bool]]:
    """Reads what `write_examples` wrote, or a table with at least the columns id_a, id_b and label.

    Args:
      path: of the table.
      made_from: stamp of the segmentation that is agglomerated; '' if it has none.

    Returns:
      Pairs, the lower id first, and whether they are one object.

    Raises:
      UserError: no such table, another kind of file, or examples of another segmentation.
    """
    if not Path(path).is_file():
        raise UserError(f'no such table of examples: {path}')
    text = Path(path).read_bytes().decode('utf-8-sig', errors='replace')
    reader = csv.DictReader(io.StringIO(text, newline=''))
    try:
        columns = reader.fieldnames or ()
        if not set(_REQUIRED) <= set(columns):
            raise UserError(
                f'{path} has the columns {",".join(columns)[:100]!r}; expected a table of ffn apply-edits '
                f'--examples, with {",".join(_REQUIRED)}'
            )
        found = []
        for row in reader:
            theirs = row.get('made_from') or ''
            check_made_from(path, theirs, made_from, 'leave it out')
            found.append((_pair(row['id_a'], row['id_b']), _label(row['label'])))
    except UserError:
        raise
    except (TypeError, ValueError, csv.Error) as error:
        raise UserError(f'{path}, line {reader.line_num}: {error}') from error
    return found


def _pair(first: str, second: str) -> Pair:
    a, b = sorted((int(first), int(second)))
    if not 0 < a < b < 2**64:
        raise ValueError(f'{first} and {second} are no two ids, from 1 to 2^64-1')
    return a, b


def _label(text: str) -> bool:
    if text not in ('0', '1'):
        raise ValueError(f'its label is {text!r:.40}; expected 0 or 1')
    return text == '1'


class Resolved(NamedTuple):
    """Examples that do not contradict each other.

    Attributes:
      objects: pair → the objects of its two segments: those of the ground truth, or numbers that none of these has.
      contradictory: pairs that are left out.
    """

    objects: dict[Pair, Pair]
    contradictory: list[Pair]


def resolve_examples(
    examples: Iterable[tuple[Pair, bool]], owners: Mapping[int, int] | None = None
) -> Resolved:
    """Makes objects of examples, and finds what contradicts the ground truth or other examples.

    Left out are pairs that are said to be one object and not; pairs of one object that would join two objects of the
    ground truth; and pairs of two that are one object by the ground truth or through other examples.

    Args:
      examples: pairs, and whether they are one object.
      owners: segment → its object of the ground truth, for all that have one.
    """
    said: dict[Pair, set[bool]] = {}
    for pair, is_one in examples:
        said.setdefault(pair, set()).add(is_one)
    groups = _Groups(owners or {})
    left_out = {pair for pair, answers in said.items() if len(answers) > 1}
    ordered = sorted(said.keys() - left_out)
    left_out.update(pair for pair in ordered if said[pair] == {True} and not groups.unite(*pair))
    left_out.update(pair for pair in ordered if said[pair] == {False} and groups.are_one(*pair))
    kept = [pair for pair in ordered if pair not in left_out]
    return Resolved({(a, b): (groups[a], groups[b]) for a, b in kept}, sorted(left_out))


class _Groups:
    """Objects that examples and the ground truth make of segments."""

    def __init__(self, owners: Mapping[int, int]):
        self._owners, self._sets = owners, DisjointSet()
        # Root of a set → its object of the ground truth.
        self._truth: dict[tuple[str, int], int] = {}
        taken = set(owners.values())
        self._free = (n for n in range(2**64 - 1, 0, -1) if n not in taken)

    def __getitem__(self, segment: int) -> int:
        root = self._root(segment)
        if root not in self._truth:
            self._truth[root] = next(self._free)
        return self._truth[root]

    def are_one(self, a: int, b: int) -> bool:
        return self._root(a) == self._root(b)

    def unite(self, a: int, b: int) -> bool:
        """Makes one object of two, unless the ground truth says otherwise."""
        first, second = self._root(a), self._root(b)
        objects = {self._truth[root] for root in (first, second) if root in self._truth}
        if len(objects) > 1:
            return False
        self._sets.merge(first, second)
        for found in objects:
            self._truth[self._root(a)] = found
        return True

    def _root(self, segment: int) -> tuple[str, int]:
        owner = self._owners.get(segment)
        node = ('segment', segment) if owner is None else ('object', owner)
        if node not in self._sets:
            self._sets.add(node)
            if owner is not None:
                self._truth[node] = owner
        return self._sets[node]
