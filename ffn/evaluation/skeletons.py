"""Skeletons of neurons: read from SWC files, or made from ground truth.

SWC: Cannon et al., An on-line archive of reconstructed hippocampal neurons, J. Neurosci. Methods 84,
1998. A line is `id type x y z radius parent`, parent -1 for a root; `#` begins a comment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cc3d
import edt
import fastremap
import numpy as np
from absl import logging
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.progress import progress

# Skeletons are made in memory.
_MAX_VOXELS = 2**30
# Keeps rounding from pushing a coordinate at a voxel border into the voxel before.
_ROUNDING = 1e-4
_SPUR = 2.0
DEFAULT_MIN_VOXELS = 1000


@dataclass(frozen=True)
class Skeletons:
    """Trees along neurons.

    Attributes:
      names: name of each neuron: its file, or its id in the ground truth.
      neuron: int64 [n], which neuron each node belongs to.
      nodes_xyz: float64 [n, 3], positions in voxels of the ground truth.
      edges: int64 [m, 2], indices of nodes.
    """

    names: tuple[str, ...]
    neuron: np.ndarray
    nodes_xyz: np.ndarray
    edges: np.ndarray

    @property
    def voxels_zyx(self) -> np.ndarray:
        """The voxel that each node lies in: int64 [n, 3]."""
        return np.floor(self.nodes_xyz[:, ::-1] + _ROUNDING).astype(np.int64)

    def lengths(self, voxel_size_xyz: Sequence[float]) -> np.ndarray:
        """Returns the lengths of the edges: float64 [m], in the unit of the voxel size."""
        ends = (self.nodes_xyz * voxel_size_xyz)[self.edges]
        return np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)

    def trees(self) -> np.ndarray:
        """Returns which connected tree each node belongs to: int32 [n]."""
        ones = np.ones(len(self.edges), bool)
        shape = (len(self.nodes_xyz),) * 2
        return connected_components(coo_array((ones, self.edges.T), shape), directed=False)[1]

    def clipped(self, box: Box) -> Skeletons:
        """Drops nodes outside a box, along with their edges.

        Raises:
          UserError: no edge lies inside.
        """
        zyx = self.voxels_zyx
        inside = np.all((zyx >= box.start.zyx) & (zyx < box.end.zyx), axis=1)
        edges = self.edges[inside[self.edges].all(axis=1)]
        if not len(edges):
            low, high = (
                ','.join(f'{v:g}' for v in a)
                for a in (self.nodes_xyz.min(axis=0), self.nodes_xyz.max(axis=0))
            )
            raise UserError(
                f'no edge of the skeletons lies inside box {box}: their nodes range from voxel x,y,z '
                f'{low} to {high}; check --skeleton_unit and --voxel_size'
            )
        if not inside.all():
            logging.warning(
                '%d of %d nodes of the skeletons lie outside box %s and are ignored',
                np.count_nonzero(~inside),
                len(inside),
                box,
            )
        number = np.cumsum(inside) - 1
        return Skeletons(self.names, self.neuron[inside], self.nodes_xyz[inside], number[edges])


def join_skeletons(parts: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Skeletons:
    """Combines neurons.

    Args:
      parts: for each neuron its name, nodes [n, 3] x,y,z in voxels, and edges [m, 2].
    """
    begin = np.cumsum([0, *(len(nodes) for _, nodes, _ in parts)])
    return Skeletons(
        tuple(name for name, *_ in parts),
        np.repeat(np.arange(len(parts)), np.diff(begin)),
        np.concatenate([nodes for _, nodes, _ in parts]),
        np.concatenate([e + b for (*_, e), b in zip(parts, begin, strict=False)]).astype(np.int64),
    )


def read_swc(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads an SWC file.

    Returns:
      float64 [n, 3] positions x,y,z as stored; int64 [m, 2] edges, indices of nodes.

    Raises:
      UserError: no such file, a line that is not a node, or a parent that does not exist.
    """
    if not path.is_file():
        raise UserError(f'no such file: {path}')
    rows = []
    for number, line in enumerate(path.read_text(errors='replace').splitlines(), 1):
        fields = line.partition('#')[0].split()
        if not fields:
            continue
        try:
            node, _, x, y, z, _, parent = (float(field) for field in fields[:7])
        except ValueError as error:
            raise UserError(
                f'{path}, line {number}: {line.strip()!r}; expected id type x y z radius parent'
            ) from error
        rows.append((int(node), x, y, z, int(parent)))
    if not rows:
        raise UserError(f'{path} holds no node')
    index = {row[0]: i for i, row in enumerate(rows)}
    if len(index) < len(rows):
        raise UserError(f'{path} has the same node id twice')
    lost = next((row for row in rows if row[4] >= 0 and row[4] not in index), None)
    if lost:
        raise UserError(f'{path}: node {lost[0]} has parent {lost[4]}, which is not there')
    edges = [(i, index[row[4]]) for i, row in enumerate(rows) if row[4] >= 0]
    nodes = np.array([row[1:4] for row in rows], np.float64)
    return nodes, np.array(edges, np.int64).reshape(-1, 2)


def read_skeletons(
    paths: Sequence[str | Path], voxel_size_xyz: Sequence[float] = (1, 1, 1)
) -> Skeletons:
    """Reads SWC files, one neuron each.

    Args:
      paths: the files.
      voxel_size_xyz: positions are divided by this to obtain voxels.

    Raises:
      UserError: see `read_swc`.
    """
    parts = []
    for path in map(Path, paths):
        nodes, edges = read_swc(path)
        parts.append((path.name, nodes / voxel_size_xyz, edges))
    return join_skeletons(parts)


def skeletonize_truth(
    truth: np.ndarray,
    box: Box,
    voxel_size_xyz: Sequence[float] = (1, 1, 1),
    min_voxels: int = DEFAULT_MIN_VOXELS,
    quiet: bool = True,
) -> Skeletons:
    """Thins objects to lines and connects these to minimum spanning trees.

    Branches shorter than _SPUR times the object's radius at their base are bumps of its surface and are
    removed.

    Lee et al., Building skeleton models via 3-D medial surface/axis thinning algorithms, CVGIP 56,
    1994, as implemented in scikit-image.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      box: its position.
      voxel_size_xyz: physical size of a voxel.
      min_voxels: minimum size of an object.
      quiet: no progress bar.

    Raises:
      UserError: no object is large enough, or the box is too large for memory.
    """
    if truth.size > _MAX_VOXELS:
        raise UserError(
            f'skeletons are made in memory, of at most {_MAX_VOXELS} voxels; the box has {truth.size}: '
            'choose a --bounding_box, or give --skeletons'
        )
    labels, names = fastremap.renumber(np.where(truth > 0, truth, 0), preserve_zero=True)
    stats = cc3d.statistics(labels)
    parts = []
    numbers = [
        (i, name) for name, i in names.items() if i and stats['voxel_counts'][i] >= min_voxels
    ]
    for i, name in progress(sorted(numbers), desc='skeletons', unit='object', quiet=quiet):
        part = stats['bounding_boxes'][i]
        mask = labels[part] == i
        zyx = np.argwhere(_thin(mask))
        anisotropy = tuple(voxel_size_xyz)[::-1]
        radius = edt.edt(mask, anisotropy, black_border=True)[tuple(zyx.T)]
        start = [s.start + b for s, b in zip(part, box.start.zyx, strict=True)]
        nodes = (zyx + start)[:, ::-1].astype(np.float64)
        nodes, edges = _remove_spurs(
            nodes, _spanning_tree(nodes, voxel_size_xyz), radius, voxel_size_xyz
        )
        if len(edges):
            parts.append((str(name), nodes, edges))
    if not parts:
        objects = len(names.keys() - {0})
        raise UserError(
            f'no object of the ground truth has a skeleton; of {objects} none is long enough and has '
            f'{min_voxels} voxels or more'
        )
    return join_skeletons(parts)


def _thin(mask: np.ndarray) -> np.ndarray:
    """Thins an object to lines: bool [z, y, x]."""
    lines = skeletonize(mask)
    for axis in range(3):
        # scikit-image erases bars that are an even number of voxels wide.
        if not lines.any():
            odd = mask & np.roll(mask, 1, axis)
            odd[(slice(None),) * axis + (0,)] = False
            lines = skeletonize(odd)
    return lines


def _spanning_tree(nodes_xyz: np.ndarray, voxel_size_xyz: Sequence[float]) -> np.ndarray:
    """Returns the edges between neighbouring voxels of each component's minimum spanning tree."""
    pairs = cKDTree(nodes_xyz).query_pairs(1.8, output_type='ndarray')  # √3: over a corner
    ends = (nodes_xyz * voxel_size_xyz)[pairs]
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    graph = coo_array((lengths, pairs.T), (len(nodes_xyz),) * 2)
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    return np.stack([tree.row, tree.col], axis=1).astype(np.int64)


def _remove_spurs(
    nodes_xyz: np.ndarray, edges: np.ndarray, radius: np.ndarray, voxel_size_xyz: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Removes short branches until none is left; returns the remaining nodes and edges."""
    scaled = nodes_xyz * voxel_size_xyz
    next_to: list[set[int]] = [set() for _ in nodes_xyz]
    for a, b in edges.tolist():
        next_to[a].add(b)
        next_to[b].add(a)
    tips = [node for node, others in enumerate(next_to) if len(others) == 1]
    while tips:
        spurs = []
        for tip in tips:
            path = [tip]
            while len(ahead := next_to[path[-1]] - set(path[-2:-1])) == 1:
                path.append(ahead.pop())
            length = np.linalg.norm(np.diff(scaled[path], axis=0), axis=1).sum()
            if len(ahead) > 1 and length < _SPUR * radius[path[-1]]:
                spurs.append(path)
        for path in spurs:
            next_to[path[-1]].discard(path[-2])
            for node in path[:-1]:
                next_to[node].clear()
        tips = [path[-1] for path in spurs if len(next_to[path[-1]]) == 1]
    kept = np.array([len(others) > 0 for others in next_to], bool)
    number = np.cumsum(kept) - 1
    left = np.array([b in next_to[a] for a, b in edges.tolist()], bool)
    return nodes_xyz[kept], number[edges[left]]
