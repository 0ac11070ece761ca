"""Centre lines of whole objects: a tree in every component, in its voxels."""

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ffn.export import whole_lines as module
from ffn.export.whole_lines import whole_lines

SIZES = st.sampled_from([(1, 1, 1), (4, 4, 6.5), (40, 8, 8), (3, 1, 2)])


@st.composite
def _objects(draw):
    """Random voxels, or the walks of a few tubes; bool [z, y, x]."""
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 14)))
    if draw(st.booleans()):
        return draw(arrays.arrays(bool, shape))
    mask = np.zeros(shape, bool)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(1, 3))):
        ends = rng.integers(0, shape, (2, 3))
        for t in np.linspace(0, 1, 40):
            at = np.rint(ends[0] + t * (ends[1] - ends[0])).astype(int)
            mask[tuple(slice(max(0, i - 1), i + draw(st.integers(1, 2))) for i in at)] = True
    return mask


@pytest.mark.parametrize('most', [100_000, 20, 1])
def test_each_component_has_a_tree_of_its_own_voxels(monkeypatch, most):
    """With few nodes, one stands for a block of voxels; pieces of a component in one block are joined there."""
    monkeypatch.setattr(module, '_MOST_NODES', most)

    @settings(deadline=None)
    @given(_objects(), SIZES)
    def check(mask, size):
        lines, radii = whole_lines(mask, size)
        assert len(radii) == len(lines.nodes)
        assert len(np.unique(lines.nodes, axis=0)) == len(lines.nodes)
        assert ((lines.nodes >= 0) & (lines.nodes < mask.shape)).all()
        assert mask[tuple(lines.nodes.T)].all()
        assert (radii > 0).all()
        parts, count = cc3d.connected_components(mask.view(np.uint8), return_N=True)
        owners = parts[tuple(lines.nodes.T)]
        voxels = np.bincount(parts.ravel(), minlength=count + 1)
        expected = [part for part in range(1, count + 1) if voxels[part] > 1]
        assert np.unique(owners).tolist() == expected
        assert (owners[lines.edges[:, 0]] == owners[lines.edges[:, 1]]).all()
        assert len(lines.edges) == len(lines.nodes) - len(expected)
        if most == 100_000 and len(lines.edges):
            steps = np.abs(np.diff(lines.nodes[lines.edges], axis=1))
            assert steps.max() == 1

    check()
