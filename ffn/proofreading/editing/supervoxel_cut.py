"""Divides the segments of an object between two sides: a minimum cut of the graph of what holds them together.

The capacity of an edge is how probable it is that its two segments are one object, the less the farther apart they
are (see `ScoredPair.strength`); what a person joined counts most. Ford and Fulkerson 1956: where the edges of least
capacity that separate the sides are full, flow ends.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_SCALE, _UNLIMITED = 10_000, 2**30

Edges = Mapping[tuple[int, int], float]


def divide_segments(
    members: Collection[int], edges: Edges, sides: tuple[Collection[int], Collection[int]]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Finds the two parts between which the edges are weakest in sum.

    Args:
      members: the segments of the object.
      edges: (lower id, higher id) → strength, from 0 to 1. Edges to other segments do not count.
      sides: segments that must be in the first part, and in the second; one or more each, none in both.

    Returns:
      The members of either part, ascending. Together they are all members.
    """
    ids = sorted(members)
    index = {segment: i for i, segment in enumerate(ids)}
    source, sink = len(ids), len(ids) + 1
    rows: list[int] = []
    columns: list[int] = []
    capacities: list[int] = []
    for (a, b), strength in edges.items():
        if a in index and b in index:
            rows += [index[a], index[b]]
            columns += [index[b], index[a]]
            capacities += [max(1, round(_SCALE * strength))] * 2
    for segment in sides[0]:
        rows, columns = [*rows, source], [*columns, index[segment]]
    for segment in sides[1]:
        rows, columns = [*rows, index[segment]], [*columns, sink]
    capacities += [_UNLIMITED] * (len(rows) - len(capacities))
    first = _reachable(_graph(rows, columns, capacities, len(ids) + 2), source, sink)
    return (
        tuple(segment for i, segment in enumerate(ids) if i in first),
        tuple(segment for i, segment in enumerate(ids) if i not in first),
    )


def _graph(
    rows: Sequence[int], columns: Sequence[int], capacities: Sequence[int], size: int
) -> csr_array:
    # SciPy 1.12 finds flows in graphs of int32 alone, indices too.
    weights, *places = (np.array(numbers, np.int32) for numbers in (capacities, rows, columns))
    return csr_array((weights, tuple(places)), shape=(size, size))


def _reachable(graph: csr_array, source: int, sink: int) -> set[int]:
    """Nodes that the source reaches once the flow is greatest."""
    flow = maximum_flow(graph, source, sink).flow
    residual = csr_array(graph - flow)
    residual.eliminate_zeros()
    order = breadth_first_order(residual, source, return_predecessors=False)
    return set(order.tolist())
