"""Short branches are removed, and no tree with them."""

import numpy as np
import pytest

from ffn.export.trees import contract_bodies, find_parents, join_lines, remove_spurs


def fork(*arms):
    """A fork at 0, 0, 0 with straight arms of so many nodes: nodes and edges."""
    directions = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0)]
    nodes, edges = [(0, 0, 0)], []
    for (x, y, z), count in zip(directions, arms, strict=False):
        for i in range(1, count + 1):
            edges.append((len(nodes) - 1 if i > 1 else 0, len(nodes)))
            nodes.append((i * x, i * y, i * z))
    return np.array(nodes), np.array(edges)


def lengths_left(arms, radius, size=(1, 1, 1)):
    nodes, edges = fork(*arms)
    kept, left = remove_spurs(nodes, edges, np.full(len(nodes), float(radius)), size, 1.3)
    assert (kept == np.isin(np.arange(len(nodes)), edges[left])).all()
    own = np.repeat(np.arange(len(arms)), arms)
    return np.bincount(own[left], minlength=len(arms)).tolist()


@pytest.mark.parametrize(
    ('arms', 'left'),
    [
        ((4, 3, 5), [4, 0, 5]),  # all are short: the two longest
        ((2, 3, 5, 4), [0, 0, 5, 4]),
        ((4, 3, 20), [0, 0, 20]),
        ((4, 15, 20), [0, 15, 20]),
        ((14, 15, 20), [14, 15, 20]),
        ((3, 4), [3, 4]),  # no fork
    ],
)
def test_branches_that_are_short_for_the_body(arms, left):
    assert lengths_left(arms, 5) == left


def test_lengths_are_in_the_unit_of_the_radius():
    assert lengths_left((5, 4, 20), 5, (1, 2, 1)) == [0, 4, 20]


def test_forks_that_become_tips():
    """Both ends of a bar of 3 nodes, with short branches only."""
    nodes = np.array([(0, 0, z) for z in range(3)] + [(x, 0, z) for z in (0, 2) for x in (-1, 1)])
    edges = np.array([(0, 1), (1, 2), (0, 3), (0, 4), (2, 5), (2, 6)])
    _, left = remove_spurs(nodes, edges, np.full(7, 3.0), (1, 1, 1), 1.3)
    assert left.tolist() == [True, True, False, False, False, False]


def joined_length(nodes, edges, reach, size=(1, 1, 1)):
    nodes = np.array(nodes)
    found = join_lines(nodes, np.array(edges), np.full(len(nodes), float(reach)), size)
    assert len(np.unique(found[:, 1])) == len(found)  # each node has one before it
    known = {tuple(sorted(edge)) for edge in edges}
    assert all(tuple(sorted(edge)) in known for edge in found.tolist())
    return float(np.linalg.norm((nodes[found[:, 0]] - nodes[found[:, 1]]) * size, axis=1).sum())


def ladder(count, apart, rungs):
    """Two lines beside each other along x, that meet at the rungs."""
    nodes = [(x, y, 0) for y in (0, apart) for x in range(count)]
    edges = [(x + y, x + y + 1) for y in (0, count) for x in range(count - 1)]
    return nodes, edges + [(x, x + count) for x in rungs]


@pytest.mark.parametrize('rungs', [(20,), (0, 40), (0, 40, 3, 17, 18), (0, 40, *range(1, 40))])
def test_of_lines_beside_each_other_one_stays(rungs):
    nodes, edges = ladder(41, 2, rungs)
    assert joined_length(nodes, edges, 3) == pytest.approx(41, abs=1)
    assert joined_length(nodes, edges, 1.5) == pytest.approx(81, abs=1)  # too far for one line
    assert joined_length(nodes, edges, 6, (2, 2, 2)) == pytest.approx(82, abs=2)


def test_of_a_ring_all_is_reached_and_of_each_component_something_stays():
    angles = np.arange(60) * 2 * np.pi / 60
    ring = np.stack([100 * np.cos(angles), 100 * np.sin(angles), 0 * angles], axis=1).round()
    nodes = np.concatenate([ring, ring + np.array([0, 0, 1])])  # near, but nothing joins them
    edges = [(i, (i + 1) % 60) for i in range(60)]
    one = joined_length(ring, edges, 12)
    assert one == pytest.approx(2 * np.pi * 100, abs=25)  # but where it is open
    both = joined_length(nodes, edges + [(a + 60, b + 60) for a, b in edges], 12)
    assert both == pytest.approx(2 * one, abs=25)


def test_lines_that_are_shorter_than_the_reach_stay():
    nodes, edges = fork(5, 4)
    assert joined_length(nodes, edges, 50) == 9
    assert joined_length(np.vstack([nodes, (100, 0, 0)]), edges, 0.5) == 9


def test_branches_that_a_body_hides_are_left_out():
    nodes, edges = fork(40, 4, 9)
    assert joined_length(nodes, edges, 6) == 49


def test_lines_within_a_body_become_one_node():
    """Two branches lead out of a ball of radius 5; one of them comes back beside it."""
    inside = [(0, 0, 0), (3, 0, 0), (0, 4, 0), (-6, 0, 0)]  # the last is a bump
    out = [(9, 0, 0), (9, 9, 0), (0, 9, 0), (0, 6, 0)]
    other = [(0, 0, 12), (0, 0, 20), (40, 0, 0), (41, 0, 0)]
    nodes = np.array(inside + out + other)
    edges = np.array(
        [(0, 1), (1, 2), (0, 2), (0, 3), (1, 4), (4, 5), (5, 6), (6, 7), (2, 8), (8, 9), (10, 11)]
    )
    radius = np.array([5.0, 2, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3])
    found, left = contract_bodies(nodes, edges, radius, (1, 1, 1), 1.3, 1)
    assert found.tolist() == [[0, 4], [0, 8], [4, 5], [5, 6], [6, 7], [8, 9]]
    assert np.flatnonzero(~left).tolist() == [1, 2, 3, 11]
    found, left = contract_bodies(nodes, edges[:0], radius, (1, 1, 1), 1.3, 1)
    assert len(found) == 0
    assert left.all()


def test_a_neurite_of_even_width_keeps_its_tips():
    """Two of them, the second the thinner; radii differ by less than a voxel, and the greatest one is by a tip."""
    count = 41
    along = np.arange(count)
    tips = np.minimum(along, count - 1 - along) + 0.5
    other = np.outer(along, [0, 0, 2])
    other[:, 1] = 90
    nodes = np.concatenate([np.outer(along, [2, 0, 0]), other])
    edge = np.stack([along[:-1], along[1:]], axis=1)
    width = np.where(along == 6, 5.5, np.minimum(2 * tips, 5))
    radius = np.concatenate([width, width * 0.8])
    edges = np.concatenate([edge, edge + count])
    found, left = contract_bodies(nodes, edges, radius, (1, 1, 1), 1.3, 1)
    assert left[[0, 20, 40, 41, 61, 81]].all()
    assert not left[[18, 19, 21, 22, 60, 62]].any()
    lengths = np.linalg.norm(nodes[found[:, 0]] - nodes[found[:, 1]], axis=1)
    assert lengths.sum() == 2 * 80


def test_parents_are_the_other_ends_of_edges():
    """A chain whose edges point anywhere, a fork, and a node by itself."""
    edges = np.array([(1, 0), (1, 2), (3, 2), (5, 4), (6, 4), (4, 7)])
    order, parent = find_parents(edges, 9)
    assert parent.tolist() == [-1, 0, 1, 2, -1, 4, 4, 4, -1]
    place = np.argsort(order)
    assert all(place[p] < place[n] for n, p in enumerate(parent) if p >= 0)
    assert find_parents(np.empty((0, 2), int), 2)[1].tolist() == [-1, -1]
