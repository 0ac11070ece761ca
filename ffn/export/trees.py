"""Trees of nodes and edges: made of graphs, freed of lines in bodies and short branches, drawn with fewer nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, dijkstra
from scipy.spatial import cKDTree


def contract_bodies(
    nodes_xyz: np.ndarray,
    edges: np.ndarray,
    radius: np.ndarray,
    size: Sequence[float],
    spur: float,
    even: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one node of those around the thickest one of each component: lines within a round cell body lead nowhere.

    Args:
      nodes_xyz: [n, 3].
      edges: int64 [m, 2], indices of nodes.
      radius: [n], in the unit of `size`.
      size: x, y, z that positions are multiplied by.
      spur: what leads to the thickest node and is nearer than this times its radius is of the body.
      even: by how much the radii of a neurite of even width differ. Of nodes that are as thick, up to this, the one in
        their middle counts as the thickest; one by a tip would cost the neurite a radius of its length.

    Returns:
      int64 [k, 2], edges between nodes that remain; bool [n], these.
    """
    component = _components(len(nodes_xyz), edges)
    scaled = nodes_xyz * np.asarray(size)
    greatest = np.full(component.max() + 1, -np.inf)
    np.maximum.at(greatest, component, radius)
    thick = np.flatnonzero(radius >= greatest[component] - even)
    of = component[thick]
    mean = np.zeros((len(greatest), 3))
    np.add.at(mean, of, scaled[thick])
    mean /= np.bincount(of)[:, np.newaxis]
    from_mean = np.linalg.norm(scaled[thick] - mean[of], axis=1)
    order = np.lexsort([from_mean, of])
    _, first = np.unique(of[order], return_index=True)
    thickest = thick[order[first]][component]
    away = np.linalg.norm(scaled - scaled[thickest], axis=1)
    near = away < spur * radius[thickest]
    # Not what has left the body and comes near it again.
    part = _components(len(nodes_xyz), edges[near[edges].all(axis=1)])
    own = np.arange(len(nodes_xyz))
    node = np.where(near & (part == part[thickest]), thickest, own)
    joined = np.sort(node[edges], axis=1)
    return np.unique(joined[joined[:, 0] < joined[:, 1]], axis=0), node == own


def join_lines(
    nodes_xyz: np.ndarray,
    edges: np.ndarray,
    reach: np.ndarray,
    size: Sequence[float],
) -> np.ndarray:
    """Makes a tree of each component of lines that several blocks found, often side by side along the plane between them.

    All paths lead to one root, which is an end of the component, and are the shortest. Each begins at the node that is
    farthest from the root, along the lines, of those that no path has passed close by, like lines within a block.

    Args:
      nodes_xyz: [n, 3].
      edges: int64 [m, 2], indices of nodes that differ in position.
      reach: [n]; a path passes close by what is nearer to its node than this, in the unit of `size`.
      size: x, y, z that positions are multiplied by.

    Returns:
      int64 [k, 2], edges of the trees.
    """
    scaled = nodes_xyz * np.asarray(size)
    lengths = np.linalg.norm(scaled[edges[:, 0]] - scaled[edges[:, 1]], axis=1)
    # SciPy 1.12 takes no wider indices.
    graph = coo_array((lengths, edges.T.astype(np.int32)), (len(nodes_xyz),) * 2).tocsr()
    component = _components(len(nodes_xyz), edges)
    _, roots = np.unique(component, return_index=True)
    far = dijkstra(graph, directed=False, indices=roots, min_only=True)
    order = np.lexsort([-far, component])
    _, first = np.unique(component[order], return_index=True)
    roots = order[first]
    far, before, _ = dijkstra(
        graph, directed=False, indices=roots, return_predecessors=True, min_only=True
    )
    kept, passed = (np.zeros(len(nodes_xyz), bool) for _ in range(2))
    # What is near, but of another component, has lines of its own: components lie far apart along a fourth axis.
    places = np.column_stack([scaled, 2 * reach.max(initial=0) * component])
    nodes = cKDTree(places)

    def follow(tip: int) -> None:
        path = []
        while tip >= 0 and not kept[tip]:
            path.append(tip)
            tip = int(before[tip])
        kept[path] = True
        for near in nodes.query_ball_point(places[path], reach[path], return_sorted=False):
            passed[near] = True

    for root in roots.tolist():
        follow(root)
    tips = np.argsort(-far, kind='stable')
    for tip in tips.tolist():
        if not passed[tip]:
            follow(tip)
    small = np.bincount(component, kept) == 1  # within the reach of their roots
    _, first = np.unique(component[tips], return_index=True)
    for tip in tips[first][small].tolist():
        follow(tip)
    kept[roots] = False
    found = np.flatnonzero(kept)
    return np.stack([before[found], found], axis=1).astype(np.int64)


def _components(count: int, edges: np.ndarray) -> np.ndarray:
    """Number of the connected component of each of so many nodes."""
    graph = coo_array((np.ones(len(edges), bool), edges.T.astype(np.int32)), (count,) * 2)
    component: np.ndarray = connected_components(graph, directed=False)[1]
    return component


def remove_spurs(
    nodes_xyz: np.ndarray,
    edges: np.ndarray,
    radius: np.ndarray,
    size: Sequence[float],
    spur: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Removes short branches until none is left; where all branches of a fork are short, the two longest stay.

    Args:
      nodes_xyz: [n, 3].
      edges: int64 [m, 2], trees.
      radius: [n], in the unit of `size`.
      size: x, y, z that positions are multiplied by.
      spur: branches shorter than this times the radius at their base are bumps of the surface.

    Returns:
      bool [n], nodes that remain; bool [m], edges that do. Nodes without an edge do not remain.
    """
    scaled = nodes_xyz * size
    next_to: list[set[int]] = [set() for _ in nodes_xyz]
    for a, b in edges.tolist():
        next_to[a].add(b)
        next_to[b].add(a)
    tips = [node for node, others in enumerate(next_to) if len(others) == 1]
    while tips:
        spurs: list[tuple[float, list[int]]] = []
        for tip in tips:
            path = [tip]
            while len(ahead := next_to[path[-1]] - set(path[-2:-1])) == 1:
                path.append(ahead.pop())
            length = float(np.linalg.norm(np.diff(scaled[path], axis=0), axis=1).sum())
            if len(ahead) > 1 and length < spur * radius[path[-1]]:
                spurs.append((length, path))
        at_fork = Counter(path[-1] for _, path in spurs)
        short_only = {fork for fork, count in at_fork.items() if count == len(next_to[fork])}
        for _, path in sorted(spurs):
            if path[-1] in short_only and len(next_to[path[-1]]) == 2:
                continue  # or nothing would be left of the tree
            next_to[path[-1]].discard(path[-2])
            for node in path[:-1]:
                next_to[node].clear()
        tips = [fork for fork in at_fork if len(next_to[fork]) == 1]
    kept = np.array([len(others) > 0 for others in next_to], bool)
    left = np.array([b in next_to[a] for a, b in edges.tolist()], bool)
    return kept, left


def straighten(nodes_xyz: np.ndarray, edges: np.ndarray, tolerance: float) -> np.ndarray:
    """Leaves nodes out that lie near straight lines between others.

    Steps from voxel to voxel make a slanted line too long, by up to a tenth; so it has about its length.
    Douglas, Peucker, Algorithms for the reduction of the number of points required to represent a digitized line or
    its caricature, Cartographica 10, 1973.

    Args:
      nodes_xyz: float64 [n, 3].
      edges: int64 [m, 2], trees.
      tolerance: how far a node that is left out may lie from the line, in the unit of positions.

    Returns:
      int64 [k, 2], edges between the nodes that remain: tips, forks, and some of those between.
    """
    next_to: list[list[int]] = [[] for _ in nodes_xyz]
    for a, b in edges.tolist():
        next_to[a].append(b)
        next_to[b].append(a)
    found = []
    for start, others in enumerate(next_to):
        if len(others) == 2:
            continue
        for following in others:
            branch = [start, following]
            while len(next_to[branch[-1]]) == 2:
                a, b = next_to[branch[-1]]
                branch.append(b if a == branch[-2] else a)
            if branch[0] < branch[-1]:  # each is met from both of its ends
                kept = np.array(branch)[_straightened(nodes_xyz[branch], tolerance)]
                found.append(np.stack([kept[:-1], kept[1:]], axis=1))
    return np.concatenate([np.zeros((0, 2), np.int64), *found])


def _straightened(line: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices of the points of a line [n, 3] that are kept."""
    kept = {0, len(line) - 1}
    parts = [(0, len(line) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        along = line[last] - line[first]
        between = line[first + 1 : last] - line[first]
        share = np.clip(between @ along / max(along @ along, 1e-12), 0, 1)
        away = np.linalg.norm(between - share[:, np.newaxis] * along, axis=1)
        farthest = int(away.argmax())
        if away[farthest] > tolerance:
            middle = first + 1 + farthest
            kept.add(middle)
            parts += [(first, middle), (middle, last)]
    return np.array(sorted(kept))


def find_parents(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Finds the parent of each node, in trees whose roots are their first nodes.

    Args:
      edges: integer [m, 2], indices of nodes; trees.
      count: number of nodes.

    Returns:
      int32 [count], all nodes, parents before their children; int32 [count], the parent of each node, -1 of a root.
    """
    _, roots = np.unique(_components(count, edges), return_index=True)
    # One more node, next to all roots, so that one search finds all trees.
    above = np.stack([np.full(len(roots), count), roots], axis=1)
    pairs = np.concatenate([edges, above]).astype(np.int32).T
    graph = coo_array((np.ones(pairs.shape[1], bool), pairs), (count + 1,) * 2)
    order, parent = breadth_first_order(graph.tocsr(), count, directed=False)
    parent = parent[:count]
    return order[1:], np.where(parent == count, -1, parent)
