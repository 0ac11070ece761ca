"""Places in a volume that a viewer marks: seeds, decision points, merges, errors; and the tables they are read from."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz

# Places of a table that are shown.
MOST = 1_000_000
# Columns that hold ids of segments.
_IDS = ('id', 'id_a', 'id_b', 'segment', 'segment_id')
_KINDS, _MOST_FLOAT32 = 255, 3e38
_FARTHEST = 2.0**53
# What 0 and 1 in a column `accepted` stand for, and the words that it may have, also of other programs; 2 is nothing.
ANSWERS = ('no', 'yes')
_WORDS = (('no', 'n', 'false', 'f'), ('yes', 'y', 'true', 't'), ('', 'nan', 'na', 'none', 'null'))
_ANSWER = {word: answer for answer, words in enumerate(_WORDS) for word in words}


@dataclass(frozen=True)
class Property:
    """A value of every place, by which the viewer colours and filters them.

    Attributes:
      name: lower-case letters, digits and _.
      values: float32 [n], NaN where there is none; or uint8 [n], numbers of names.
      names: what the numbers 0, 1, … stand for; empty for float32.
    """

    name: str
    values: np.ndarray
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """Places to be marked.

    Attributes:
      points: float64 [n, 3], x, y, z in voxels; 0 to 1 lie in the first one.
      relations: 'segments', 'truth' → ids that each place is about.
      properties: values of each.
      descriptions: texts, one for each place; () for none.
      color: of the places, #rrggbb; where there is a property 'accepted' that says yes or no, that decides.
    """

    points: np.ndarray
    relations: Mapping[str, Sequence[Sequence[int]]]
    properties: tuple[Property, ...] = ()
    descriptions: tuple[str, ...] = ()
    color: str = '#ffe000'

    @property
    def box(self) -> Box:
        """The voxels from the first to the last place on every axis."""
        if not len(self.points):
            return Box(Xyz(0, 0, 0), Xyz(0, 0, 0))
        low, high = np.floor(self.points.min(axis=0)), np.floor(self.points.max(axis=0))
        return Box(Xyz(*low.astype(int).tolist()), Xyz(*(high - low + 1).astype(int).tolist()))


def read_table(path: str | Path) -> Annotations:
    """Reads places from a CSV table: merges.csv, candidates.csv, or one of your own.

    Columns `x`, `y` and `z` are voxels. `id`, `id_a`, `id_b` and `segment` are ids of segments; every other column
    becomes a property, or is left out with a warning. A table of three columns needs no header.

    Raises:
      UserError: no such file, or another kind of table.
    """
    try:
        with open(path, newline='', encoding='utf-8-sig', errors='replace') as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            rows: Iterable[list[str]] = reader
            if len(header) == 3 and all(map(_is_number, header)):
                header, rows = ['x', 'y', 'z'], itertools.chain([header], reader)
            _check_header(header, path)
            kept = [row for row in itertools.islice(rows, MOST + 1) if row]
    except csv.Error as error:
        raise UserError(f'{path} is no table: {error}') from error
    if len(kept) > MOST:
        logging.warning('%s: only the first %d places are shown', path, MOST)
        del kept[MOST:]
    for number, row in enumerate(kept, 2):
        if len(row) != len(header):
            raise UserError(f'{path}, line {number}: {len(row)} values; expected {len(header)}')
    columns = dict(zip(header, zip(*kept, strict=True), strict=True)) if kept else {}
    return _make(columns or dict.fromkeys(header, ()), path)


def _check_header(header: Sequence[str], path: str | Path) -> None:
    if not {'x', 'y', 'z'} <= {*header} or len({*header}) != len(header):
        raise UserError(
            f'{path} has the columns {",".join(header)[:200]!r}; expected x, y and z, and each name once'
        )


def _make(columns: Mapping[str, Sequence[str]], path: str | Path) -> Annotations:
    try:
        points = np.array([[float(n) for n in columns[axis]] for axis in 'xyz'], np.float64).T
        if not (np.abs(points) < _FARTHEST).all():
            raise ValueError('a position that is no place')
        ids = [[_parse_id(text) for text in columns[name]] for name in _IDS if name in columns]
    except ValueError as error:
        raise UserError(
            f'{path}: {error}; expected x,y,z in voxels and ids from 0 to 2^64 - 1'
        ) from error
    # Voxels that are given by whole numbers are marked in their middle; a fraction anywhere says that all are exact.
    points = points + 0.5 * (points == np.floor(points)).all()
    segments = [[i for i in row if i] for row in zip(*ids, strict=True)] if ids else []
    others = [name for name in columns if name not in ('x', 'y', 'z', *_IDS)]
    properties: dict[str, Property] = {}
    # Those that viewers take as they are keep their names.
    for column in sorted(others, key=lambda one: _property_name(one, ()) != one):
        name = _property_name(column, properties)
        made = _make_property(name, columns[column])
        if made is None:
            logging.warning(
                '%s: the column %s is not shown: it has more than %d different texts',
                *(path, column, _KINDS),
            )
        else:
            properties[name] = made
    relations = {'segments': segments} if ids else {}
    return Annotations(points.reshape(-1, 3), relations, tuple(properties.values()))


def _property_name(column: str, taken: Container[str]) -> str:
    """A name that viewers take, and that no other column has."""
    name = re.sub('[^a-z0-9_]', '_', column.lower())
    name = name if name[:1].isalpha() else f'p_{name}'
    others = (f'{name}_{n}' for n in itertools.count(2))
    return next(one for one in itertools.chain([name], others) if one not in taken)


def _make_property(name: str, texts: Sequence[str]) -> Property | None:
    """A column as numbers or as one of a few names; None where it is neither."""
    if name == 'accepted' and (answers := _answers(texts)) is not None:
        return Property(name, answers, (*ANSWERS, '-') if (answers == 2).any() else ANSWERS)
    with contextlib.suppress(ValueError):
        numbers = np.array([float(text.strip() or 'nan') for text in texts])
        numbers[~(np.abs(numbers) < _MOST_FLOAT32)] = np.nan
        return Property(name, numbers.astype(np.float32))
    kinds = sorted({*texts})
    if len(kinds) > _KINDS:
        return None
    number = {kind: i for i, kind in enumerate(kinds)}
    values = np.array([number[text] for text in texts], np.uint8)
    return Property(name, values, tuple(kind or '-' for kind in kinds))


def _answers(texts: Sequence[str]) -> np.ndarray | None:
    """1 for yes, 0 for no, 2 for nothing; None where one is none of these."""
    found = [_answer(text.strip().lower()) for text in texts]
    return None if None in found else np.array(found, np.uint8)


def _answer(text: str) -> int | None:
    with contextlib.suppress(ValueError):
        if (number := float(text)) in (0, 1):
            return int(number)
    return _ANSWER.get(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _parse_id(text: str) -> int:
    """An id, of which other programs may have made a float; 0 for none."""
    found = re.fullmatch(r'\+?([0-9]+)(\.0*)?', text.strip() or '0')
    value = int(found[1][:30]) if found else -1
    if not 0 <= value < (2**53 if found and found[2] else 2**64):
        raise ValueError(f'{text} is no id')
    return value
