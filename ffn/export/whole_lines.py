"""Centre lines of whole objects, which may be thin and reach far: the time depends on their voxels, not on their box.

Paths are sought in the graph of the object's voxels; `ffn.export.centre_lines` says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cc3d
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from ffn.export.centre_lines import POWER, Lines, Place, distances, follow_tips
from ffn.utils.geometry import HALF_NEIGHBOURS

# Of components with more voxels, several become one node.
_MOST_NODES = 100_000


class _Nodes(NamedTuple):
    """The voxels of a component, or blocks of them, as the nodes of a graph.

    Attributes:
      places: int64 [n, 3], z, y, x blocks, in ascending order; 1 is the first, so that all have neighbours.
      of_voxel: int64 [m], the node of each voxel of the component, in their order.
      factors: int64 [3], z, y, x voxels of a block.
    """

    places: np.ndarray
    of_voxel: np.ndarray
    factors: np.ndarray


def whole_lines(mask: np.ndarray, size: Sequence[float]) -> tuple[Lines, np.ndarray]:
    """Finds the centre lines of all components (over corners) of an object.

    Args:
      mask: bool [z, y, x]; beyond its border, nothing is of the object.
      size: z, y, x of a voxel.

    Returns:
      Lines, whose nodes are voxels of the object, and their distances to its surface, float64 [n]; components of one
      voxel have none.
    """
    parts = np.asarray(cc3d.connected_components(np.pad(mask, 1).view(np.uint8), connectivity=26))
    stats = cc3d.statistics(parts)
    nodes, edges, radii, count = [np.zeros((0, 3), np.int64)], [np.zeros((0, 2), np.int64)], [], 0
    for part, box in enumerate(stats['bounding_boxes']):
        if part == 0 or stats['voxel_counts'][part] == 1:
            continue
        crop = tuple(slice(s.start - 1, s.stop + 1) for s in box)
        lines, radius = _lines(parts[crop] == part, size)
        nodes.append(lines.nodes + [s.start - 1 for s in crop])
        edges.append(lines.edges + count)
        radii.append(radius)
        count += len(radius)
    return Lines(np.concatenate(nodes), np.concatenate(edges)), np.concatenate([[], *radii])


def _lines(mask: np.ndarray, size: Sequence[float]) -> tuple[Lines, np.ndarray]:
    """Lines of one component that does not touch the border of its mask, and their distances to the surface."""
    nodes = _nodes(mask, size)
    places, block = nodes.places, (nodes.factors * size).tolist()
    coarse = np.zeros(places.max(axis=0) + 2, bool)
    coarse[tuple(places.T)] = True
    radius = distances(coarse, block)
    own = radius[tuple(places.T)].astype(np.float64)
    a, b = _neighbours(mask, nodes)
    positions = places * block
    steps = np.linalg.norm(positions[a] - positions[b], axis=1)
    costs = (own.max() / own) ** POWER
    root = int(np.linalg.norm(positions - positions.mean(axis=0), axis=1).argmax())
    far = _shortest(steps, a, b, len(places), root)[0]
    before = _shortest(steps * (costs[a] + costs[b]) / 2, a, b, len(places), root)[1]
    found = {tuple(place): i for i, place in enumerate(places.tolist())}

    def traceback(tip: Place) -> list[Place]:
        path = [found[tip]]
        while path[-1] != root:
            path.append(int(before[path[-1]]))
        return [tuple(place) for place in places[path[::-1]].tolist()]

    lines = follow_tips(coarse, radius, block, [tuple(places[root].tolist())], far, traceback)
    kept = own[[found[tuple(place)] for place in lines.nodes.tolist()]]
    return Lines(_voxels(mask, lines.nodes, nodes.factors), lines.edges), kept


def _nodes(mask: np.ndarray, size: Sequence[float]) -> _Nodes:
    """Makes nodes of a component; a block is one if any of its voxels is of the component, so that nothing thin is lost."""
    voxels, factors = np.argwhere(mask), np.ones(3, np.int64)
    while True:
        places, of_voxel = voxels, np.arange(len(voxels))
        if (factors > 1).any():
            blocks = voxels // factors
            shape = blocks.max(axis=0) + 1
            flat, of_voxel = np.unique(np.ravel_multi_index(blocks.T, shape), return_inverse=True)
            places = np.stack(np.unravel_index(flat, shape), axis=1)
        if len(places) <= _MOST_NODES:
            return _Nodes(places + 1, of_voxel, factors)
        sides = factors * size
        factors = factors * np.where(sides < 1.5 * sides.min(), 2, 1)


def _neighbours(mask: np.ndarray, nodes: _Nodes) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of nodes, int64 [k] each, that voxels of the component connect: a narrow gap between blocks stays one."""
    flat = np.flatnonzero(mask)
    node = np.full(mask.size, -1, np.int32)
    node[flat] = nodes.of_voxel
    found = []
    for offset in HALF_NEIGHBOURS:
        step = int(np.dot(offset, [mask.shape[1] * mask.shape[2], mask.shape[2], 1]))
        here, there = node[flat], node[flat + step]
        kept = (there >= 0) & (here != there)
        here, there = here[kept], there[kept]
        found.append(np.stack([np.minimum(here, there), np.maximum(here, there)]))
    pairs = np.concatenate(found, axis=1)
    if (nodes.factors > 1).any():  # many voxels connect the same two
        once = coo_array((np.ones(pairs.shape[1], np.int32), pairs), (len(nodes.places),) * 2)
        joined = once.tocsr().tocoo()
        pairs = np.stack([joined.row, joined.col])
    return pairs[0].astype(np.int64), pairs[1].astype(np.int64)


def _shortest(
    weights: np.ndarray, a: np.ndarray, b: np.ndarray, count: int, root: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all nodes from a root, and the node before each."""
    graph = coo_array((weights, (a.astype(np.int32), b.astype(np.int32))), (count, count)).tocsr()
    far, before = dijkstra(graph, directed=False, indices=root, return_predecessors=True)
    return far, before


def _voxels(mask: np.ndarray, places: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Chooses the voxel of the component in each block that is nearest to the middle: int64 [n, 3] z, y, x."""
    steps = np.array(list(np.ndindex(*factors)), np.int64)
    steps = steps[np.argsort(np.linalg.norm(steps - (factors - 1) / 2, axis=1), kind='stable')]
    voxels = (places - 1)[:, np.newaxis] * factors + steps
    exists = (voxels < mask.shape).all(axis=2)
    voxels = np.minimum(voxels, np.array(mask.shape) - 1)
    fits = exists & mask[tuple(np.moveaxis(voxels, 2, 0))]
    return voxels[np.arange(len(places)), fits.argmax(axis=1)]
