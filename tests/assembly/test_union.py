"""Connected components on disk are those of SciPy in memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ffn.assembly.union import Components


@settings(max_examples=60, deadline=None)
@given(
    nodes=st.integers(1, 60),
    edges=st.integers(0, 80),
    block=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_components(tmp_path_factory, nodes, edges, block, seed):
    pairs = np.random.default_rng(seed).integers(0, nodes, (edges, 2))
    path = tmp_path_factory.mktemp('union') / 'objects.bin'
    components = Components(path, nodes, block)
    components.join(pairs)
    count = components.number()
    found = np.fromfile(path, np.int64)

    graph = sparse.coo_array((np.ones(edges), pairs.T), shape=(nodes, nodes))
    expected_count, expected = connected_components(graph, directed=False)
    assert count == expected_count
    # Numbered in the order of the least node of each.
    _, first = np.unique(expected, return_index=True)
    order = np.empty(count, int)
    order[expected[np.sort(first)]] = np.arange(1, count + 1)
    assert (found == order[expected]).all()


def test_a_chain_across_many_blocks(tmp_path):
    nodes = 1000
    chain = np.stack([np.arange(nodes - 1), np.arange(1, nodes)], axis=1)
    for name, edges in (('up', chain), ('down', chain[::-1])):
        components = Components(tmp_path / name, nodes, 7)
        components.join(edges)
        assert components.number() == 1
        assert (np.fromfile(tmp_path / name, np.int64) == 1).all()


def test_no_nodes(tmp_path):
    components = Components(tmp_path / 'none', 0)
    components.join(np.zeros((0, 2), np.int64))
    assert components.number() == 0
    assert (tmp_path / 'none').stat().st_size == 0
