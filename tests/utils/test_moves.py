"""Face maxima against a walk over every voxel of every face, and the cells of moves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ffn.utils.moves import face_maxima, quantize


def slow_face_maxima(logits: np.ndarray, deltas_zyx, threshold: float):
    """The definition, voxel by voxel."""
    center = [n // 2 for n in logits.shape]
    best = set()
    for axis, sign in itertools.product(range(3), (-1, 1)):
        delta = deltas_zyx[axis]
        if delta == 0:
            continue
        ranges = [range(-d, d + 1) for d in deltas_zyx]
        ranges[axis] = [sign * delta]
        top = None
        for offset in itertools.product(*ranges):  # C order
            score = logits[tuple(np.add(center, offset))]
            if top is None or score > top[0]:
                top = (score, offset)
        if top[0] >= threshold:
            best.add(top)
    return sorted(best, reverse=True)


@st.composite
def problems(draw):
    """Few distinct logits, so that ties are frequent; sizes odd and even, at least the box's."""
    deltas = draw(st.tuples(*[st.integers(0, 3)] * 3))
    shape = [2 * d + 1 + draw(st.integers(0, 3)) for d in deltas]
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    logits = rng.integers(-2, draw(st.integers(-1, 9)), shape).astype(np.float32) / 2
    return logits, deltas, draw(st.sampled_from([-5.0, -1.0, 0.0, 0.5, 0.75, 9.0]))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_equals_slow_reference(problem):
    assert face_maxima(*problem) == slow_face_maxima(*problem)


def test_distinct_faces_in_falling_order():
    logits = np.full((7, 9, 11), -1, np.float32)
    scores = {(-2, 1, 0): 5, (2, 0, 4): 8, (0, -3, 1): 6, (1, 3, -1): 9, (0, 0, -4): 4}
    for offset, score in scores.items():
        logits[tuple(np.add((3, 4, 5), offset))] = score
    # (2, 0, 4) is the maximum of two faces; it comes once, and there are five moves.
    expected = [(score, offset) for offset, score in scores.items()]
    assert face_maxima(logits, (2, 3, 4), 4) == sorted(expected, reverse=True)
    assert face_maxima(logits, (2, 3, 4), 5.5) == sorted(expected, reverse=True)[:3]


def test_a_tie_goes_to_the_first_in_c_order_and_a_corner_counts_once():
    flat = np.ones((5, 7, 9), np.float32)
    assert face_maxima(flat, (1, 2, 3), 1.0) == [
        (1.0, (1, -2, -3)), (1.0, (-1, 2, -3)), (1.0, (-1, -2, 3)), (1.0, (-1, -2, -3)),
    ]  # fmt: skip


@pytest.mark.parametrize('threshold', [2.0, np.nextafter(2, 3)])
def test_threshold_is_included(threshold):
    logits = np.zeros((3, 5, 7))
    logits[1, 2, 5] = 2.0
    expected = [(2.0, (0, 0, 2))] if threshold == 2 else []
    assert face_maxima(logits, (0, 0, 2), threshold) == expected


def test_no_axis_moves():
    assert face_maxima(np.ones((3, 3, 3)), (0, 0, 0), -9.0) == []


def test_input_stays_and_result_is_plain():
    logits = np.random.default_rng(0).normal(size=(5, 7, 9)).astype(np.float32)
    before = logits.copy()
    for score, offset in face_maxima(logits, (1, 2, 3), -9.0):
        assert type(score) is float
        assert all(type(n) is int for n in offset)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(
    ('delta', 'cells'),
    [
        # {cell: offsets at its two ends}
        (8, {-1: (-12, -5), 0: (-4, 3), 1: (4, 11)}),
        (3, {-1: (-4, -2), 0: (-1, 1), 1: (2, 4)}),  # δ/2 as a float would shift these
        (2, {-1: (-3, -2), 0: (-1, 0), 1: (1, 2)}),
        (1, {-1: (-1, -1), 0: (0, 0), 1: (1, 1)}),
        (0, {-1: (-1, -1), 0: (0, 0), 1: (1, 1)}),
    ],
)
def test_cells(delta, cells):
    for cell, ends in cells.items():
        for offset in range(ends[0], ends[1] + 1):
            assert quantize((offset, 0, 0), (delta, 5, 4)) == (cell, 0, 0)
            assert quantize((0, offset, 0), (5, delta, 4)) == (0, cell, 0)
            assert quantize((0, 0, offset), (5, 4, delta)) == (0, 0, cell)


@given(st.tuples(*[st.integers(-99, 99)] * 3), st.tuples(*[st.integers(0, 9)] * 3))
@example((-1, 0, 1), (0, 1, 2))
def test_whole_moves_are_whole_cells(cell, deltas):
    offset = [n * max(d, 1) for n, d in zip(cell, deltas)]
    assert quantize(offset, deltas) == cell
    assert quantize(np.array(offset), np.array(deltas)) == cell
