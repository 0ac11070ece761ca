"""Sums of tables that grow: what is added up, and how often."""

from __future__ import annotations

import numpy as np

from ffn.utils.running_sum import RunningSum


def sorted_rows(least: int, parts: int, distinct: int) -> tuple[np.ndarray, int]:
    """Adds `parts` tables of ten numbers below `distinct` each; returns the sum, and how many rows were sorted."""
    rows = 0

    def add_up(tables: list[np.ndarray]) -> np.ndarray:
        nonlocal rows
        joined = np.concatenate(tables)
        rows += len(joined)
        return np.unique(joined)

    summed = RunningSum(add_up, len, least, [np.zeros(0, np.int64)])
    for part in range(parts):
        summed.add(np.arange(10 * part, 10 * part + 10) % distinct)
    return summed.total(), rows


def test_tables_are_added_up():
    for least in (0, 7, 10**6):
        total, _ = sorted_rows(least, 60, 250)
        np.testing.assert_array_equal(total, np.arange(250))


def test_rows_that_repeat_are_not_kept():
    _, rows = sorted_rows(100, 1000, 20)
    assert rows < 1.5 * 10_000


def test_distinct_rows_are_sorted_a_few_times_and_not_for_every_table():
    _, rows = sorted_rows(100, 1000, 10**6)
    assert rows < 4 * 10_000
