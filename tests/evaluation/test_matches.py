"""Which object and which segment are taken for the same."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ffn.evaluation.contingency import Contingency
from ffn.evaluation.matches import NO_MATCHES, find_matches

HIGH = 2**64 - 5


def volumes(pairs):
    """One voxel for each pair of labels."""
    first, second = (np.array(side, np.uint64).reshape(1, 1, -1) for side in zip(*pairs))
    return first, second


def test_largest_overlaps_in_both_directions():
    # 1 is cut into 10 (larger) and 11; 20 covers 2 (larger) and 3; 4 has no segment, 30 no object.
    pairs = [(1, 10)] * 4 + [(1, 11)] * 3 + [(2, 20)] * 3 + [(3, 20)] * 2 + [(4, 0)] + [(0, 30)]
    found = find_matches(Contingency.of(*volumes(pairs)))
    labels = np.array([0, 1, 2, 3, 4, 99], np.int32)
    assert found.objects.partners(labels).tolist() == [0, 10, 20, 20, 0, 0]
    assert found.objects.are_matched(labels).tolist() == [False, True, True, False, False, False]
    segments = np.array([[10, 11], [20, 30]], np.uint16)
    assert found.segments.partners(segments).tolist() == [[1, 1], [2, 0]]
    assert found.segments.are_matched(segments).tolist() == [[True, False], [True, False]]


def test_ids_that_differ_in_their_last_bit():
    found = find_matches(Contingency.of(*volumes([(HIGH, HIGH + 1), (HIGH + 1, HIGH)])))
    labels = np.array([HIGH, HIGH + 1, HIGH + 2, HIGH - 1], np.uint64)
    assert found.objects.partners(labels).tolist() == [HIGH + 1, HIGH, 0, 0]
    assert found.objects.are_matched(labels).tolist() == [True, True, False, False]


def test_nothing_matches_where_nothing_is_known():
    labels = np.array([-3, 0, 7])
    assert not NO_MATCHES.objects.are_matched(labels).any()
    assert not NO_MATCHES.segments.partners(labels).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_a_matched_pair_is_one_of_both_sides(pairs):
    first, second = volumes(pairs)
    found = find_matches(Contingency.of(first, second))
    for side, other, these, those in (
        (found.objects, found.segments, first, second),
        (found.segments, found.objects, second, first),
    ):
        for label in np.unique(these[these > 0]):
            partner = side.partners(np.array([label]))[0]
            counts = {
                int(n): int(np.count_nonzero((these == label) & (those == n)))
                for n in np.unique(those[(these == label) & (those > 0)])
            }
            assert counts.get(int(partner), 0) == max(counts.values(), default=0)
            if side.are_matched(np.array([label]))[0]:
                assert other.partners(np.array([partner]))[0] == label
