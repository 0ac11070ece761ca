"""Joining in the order of probability: constraints, chains, and what is said about every pair."""

import time
import tracemalloc

import numpy as np
import pytest

from ffn.agglomeration.joins import JoinRules, Segments, Why, join, measure_segments
from ffn.agglomeration.merges import join_ids
from ffn.utils.errors import UserError
from ffn.volumes.volume import VolumeSource


def decide(links, rules=None, segments=None):
    """Joins pairs given as (a, b): probability; returns why of each pair, and the objects."""
    pairs = np.array(list(links), np.uint64)
    rules = rules or JoinRules(min_probability=0.5)
    found = join(pairs, np.array(list(links.values()), float), rules, segments)
    why = dict(zip(links, map(Why, found.why.tolist())))
    joined = join_ids([pair for pair, one in why.items() if one is Why.JOINED])
    return why, joined, dict(zip(links, found.between.tolist()))


def test_what_is_probable_is_joined():
    large = 2**63 + 5
    why, joined, between = decide({(1, 2): 0.9, (2, large): 0.2, (3, 4): 0.5, (1, 9): float('nan')})
    assert why == {
        (1, 2): Why.JOINED,
        (2, large): Why.IMPROBABLE,
        (3, 4): Why.JOINED,
        (1, 9): Why.UNKNOWN,
    }
    assert joined == {1: 1, 2: 1, 3: 3, 4: 3}
    assert between[1, 2] == pytest.approx(0.9)
    assert np.isnan(between[1, 9])


def test_one_link_does_not_outweigh_all_others():
    # 1-2 and 3-4 are sure; 2-3 is probable, but 1-3, 1-4 and 2-4 are not.
    links = {(1, 2): 0.95, (3, 4): 0.95, (2, 3): 0.7, (1, 3): 0.2, (2, 4): 0.2, (1, 4): 0.2}
    why, joined, between = decide(links)
    assert joined == {1: 1, 2: 1, 3: 3, 4: 3}
    assert why[2, 3] is Why.WEAK
    assert why[1, 4] is Why.WEAK or why[1, 4] is Why.IMPROBABLE
    odds = np.mean([np.log(p / (1 - p)) for p in (0.7, 0.2, 0.2, 0.2)])
    assert between[2, 3] == pytest.approx(1 / (1 + np.exp(-odds)))
    assert between[1, 4] == between[2, 3]


def test_an_improbable_pair_is_joined_through_others():
    why, joined, between = decide({(1, 2): 0.95, (2, 3): 0.9, (1, 3): 0.3})
    assert joined == {1: 1, 2: 1, 3: 1}
    assert why[1, 3] is Why.THROUGH_OTHERS
    assert between[1, 3] == between[2, 3] < 0.9


def test_no_pair_is_surer_than_its_limit():
    # A single certain pair weighs no more than two with odds of 1 to 99.
    links = {(1, 2): 0.999, (3, 4): 0.999, (2, 3): 1.0, (1, 3): 0.008, (2, 4): 0.008}
    why, joined, _ = decide(links)
    assert why[2, 3] is Why.WEAK
    assert joined[1] != joined[3]


def test_a_limit_of_nearly_1_still_joins_what_is_certain():
    rules = JoinRules(min_probability=0.995)
    why, joined, _ = decide({(1, 2): 0.9999, (3, 4): 1.0, (5, 6): 0.992}, rules)
    assert joined == {1: 1, 2: 1, 3: 3, 4: 3}
    assert why[5, 6] is Why.IMPROBABLE


def test_two_somata_stay_apart():
    segments = Segments({}, {1: 7, 4: 8, 5: 7})
    links = {(1, 2): 0.9, (2, 3): 0.8, (3, 4): 0.95, (1, 5): 0.9}
    why, joined, _ = decide(links, JoinRules(min_probability=0.5, soma_size=9), segments)
    assert why == {
        (3, 4): Why.JOINED,
        (1, 2): Why.JOINED,
        (1, 5): Why.JOINED,
        (2, 3): Why.SOMATA,
    }
    assert joined[1] == joined[5] != joined[4]


def test_objects_do_not_become_too_large():
    segments = Segments({1: 60, 2: 30, 3: 30}, {})
    why, _, _ = decide({(1, 2): 0.9, (2, 3): 0.8}, JoinRules(max_voxels=100), segments)
    assert why == {(1, 2): Why.JOINED, (2, 3): Why.TOO_LARGE}
    why, _, _ = decide({(1, 2): 0.9, (2, 3): 0.8}, JoinRules(max_voxels=120), segments)
    assert set(why.values()) == {Why.JOINED}


def test_the_order_of_the_table_does_not_matter():
    random = np.random.default_rng(5)
    pairs = {tuple(sorted(random.choice(40, 2, replace=False).tolist())) for _ in range(200)}
    links = {(a + 1, b + 1): float(random.random()) for a, b in sorted(pairs)}
    rules = JoinRules(min_probability=0.5, max_voxels=12)
    segments = Segments(dict.fromkeys(range(1, 41), 1), {3: 1, 17: 2, 29: 3})
    why, joined, between = decide(links, rules, segments)
    order = list(links)
    random.shuffle(order)
    again, joined_again, between_again = decide(
        {p: links[tuple(p)] for p in map(tuple, order)}, rules, segments
    )
    assert (why, joined) == (again, joined_again)
    assert between == pytest.approx(between_again, nan_ok=True)
    # Whatever was joined keeps the rules.
    members = {}
    for segment, one in joined.items():
        members.setdefault(one, set()).add(segment)
    assert max(map(len, members.values())) <= 12
    assert all(len({3, 17, 29} & those) <= 1 for those in members.values())
    for (a, b), one in why.items():
        together = a in joined and joined[a] == joined.get(b)
        assert together == (one in (Why.JOINED, Why.THROUGH_OTHERS))
        assert (one in (Why.JOINED, Why.WEAK, Why.SOMATA, Why.TOO_LARGE)) >= (links[a, b] >= 0.5)


@pytest.mark.parametrize('forbidden', [False, True])
def test_many_common_neighbours_take_no_more_than_a_moment(forbidden):
    count = 8000
    small = np.arange(10, 10 + count)
    pairs = [(1, i) for i in small] + [(2, i) for i in small] + [(1, 2)]
    probabilities = np.r_[np.linspace(0.9, 0.99, count), np.full(count, 0.1), 0.75]
    rules = JoinRules(min_probability=0.05 if forbidden else 0.7, max_voxels=100 * forbidden)
    segments = Segments({1: 60, 2: 60}, {})
    began = time.process_time()
    found = join(np.array(pairs, np.uint64), probabilities, rules, segments)
    # It took 2 seconds, and four times as much for twice as many.
    assert time.process_time() - began < 1
    reason = Why.TOO_LARGE if forbidden else Why.WEAK
    assert found.why[-1] == reason
    assert np.bincount(found.why)[Why.JOINED] == count
    # The mean of all pairs between the two.
    odds = (count * np.log(0.1 / 0.9) + np.log(0.75 / 0.25)) / (count + 1)
    assert found.between[-1] == pytest.approx(1 / (1 + np.exp(-odds)))


def test_the_order_of_equal_pairs_does_not_matter():
    random = np.random.default_rng(5)
    links = {
        (a, b): float(random.integers(1, 10)) / 10 for a in range(1, 20) for b in range(a + 1, 20)
    }
    order = list(links)
    random.shuffle(order)
    again = {tuple(map(int, pair)): links[tuple(pair)] for pair in order}
    assert decide(links)[1:] == decide(again)[1:]


def test_a_higher_limit_joins_no_more():
    random = np.random.default_rng(2)
    links = {(a, b): float(random.random()) for a in range(1, 12) for b in range(a + 1, 12)}
    counts = [
        len(set(decide(links, JoinRules(min_probability=p))[1].values())) for p in (0.3, 0.5, 0.9)
    ]
    assert counts[0] >= 1
    joined = [len(decide(links, JoinRules(min_probability=p))[1]) for p in (0.3, 0.5, 0.9)]
    assert joined == sorted(joined, reverse=True)


def test_nothing_to_join():
    for links in ({(1, 2): 0.1}, {(1, 2): float('nan')}):
        assert decide(links)[1] == {}
    found = join(np.zeros((0, 2), np.uint64), np.zeros(0), JoinRules())
    assert len(found.why) == len(found.between) == 0


def test_somata_of_segments(caplog):
    rows = np.array(
        [[1, 0, 500], [1, 3, 90], [1, 4, 60], [2, 4, 40], [5, 0, 9000], [6, 3, 51]], np.uint64
    )
    rules = JoinRules(somata=VolumeSource('s.h5:s'), soma_min_voxels=50, soma_size=5000)
    found = measure_segments(rows, rules)
    assert found.voxels == {1: 650, 2: 40, 5: 9000, 6: 51}
    assert found.soma == {1: 3, 6: 3, 5: -5}
    # One value for all somata: each segment is one of its own.
    rows[:, 1] = np.minimum(rows[:, 1], 1)
    assert not caplog.text
    assert measure_segments(rows, rules).soma == {1: -1, 6: -6, 5: -5}
    assert 'marked by one value, 1, so each of the 2 segments' in caplog.text


def test_rules_that_make_no_sense():
    for wrong, words in (
        ({'min_probability': 1}, r'--min_probability is 1'),
        ({'max_voxels': -1}, r'--max_voxels is -1'),
        ({'soma_size': -1}, r'--soma_size is -1'),
        ({'soma_min_voxels': 0}, r'--soma_min_voxels is 0'),
        (
            {'soma_min_voxels': 9, 'soma_size': 5},
            r'--soma_min_voxels does nothing without --somata',
        ),
    ):
        with pytest.raises(UserError, match=words):
            JoinRules(**wrong)


@pytest.mark.parametrize('share', [0.0, 0.4, 1.0])
def test_memory_of_a_large_group(share):
    """Segments with ten neighbours, of which so many are probable that none or most are linked."""
    rng = np.random.default_rng(0)
    pairs = rng.integers(1, 4000, (20_000, 2)).astype(np.uint64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    probable = rng.random(len(pairs)) < share
    probabilities = np.where(probable, rng.uniform(0.75, 1, len(pairs)), 0.3)
    tracemalloc.start()
    try:
        join(pairs, probabilities, JoinRules())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (450 if share else 130) * len(pairs)
