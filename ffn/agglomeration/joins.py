"""Joins segments in the order of probability, under constraints.

The probability that two objects are one is judged by all pairs between their segments: the mean of the log odds of these
pairs. The two objects of highest probability are joined first, which changes what is known about the object that they
become (average linkage). So one weak or mistaken link between two large objects does not join them against all others,
and no chain of weak links forms. Objects are not joined if both have a soma, or if they would be too large together.
"""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from absl import logging
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffn.utils.errors import UserError
from ffn.utils.settings import check_needed, setting
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource

# Log odds of a pair are at most this, or what joins need, so that no pair outweighs all others.
_MOST_SURE = math.log(0.99 / 0.01)
# Log odds are added as integers of so many parts of 1.
_UNIT = 2**40
# Pairs that are lists of Python's numbers.
_AT_A_TIME = 1 << 16
# Outdated ones among the pairs of objects that are queued are not looked for below this.
_FEW_QUEUED = 1 << 10


@dataclass(frozen=True)
class JoinRules:
    """What may be joined."""

    min_probability: float = setting(
        'two objects are joined while the mean log odds of all pairs between them are at least those of this '
        'probability; more than a half, as wrong joins are harder to correct than missing ones',
        default=0.7,
        metavar='F',
    )
    max_voxels: int = setting(
        'no object becomes larger than this by joining; 0: no limit', default=0, metavar='N'
    )
    somata: VolumeSource | None = setting(
        'labels of somata or nuclei: segments of different ones are never joined. Where all are marked by one value, '
        'each segment with enough of it counts as one',
        default=None,
        parse=lambda text, flag: VolumeSource(absolute_spec(text)) if text else None,
        metavar='VOLUME',
    )
    soma_min_voxels: int = setting(
        'voxels of a soma that make a segment one of its parts', default=1000, metavar='N'
    )
    soma_size: int = setting(
        'a segment with this many voxels counts as a soma; 0: size says nothing',
        default=0,
        metavar='N',
    )

    def __post_init__(self) -> None:
        if not 0 < self.min_probability < 1:
            raise UserError(
                f'--min_probability is {self.min_probability:g}; expected more than 0, less than 1'
            )
        for name in ('max_voxels', 'soma_size'):
            if getattr(self, name) < 0:
                raise UserError(f'--{name} is {getattr(self, name)}; expected 0 or more')
        if self.soma_min_voxels < 1:
            raise UserError(f'--soma_min_voxels is {self.soma_min_voxels}; expected 1 or more')
        check_needed(self, 'somata', besides=['min_probability', 'max_voxels', 'soma_size'])

    @property
    def need_segments(self) -> bool:
        """Whether sizes or somata of segments count."""
        return bool(self.max_voxels or self.soma_size or self.somata)


class Why(IntEnum):
    """Why a pair was accepted or not; see `NOTES`."""

    JOINED = 0
    UNKNOWN = 1
    IMPROBABLE = 2
    WEAK = 3
    SOMATA = 4
    TOO_LARGE = 5
    THROUGH_OTHERS = 6


NOTES = {
    Why.JOINED: '',
    Why.UNKNOWN: 'not resegmented',
    Why.IMPROBABLE: 'improbable',
    Why.WEAK: 'improbable by all pairs between the two objects',
    Why.SOMATA: 'both objects have a soma',
    Why.TOO_LARGE: 'the object would be too large',
    Why.THROUGH_OTHERS: 'improbable, and joined through others',
}


@dataclass(frozen=True)
class Segments:
    """What is known about segments.

    Attributes:
      voxels: of each.
      soma: the soma that a segment has, by any number but 0; segments without one are not listed.
    """

    voxels: Mapping[int, int]
    soma: Mapping[int, int]


def measure_segments(overlaps: np.ndarray, rules: JoinRules) -> Segments:
    """Finds sizes and somata of segments.

    Args:
      overlaps: uint64 [m, 3], voxels of segments in each soma, see `ffn.agglomeration.overlaps.count_overlaps`.
      rules: what counts as a soma.
    """
    voxels: dict[int, int] = {}
    most: dict[int, tuple[int, int]] = {}
    somata = set()
    for segment, soma, count in overlaps.tolist():
        voxels[segment] = voxels.get(segment, 0) + count
        if soma:
            somata.add(soma)
        if soma and count >= rules.soma_min_voxels:
            most[segment] = max(most.get(segment, (0, 0)), (count, soma))
    one_value = len(somata) == 1
    if one_value and len(most) > 1:
        logging.warning(
            'all somata are marked by one value, %d, so each of the %d segments with %d of its voxels or more counts as one, '
            'and they are not joined; where they are pieces of one soma, give other somata other values',
            next(iter(somata)),
            len(most),
            rules.soma_min_voxels,
        )
    # Numbers below 0 are segments that count as a soma of their own.
    found = {i: -i if one_value else soma for i, (_, soma) in most.items()}
    if rules.soma_size:
        found |= {i: -i for i, n in voxels.items() if n >= rules.soma_size and i not in found}
    return Segments(voxels, found)


class Joins(NamedTuple):
    """What was decided about each pair.

    Attributes:
      why: uint8 [n], `Why`; pairs that are joined are accepted.
      between: float64 [n], probability that the two objects are one, by all pairs between them, when that was decided;
        NaN for pairs that are improbable and whose objects are not linked by others.
    """

    why: np.ndarray
    between: np.ndarray


def join(
    pairs: np.ndarray, probabilities: np.ndarray, rules: JoinRules, segments: Segments | None = None
) -> Joins:
    """Decides which pairs are joined, one group of segments that probable pairs link after the other.

    A pair takes about 120 bytes of memory while groups are found, and then a pair of the group about 500 while that is decided.

    Args:
      pairs: uint64 [n, 2], segments; a pair may be there several times.
      probabilities: float64 [n], NaN where nothing is known.
      rules: what may be joined.
      segments: their sizes and somata, needed if `rules.need_segments`.
    """
    why = np.full(len(pairs), Why.IMPROBABLE, np.uint8)
    why[np.isnan(probabilities)] = Why.UNKNOWN
    between = np.full(len(pairs), np.nan)
    for chosen in _linked(pairs, probabilities, rules.min_probability):
        state = _Joining(pairs[chosen], probabilities[chosen], rules, segments)
        state.run()
        why[chosen], between[chosen] = state.why, state.between
    return Joins(why, between)


def _linked(pairs: np.ndarray, probabilities: np.ndarray, least: float) -> Iterator[np.ndarray]:
    """Yields the known pairs among segments that are linked by probable pairs, as indices: no others can be joined."""
    chosen, begins = _by_group(pairs, probabilities, least)
    for begin, end in itertools.pairwise([*begins.tolist(), len(chosen)]):
        yield chosen[begin:end]


def _by_group(
    pairs: np.ndarray, probabilities: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns these pairs in the order of groups, and where each group begins."""
    known = np.flatnonzero(~np.isnan(probabilities))
    if not len(known):
        return known, known
    ids, at = np.unique(pairs[known], return_inverse=True)
    a, b = at.reshape(-1, 2).T
    probable = probabilities[known] >= least
    edges = np.ones(int(probable.sum()), np.uint8), (a[probable], b[probable])
    _, group = connected_components(coo_array(edges, shape=(len(ids),) * 2), directed=False)
    within = group[a] == group[b]
    order = np.argsort(group[a[within]], kind='stable')
    chosen, groups = known[within][order], group[a[within]][order]
    return chosen, np.flatnonzero(np.diff(groups, prepend=-1))


class _Links:
    """Sets of pairs between two objects, of which some are merged; each is called by the index of one of its pairs.

    Attributes:
      odds: sum of their log odds, in units of 1 / _UNIT: sums of integers are the same in every order.
      count: how many pairs.
      forbidden: why the two objects cannot be joined, if that is what was found last; else JOINED.
    """

    def __init__(self, odds: np.ndarray):
        """Makes a set of each pair."""
        self.odds: list[int] = odds.tolist()
        self.count = array('q', [1]) * len(odds)
        self.forbidden = bytearray(len(odds))
        # Each pair is followed by another one of its set, the last by -1.
        self._next = array('q', [-1]) * len(odds)
        self._last = array('q', range(len(odds)))

    def mean(self, link: int) -> float:
        """Of the log odds, in the same unit."""
        return self.odds[link] / self.count[link]

    def merge(self, one: int, other: int) -> int:
        """Returns the one with more pairs, which has those of both now."""
        kept, gone = (one, other) if self.count[one] >= self.count[other] else (other, one)
        self.odds[kept] += self.odds[gone]
        self.count[kept] += self.count[gone]
        self._next[self._last[kept]], self._last[kept] = gone, self._last[gone]
        return kept

    def pairs(self, link: int) -> Iterator[int]:
        """Yields the indices of its pairs."""
        while link >= 0:
            yield link
            link = self._next[link]


class _Joining:
    """Average linkage under constraints, for segments that are linked; objects are numbered in the order of ids."""

    def __init__(
        self,
        pairs: np.ndarray,
        probabilities: np.ndarray,
        rules: JoinRules,
        segments: Segments | None,
    ):
        clipped = np.clip(probabilities, 1e-12, 1 - 1e-12)
        least = math.log(rules.min_probability / (1 - rules.min_probability))
        self._least = round(least * _UNIT)
        most_sure = max(_MOST_SURE, least)
        odds = np.clip(np.log(clipped / (1 - clipped)), -most_sure, most_sure)
        self._probable = probabilities >= rules.min_probability
        self._rules = rules
        self.why = np.full(len(pairs), Why.IMPROBABLE, np.uint8)
        self.between = np.full(len(pairs), np.nan)
        self._sets = _Links(np.rint(odds * _UNIT).astype(np.int64))
        ids, at = np.unique(pairs, return_inverse=True)
        # Object → object → the pairs between them; none for an object that became part of another.
        self._links: list[dict[int, int]] = [{} for _ in ids]
        self._link(at.reshape(-1, 2))
        known = segments or Segments({}, {})
        self._voxels = [known.voxels.get(i, 0) for i in ids.tolist()]
        self._soma = [known.soma.get(i, 0) for i in ids.tolist()]
        self._heap: list[tuple[float, int, int, int]] = []
        self._most_queued = len(pairs)

    def _link(self, pairs: np.ndarray) -> None:
        numbers = list(range(len(self._links)))  # one integer in memory for each
        for begin in range(0, len(pairs), _AT_A_TIME):
            for link, (a, b) in enumerate(pairs[begin : begin + _AT_A_TIME].tolist(), begin):
                there = self._links[a].get(b)
                both = link if there is None else self._sets.merge(there, link)
                self._links[a][numbers[b]] = self._links[b][numbers[a]] = both

    def run(self) -> None:
        """Joins what is to be joined, the most probable first."""
        for a, others in enumerate(self._links):
            for b in others:
                if a < b:
                    self._push(a, b)
        while self._heap:
            first = heapq.heappop(self._heap)
            _, a, b, _ = first
            link = self._current(first)
            if link is None:
                continue
            forbidden = self._forbidden(a, b)
            self._sets.forbidden[link] = forbidden or Why.JOINED
            if forbidden is None:
                self._decide(link, Why.THROUGH_OTHERS, Why.JOINED)
                self._unite(a, b)
        for a, others in enumerate(self._links):
            for b, link in others.items():
                if a < b:
                    weak = self._sets.mean(link) < self._least
                    forbidden = Why.WEAK if weak else Why(self._sets.forbidden[link])
                    self._decide(link, Why.IMPROBABLE, forbidden or Why.WEAK)

    def _push(self, a: int, b: int) -> None:
        link = self._links[a][b]
        if (mean := self._sets.mean(link)) >= self._least:
            heapq.heappush(self._heap, (-mean, min(a, b), max(a, b), self._sets.count[link]))
        if len(self._heap) > self._most_queued:
            self._heap = [one for one in self._heap if self._current(one) is not None]
            heapq.heapify(self._heap)
            self._most_queued = len(self._heap) * 3 // 2 + _FEW_QUEUED

    def _current(self, queued: tuple[float, int, int, int]) -> int | None:
        """The link that was queued; None if what was known then has changed."""
        _, a, b, count = queued
        link = self._links[a].get(b)
        return link if link is not None and self._sets.count[link] == count else None

    def _forbidden(self, a: int, b: int) -> Why | None:
        if self._soma[a] and self._soma[b] and self._soma[a] != self._soma[b]:
            return Why.SOMATA
        most = self._rules.max_voxels
        return Why.TOO_LARGE if most and self._voxels[a] + self._voxels[b] > most else None

    def _decide(self, link: int, improbable: Why, probable: Why) -> None:
        at = np.fromiter(self._sets.pairs(link), np.int64, self._sets.count[link])
        self.between[at] = 1 / (1 + math.exp(-self._sets.mean(link) / _UNIT))
        self.why[at] = np.where(self._probable[at], probable, improbable)

    def _unite(self, a: int, b: int) -> None:
        """The object with fewer neighbours becomes part of the other."""
        if len(self._links[a]) < len(self._links[b]):
            a, b = b, a
        gone, self._links[b] = self._links[b], {}
        del gone[a], self._links[a][b]
        for other, link in gone.items():
            del self._links[other][b]
            if other in self._links[a]:
                link = self._sets.merge(link, self._links[a][other])
            self._links[a][other] = self._links[other][a] = link
            self._push(a, other)
        self._voxels[a] += self._voxels[b]
        self._soma[a] = self._soma[a] or self._soma[b]
