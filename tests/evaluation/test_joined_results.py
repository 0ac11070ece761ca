"""Several results as one array: which are kept in memory, and what none of them covers."""

from __future__ import annotations

import collections
import itertools
import threading
import time
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest

from ffn.evaluation import joined_results
from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.joined_results import JoinedResults, count_uncovered
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import Volume

GRID, SIZE = Zyx(4, 5, 6), Zyx(3, 5, 7)


def many():
    """Results side by side, all of whose voxels have the label 1, and how often each was read."""
    counts, counting = collections.Counter(), threading.Lock()

    def read_counted(number):
        with counting:
            counts[number] += 1
        time.sleep(0.001)
        return np.ones(SIZE, np.uint8)

    boxes = [
        Box.from_zyx([i * n for i, n in zip(place, SIZE, strict=True)], SIZE)
        for place in np.ndindex(*GRID)
    ]
    return JoinedResults(boxes, read_counted), counts


def test_results_are_read_once_by_all_blocks_and_threads():
    joined, counts = many()
    volume = Volume('results', joined, {})
    table = compare_volumes(volume, volume, volume.box, block_zyx=Zyx(2, 8, 9))
    assert len(table.truth) == 4 * 5 * 6
    assert set(table.voxels) == {3 * 5 * 7}
    assert set(counts.values()) == {1}


def test_a_block_looks_only_at_results_near_it(monkeypatch):
    joined, counts = many()
    looked_at, intersection = [], Box.intersection
    monkeypatch.setattr(
        Box, 'intersection', lambda *boxes: looked_at.append(boxes) or intersection(*boxes)
    )
    assert joined[2:4, 6:8, 8:9].all()
    assert len(looked_at) == len(counts) == 2


@pytest.mark.parametrize('seed', range(6))
def test_boxes_of_any_size_are_found_in_the_order_in_which_they_count(seed):
    rng = np.random.default_rng(seed)
    corners, sizes = rng.integers(-9, 9, (40, 3)).tolist(), rng.integers(1, 9, (40, 3)).tolist()
    boxes = [Box(Xyz(*c), Xyz(*s)) for c, s in zip(corners, sizes, strict=True)][: 8 * seed]
    index = joined_results._Index(boxes)
    for place in itertools.product(range(-10, 18, 4), repeat=3):
        box = Box(Xyz(*place), Xyz(3, 1, 2))
        expected = [n for n, one in enumerate(boxes) if one.intersection(box)]
        assert index.overlapping(box) == expected


def test_no_more_is_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(joined_results, '_KEPT_BYTES', 10 * 3 * 5 * 7)
    joined, counts = many()
    everything = tuple(slice(0, n) for n in joined.shape)
    for _ in range(2):
        assert joined[everything].min() == 1
    assert set(counts.values()) == {2}
    assert len(joined._kept._kept) == 10
    monkeypatch.setattr(joined_results, '_KEPT_BYTES', 0)
    joined, counts = many()
    for _ in range(2):
        joined[0:3, 2:8, 3:10]  # four of them, which are kept in any case
    assert set(counts.values()) == {1}


def test_threads_wait_for_a_result_that_is_read():
    joined, counts = many()
    with ThreadPool(8) as pool:
        pool.map(lambda _: joined[0:2, 0:3, 0:4], range(32))
    assert counts == {0: 1}


@pytest.mark.parametrize('seed', range(6))
def test_voxels_that_no_box_covers(seed):
    rng = np.random.default_rng(seed)
    covered = np.zeros((9, 12, 16), bool)
    boxes = []
    for _ in range(seed):
        box = Box(Xyz(*rng.integers(0, 10, 3).tolist()), Xyz(*rng.integers(1, 7, 3).tolist()))
        boxes.append(box)
        covered[box.slices_zyx] = True
    whole = Box(Xyz(1, 2, 0), Xyz(14, 9, 8))
    assert count_uncovered(whole, boxes) == np.count_nonzero(~covered[whole.slices_zyx])
