"""Skeletons of neurons: read from SWC files, or made from ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
from absl import logging
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffn.evaluation.swc import read_swc
from ffn.export.centre_lines import SPUR
from ffn.export.trees import remove_spurs
from ffn.export.whole_lines import whole_lines
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.labels import renumber
from ffn.utils.progress import progress

# Skeletons are made in memory.
_MAX_VOXELS = 2**30
# Keeps rounding from pushing a coordinate at a voxel border into the voxel before.
_ROUNDING = 1e-4
# Voxels. A neuron of smaller span, with steps that are mostly smaller, is one in another unit.
_COLLAPSED_SPAN, _COLLAPSED_STEP = 20, 0.5
# Half of all steps smaller than this: as above, in a large volume.
_SUSPICIOUS_STEP = 0.1
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
        floors = np.floor(self.nodes_xyz[:, ::-1] + _ROUNDING)
        return np.clip(floors, -(2.0**62), 2.0**62).astype(np.int64)

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
          UserError: no edge lies inside, or none that has a length.
        """
        zyx = self.voxels_zyx
        inside = np.all((zyx >= box.start.zyx) & (zyx < box.end.zyx), axis=1)
        remains = inside[self.edges].all(axis=1)
        edges, lengths = self.edges[remains], self.lengths((1, 1, 1))
        if not lengths[remains].any():
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
                '%d of %d nodes of the skeletons lie outside box %s and are ignored, with all edges at them: %.1f %% of '
                'their length',
                np.count_nonzero(~inside),
                len(inside),
                box,
                100 * (1 - lengths[remains].sum() / lengths.sum()),
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


def read_skeletons(
    paths: Sequence[str | Path], voxel_size_xyz: Sequence[float] = (1, 1, 1)
) -> Skeletons:
    """Reads SWC files, one neuron each.

    Args:
      paths: the files.
      voxel_size_xyz: positions are divided by this to obtain voxels.

    Raises:
      UserError: see `read_swc`; also skeletons that lie within a few voxels.
    """
    parts = []
    for path in map(Path, paths):
        nodes, edges = read_swc(path)
        parts.append((path.name, nodes / voxel_size_xyz, edges))
    joined = join_skeletons(parts)
    _check_unit(parts, joined, voxel_size_xyz)
    return joined


def _check_unit(
    parts: Sequence[tuple[str, np.ndarray, np.ndarray]],
    joined: Skeletons,
    voxel_size_xyz: Sequence[float],
) -> None:
    """Refuses neurons that collapse into a few voxels, as micrometres do that are taken for nanometres.

    All that is left of their edges lies within one segment: they would score as perfect.
    """
    collapsed = [part for part in parts if _is_collapsed(*part[1:])]
    steps = joined.lengths((1, 1, 1))
    if collapsed:
        name, nodes, _ = collapsed[0]
        span = ','.join(f'{n:.3g}' for n in np.ptp(nodes, axis=0))
        found = f'the {len(nodes)} nodes of {name} lie within x,y,z {span} voxels'
    elif len(steps) and np.median(steps) < _SUSPICIOUS_STEP:
        found = f'most edges of the skeletons are shorter than {np.median(steps):.2g} voxels'
    else:
        return
    size = ','.join(f'{n:g}' for n in voxel_size_xyz)
    message = (
        f'{found}: check that the skeletons have the unit of the voxel size, x,y,z {size} '
        '(--voxel_size and --skeleton_unit, or voxel_size of the request)'
    )
    if len(collapsed) == sum(len(edges) > 0 for *_, edges in parts):
        raise UserError(message)
    many = f'{len(collapsed)} of {len(parts)} skeletons collapse; ' if len(collapsed) > 1 else ''
    logging.warning('%s%s', many, message)


def _is_collapsed(nodes_xyz: np.ndarray, edges: np.ndarray) -> bool:
    """Whether a neuron spans few voxels, and has several nodes in each."""
    if not len(edges) or np.ptp(nodes_xyz, axis=0).max() >= _COLLAPSED_SPAN:
        return False
    steps = np.linalg.norm(np.subtract(*nodes_xyz[edges.T]), axis=1)
    return bool(np.median(steps) < _COLLAPSED_STEP)


def check_size(box: Box) -> None:
    """Refuses a box that is too large for `skeletonize_truth`, before it is read.

    Raises:
      UserError: it is.
    """
    if (voxels := math.prod(box.size)) > _MAX_VOXELS:
        raise UserError(
            f'skeletons are made in memory, of at most {_MAX_VOXELS} voxels; the box has {voxels}: '
            'choose a --bounding_box, or give --skeletons'
        )


def skeletonize_truth(
    truth: np.ndarray,
    box: Box,
    voxel_size_xyz: Sequence[float] = (1, 1, 1),
    min_voxels: int = DEFAULT_MIN_VOXELS,
    quiet: bool = True,
) -> Skeletons:
    """Finds the centre lines of objects; see `ffn.export.centre_lines`.

    Branches shorter than SPUR times the object's radius at their base are bumps of its surface and are removed.

    Args:
      truth: integer [z, y, x], 0 is unlabelled.
      box: its position.
      voxel_size_xyz: physical size of a voxel.
      min_voxels: minimum size of an object.
      quiet: no progress bar.

    Raises:
      UserError: no object is large enough, or the box is too large for memory.
    """
    check_size(box)
    labels, names = renumber(np.where(truth > 0, truth, 0))
    unsigned = labels.astype(f'u{labels.itemsize}', copy=False)  # cc3d before 4 knows no others
    stats = cc3d.statistics(unsigned)
    parts = []
    numbers = [
        (i, name) for name, i in names.items() if i and stats['voxel_counts'][i] >= min_voxels
    ]
    for i, name in progress(sorted(numbers), desc='skeletons', unit='object', quiet=quiet):
        part = stats['bounding_boxes'][i]
        lines, radius = whole_lines(labels[part] == i, tuple(voxel_size_xyz)[::-1])
        start = [s.start + b for s, b in zip(part, box.start.zyx, strict=True)]
        nodes, edges = (lines.nodes + start)[:, ::-1].astype(np.float64), lines.edges
        kept, left = remove_spurs(nodes, edges, radius, voxel_size_xyz, SPUR)
        if left.any():
            parts.append((str(name), nodes[kept], (np.cumsum(kept) - 1)[edges[left]]))
    if not parts:
        objects = len(names.keys() - {0})
        raise UserError(
            f'no object of the ground truth has a skeleton; of {objects} none is long enough and has '
            f'{min_voxels} voxels or more'
        )
    return join_skeletons(parts)
