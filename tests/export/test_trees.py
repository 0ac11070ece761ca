"""Short branches are removed, and no tree with them."""

import numpy as np
import pytest

from ffn.export.trees import contract_bodies, remove_spurs


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
