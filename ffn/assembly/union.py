"""Connected components of graphs whose edges, and even nodes, do not fit into memory.

Every node points to a node of its component that is not greater, in an array on disk; a node that points
to itself is a root. Edges come block by block: SciPy joins the roots that a block connects, and the
pointers of these roots are changed. No more than a block is in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from ffn.utils.mapped_files import map_written

_BLOCK = 1 << 20


class Components:
    """Components of nodes 0 … n-1, in a file."""

    def __init__(self, path: Path, nodes: int, block: int = _BLOCK):
        """Makes every node a component.

        Args:
          path: file of n × 8 bytes; overwritten.
          nodes: n.
          block: nodes that are in memory at a time.

        Raises:
          OSError: see `map_written`.
        """
        self._block, self._nodes = block, nodes
        own = (np.arange(i, min(i + block, nodes)) for i in range(0, nodes, block))
        self._parent = map_written(path, np.int64, own)

    def join(self, edges: np.ndarray) -> None:
        """Joins the components of pairs of nodes.

        Args:
          edges: integer [m, 2].
        """
        for begin in range(0, len(edges), self._block):
            self._join(edges[begin : begin + self._block])

    def _join(self, edges: np.ndarray) -> None:
        nodes, ends = np.unique(edges, return_inverse=True)
        roots = self._find_roots(nodes)
        self._parent[nodes] = roots
        joined, numbers = np.unique(roots, return_inverse=True)
        first, second = numbers[ends.reshape(-1, 2)].T
        size = (len(joined), len(joined))
        graph = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=size)
        count, component = connected_components(graph, directed=False)
        least = np.full(count, len(joined), np.int64)
        np.minimum.at(least, component, np.arange(len(joined)))
        self._parent[joined] = joined[least[component]]

    def _find_roots(self, nodes: np.ndarray) -> np.ndarray:
        roots: np.ndarray = self._parent[nodes]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                return roots
            roots = above

    def number(self) -> int:
        """Replaces the pointers by numbers of components, 1 … k, in the order of their least nodes.

        Returns:
          k. `join` cannot be called any more.
        """
        count = 0
        for begin in range(0, self._nodes, self._block):
            end = min(begin + self._block, self._nodes)
            parents = self._parent[begin:end].copy()
            while True:  # until all point to roots, or to nodes before `begin`
                inside = parents >= begin
                above = self._parent[parents[inside]]
                if np.array_equal(above, parents[inside]):
                    break
                parents[inside] = above
            is_root = parents == np.arange(begin, end)
            numbers = count + np.cumsum(is_root)
            count += int(np.count_nonzero(is_root))
            # Nodes before `begin` have their numbers already.
            self._parent[begin:end] = np.where(
                inside, numbers[np.maximum(parents - begin, 0)], self._parent[parents]
            )
        if isinstance(self._parent, np.memmap):
            self._parent.flush()
        return count
