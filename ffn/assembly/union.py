"""Connected components of graphs whose edges, and the nodes themselves, do not fit into memory.

Every node points to another one of its component that is not greater, in an array on disk; a node
that points to itself is the root. Edges come block by block: SciPy joins the roots that a block
connects, and the pointers of these roots are changed. Memory is that of a block.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

_BLOCK = 1 << 20


class Components:
    """Components of nodes 0 … n-1, in a file."""

    def __init__(self, path: Path, nodes: int, block: int = _BLOCK):
        """Makes every node a component.

        Args:
          path: file of n × 8 bytes, made anew.
          nodes: n.
          block: nodes that are looked at at a time.
        """
        self._block, self._nodes = block, nodes
        path.write_bytes(b'')
        self._parent = np.zeros(0, np.int64)
        if nodes:
            self._parent = np.memmap(path, np.int64, 'w+', shape=(nodes,))
        for begin in range(0, nodes, block):
            end = min(begin + block, nodes)
            self._parent[begin:end] = np.arange(begin, end)

    def join(self, edges: np.ndarray) -> None:
        """Joins the components of pairs of nodes.

        Args:
          edges: integer [m, 2].
        """
        for begin in range(0, len(edges), self._block):
            self._join(edges[begin : begin + self._block])

    def _join(self, edges: np.ndarray) -> None:
        nodes, ends = np.unique(edges, return_inverse=True)
        roots = self._roots(nodes)
        self._parent[nodes] = roots
        joined, numbers = np.unique(roots, return_inverse=True)
        first, second = numbers[ends.reshape(-1, 2)].T
        size = (len(joined), len(joined))
        graph = sparse.coo_array((np.ones(len(first), bool), (first, second)), shape=size)
        count, component = connected_components(graph, directed=False)
        least = np.full(count, len(joined), np.int64)
        np.minimum.at(least, component, np.arange(len(joined)))
        self._parent[joined] = joined[least[component]]

    def _roots(self, nodes: np.ndarray) -> np.ndarray:
        roots = self._parent[nodes]
        while True:
            above = self._parent[roots]
            if np.array_equal(above, roots):
                return roots
            roots = above

    def number(self) -> int:
        """Replaces the pointers by numbers of components, 1 … k, in the order of their least nodes.

        Returns:
          k. `join` is of no use any more.
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
        if self._nodes:
            self._parent.flush()
        return count
