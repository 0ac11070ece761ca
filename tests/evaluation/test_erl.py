"""Expected run length, computed by hand for small cases."""

from __future__ import annotations

import numpy as np
import pytest

from ffn.evaluation.erl import DEFAULT_MERGE_VOXELS, erl_score, read_voxels
from ffn.evaluation.skeletons import join_skeletons
from ffn.utils.geometry import Xyz, Zyx
from ffn.volumes.volume import Volume

VOXEL_NM = (10, 10, 40)


def line(name, length, y):
    """A neuron along x of `length` edges of one voxel, 10 nm each."""
    nodes = np.array([[x, y, 0] for x in range(length + 1)], float)
    return name, nodes, np.array([[i, i + 1] for i in range(length)])


TWO = join_skeletons(
    [line('a', 10, 0), line('b', 6, 5)]
)  # 100 nm and 60 nm; nodes 0..10 and 11..17
PERFECT_ERL = (100**2 + 60**2) / 160


def score(segments, threshold=20.0, skeletons=TWO):
    return erl_score(skeletons, np.array(segments, np.uint64), VOXEL_NM, threshold)


def test_perfect():
    found = score([1] * 11 + [2] * 7)
    assert found.erl == found.max_erl == pytest.approx(PERFECT_ERL)
    assert found.normalised_erl == 1
    assert (found.correct, found.split, found.omitted, found.merged) == (160, 0, 0, 0)
    assert (found.neurons, found.trees, found.nodes, found.mergers) == (2, 2, 18, ())
    assert (found.merge_threshold, found.voxel_size_xyz) == (20, (10, 10, 40))


def test_one_split():
    """Nodes 0..4 and 5..10 of a: runs of 40 nm and 50 nm, and a split edge of 10 nm."""
    found = score([1] * 5 + [3] * 6 + [2] * 7)
    assert found.erl == pytest.approx((40**2 + 50**2 + 60**2) / 160)
    assert found.normalised_erl == pytest.approx(found.erl / PERFECT_ERL)
    assert (found.correct, found.split) == (150, 10)


def test_one_merge():
    """All runs in the merger are lost, and nothing else is there."""
    found = score([1] * 18)
    assert (found.erl, found.normalised_erl, found.merged) == (0, 0, 160)
    (merger,) = found.mergers
    assert merger.segment == 1
    assert merger.length == 160
    assert merger.neurons == ('a', 'b')
    assert merger.at_xyz == Xyz(0, 5, 0)


def test_a_split_and_a_merge():
    """The half of a with nodes 5..10 is join_skeletons with b; the other, 40 nm, is a run."""
    found = score([1] * 5 + [2] * 6 + [2] * 7)
    assert found.erl == pytest.approx(40**2 / 160)
    assert (found.correct, found.split, found.merged) == (40, 10, 50 + 60)
    assert found.mergers[0].neurons == ('b', 'a')


def test_omitted_edges():
    found = score([1] * 4 + [0] * 2 + [1] * 5 + [2] * 7)
    # 3 edges before and 4 behind the gap are one run: the segment goes around it.
    assert found.erl == pytest.approx((70**2 + 60**2) / 160)
    assert found.omitted == 30
    nothing = score([0] * 18)
    assert (nothing.erl, nothing.omitted, nothing.mergers) == (0, 160, ())


@pytest.mark.parametrize(('threshold', 'merges'), [(24.9, True), (25, True), (25.1, False)])
def test_the_merge_threshold(threshold, merges):
    """Segment 2 has nodes 8, 9, 10 of a: two edges, and half of the split one, 25 nm."""
    found = score([1] * 8 + [2] * 3 + [2] * 7, threshold)
    assert bool(found.mergers) == merges
    runs = 70**2 if merges else 70**2 + 20**2 + 60**2
    assert found.erl == pytest.approx(runs / 160)


def test_the_threshold_that_holds_if_none_is_given():
    assert score([1] * 18, None).merge_threshold == DEFAULT_MERGE_VOXELS * 10
    assert score([1] * 18, None).mergers == ()  # shorter than that
    assert len(score([1] * 18, 0).mergers) == 1


def test_trees_of_one_neuron_do_not_merge_but_are_runs_of_their_own():
    name, nodes, edges = line('a', 10, 0)
    in_two = join_skeletons([(name, nodes, np.delete(edges, 4, axis=0))])
    found = score([1] * 11, skeletons=in_two)
    assert found.mergers == ()
    assert (found.neurons, found.trees) == (1, 2)
    assert found.erl == found.max_erl == pytest.approx((40**2 + 50**2) / 90)


def test_voxel_sizes_count_along_their_axis():
    nodes = np.array([[0, 0, 0], [3, 0, 0], [3, 0, 1], [3, 2, 1]], float)
    skeletons = join_skeletons([('a', nodes, np.array([[0, 1], [1, 2], [2, 3]]))])
    assert skeletons.lengths((1, 5, 40)).tolist() == [3, 40, 10]


def test_labels_are_read_at_voxels_in_blocks():
    labels = np.arange(4 * 5 * 6).reshape(4, 5, 6) - 3
    volume = Volume('v', labels, {}, (10, 20, 30))
    zyx = np.array([(10, 20, 30), (13, 24, 35), (10, 20, 33), (12, 20, 35), (10, 20, 34)])
    expected = [0, labels[3, 4, 5], 0, labels[2, 0, 5], 1]
    for block in (Zyx(1, 2, 3), Zyx(64, 64, 64)):
        assert read_voxels(volume, zyx, block).tolist() == expected


def test_nodes_are_not_searched_through_for_every_block(monkeypatch):
    """Neither while they are read, nor for each merger."""
    looked_at, original = 0, np.flatnonzero

    def counted(array):
        nonlocal looked_at
        looked_at += np.size(array)
        return original(array)

    monkeypatch.setattr(np, 'flatnonzero', counted)
    labels = np.arange(1, 1 + 6 * 8 * 25).reshape(6, 8, 25)
    zyx = np.argwhere(labels)
    assert (
        read_voxels(Volume('v', labels, {}), zyx, Zyx(2, 2, 2)).tolist() == labels.ravel().tolist()
    )
    neurons = join_skeletons([line('a', 1, 0), line('b', 1, 5)] * 300)
    found = score(np.repeat(np.arange(1, 301), 4), 1.0, neurons)
    assert [merger.segment for merger in found.mergers] == list(range(1, 301))
    assert {merger.length for merger in found.mergers} == {20.0}
    assert looked_at < 5 * len(neurons.nodes_xyz)
