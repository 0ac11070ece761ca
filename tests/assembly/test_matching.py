"""Which ids of two neighbours are one object, and how what they share is counted."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.assembly.matching import Matching, match_ids
from ffn.utils.errors import UserError


def table(*rows: tuple[int, int, int]) -> np.ndarray:
    return np.array(rows, np.uint64).reshape(-1, 3)


def pairs(matching: Matching, *rows: tuple[int, int, int]) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in match_ids(table(*rows), matching).pairs.tolist()]


ANY = Matching(min_voxels=1, min_fraction_smaller=0, conflicts='join')


def test_thresholds():
    rows = (1, 1, 60), (1, 0, 40), (0, 1, 140), (2, 2, 4), (0, 3, 9)
    # 60 voxels of the 100 of one and the 200 of the other.
    assert pairs(ANY, *rows) == [(1, 1), (2, 2)]
    assert pairs(Matching(5, 0, 0), *rows) == [(1, 1)]
    assert pairs(Matching(61, 0, 0), *rows) == []
    assert pairs(Matching(1, 0.6, 0), *rows) == [(1, 1), (2, 2)]
    assert pairs(Matching(1, 0.61, 0), *rows) == [(2, 2)]
    assert pairs(Matching(1, 0, 0.3), *rows) == [(1, 1), (2, 2)]
    assert pairs(Matching(1, 0, 0.31), *rows) == [(2, 2)]


def test_conflicts():
    # 1 shares most with 5; 6 has more in common with 2 than with 1.
    rows = (1, 5, 50), (1, 6, 30), (2, 6, 40), (3, 7, 10)
    found = match_ids(table(*rows), ANY)
    assert found.pairs.tolist() == [[1, 5], [1, 6], [2, 6], [3, 7]]
    assert found.candidates == 4
    assert found.conflicts.tolist() == [[0, 1], [1, 6]]
    largest = match_ids(table(*rows), Matching(1, 0, 0, 'largest'))
    assert largest.pairs.tolist() == [[1, 5], [2, 6], [3, 7]]
    assert largest.conflicts.tolist() == [[0, 1], [1, 6]]
    # Of equal ones, the lowest ids.
    assert pairs(Matching(1, 0, 0, 'largest'), (1, 5, 9), (1, 6, 9), (2, 6, 9)) == [(1, 5)]
    assert pairs(Matching(1, 0, 0, 'largest'), (1, 5, 9), (2, 5, 9)) == [(1, 5)]


def test_a_pair_that_reaches_no_threshold_takes_no_place():
    """11 shares more with 2 than with 1, but too little of both to match it."""
    rows = (1, 10, 100), (1, 11, 200), (2, 11, 900), (2, 0, 2500), (0, 11, 2000)
    found = match_ids(table(*rows), Matching(min_fraction_smaller=0.5))
    assert found.pairs.tolist() == [[1, 11]]
    assert found.conflicts.tolist() == [[0, 1]]  # 1 matches 10 and 11
    assert pairs(Matching(min_fraction_smaller=0.2), *rows) == [(2, 11)]


def test_nothing_shared():
    found = match_ids(table(), Matching())
    assert len(found.pairs) == found.candidates == len(found.conflicts) == 0
    assert pairs(Matching(), (1, 0, 500), (0, 2, 500)) == []


@pytest.mark.parametrize(
    ('words', 'changes'),
    [
        ('min_overlap_voxels is 0', {'min_voxels': 0}),
        ('min_fraction_smaller is -0.1', {'min_fraction_smaller': -0.1}),
        ('min_fraction_larger is 1.5', {'min_fraction_larger': 1.5}),
        ("conflicts is 'split'; expected join or largest", {'conflicts': 'split'}),
    ],
)
def test_thresholds_out_of_range(words, changes):
    with pytest.raises(UserError, match=words):
        Matching(**changes)
