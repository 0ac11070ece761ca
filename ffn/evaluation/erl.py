"""Expected run length: how far one can follow a neuron before the segmentation errs.

Januszewski et al., Nature Methods 15, 2018, doi:10.1038/s41592-018-0049-4. An edge of a skeleton is

- omitted, if one of its ends is in no segment;
- split, if its ends are in two segments;
- merged, if its segment is a merger: one that covers at least the merge threshold, a length, of each
  of two neurons or more;
- correct otherwise.

The correct edges of a tree in one segment are a run. The expected run length is the length of the run
that a point lies in, taken over all points of all skeletons; outside of runs it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffn.evaluation.blocks import BLOCK_ZYX
from ffn.evaluation.skeletons import Skeletons
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.volumes.volume import Volume

# Of the smallest edge of a voxel.
DEFAULT_MERGE_VOXELS = 50


@dataclass(frozen=True)
class Merger:
    """A segment that runs through several neurons.

    Attributes:
      segment: its id.
      length: of all skeletons in it.
      neurons: names of those that it covers enough of, the longest part first.
      at_xyz: where the first node of the second of them is, a voxel.
    """

    segment: int
    length: float
    neurons: tuple[str, ...]
    at_xyz: Xyz


@dataclass(frozen=True)
class ErlScore:
    """Expected run length and what it comes from; lengths are in the unit of the voxel size.

    Attributes:
      erl: expected run length.
      normalised_erl: the part of `perfect_erl` that is reached, 0 to 1.
      perfect_erl: of a segmentation without an error.
      length: of all skeletons.
      correct: length of correct edges; `split`, `omitted` and `merged` alike.
      split: see `correct`.
      omitted: see `correct`.
      merged: see `correct`.
      neurons: number of neurons.
      trees: number of connected trees.
      nodes: number of nodes.
      merge_threshold: length from which on a neuron counts as covered by a segment.
      voxel_size_xyz: size of a voxel.
      mergers: the segments that merge neurons, the longest first.
    """

    erl: float
    normalised_erl: float
    perfect_erl: float
    length: float
    correct: float
    split: float
    omitted: float
    merged: float
    neurons: int
    trees: int
    nodes: int
    merge_threshold: float
    voxel_size_xyz: tuple[float, ...]
    mergers: tuple[Merger, ...]


def labels_at(volume: Volume, voxels_zyx: np.ndarray, block_zyx: Zyx = BLOCK_ZYX) -> np.ndarray:
    """Reads single voxels of a volume, in blocks.

    Args:
      volume: labels.
      voxels_zyx: int64 [n, 3], inside of the volume.
      block_zyx: size of the blocks.

    Returns:
      uint64 [n]; what is not positive is 0.
    """
    found = np.zeros(len(voxels_zyx), np.uint64)
    blocks, block = np.unique(voxels_zyx // block_zyx, axis=0, return_inverse=True)
    for number in range(len(blocks)):
        nodes = np.flatnonzero(block.reshape(-1) == number)
        voxels = voxels_zyx[nodes]
        low = voxels.min(axis=0)
        labels = volume.read(Box.from_zyx(low, voxels.max(axis=0) + 1 - low))
        values = labels[tuple((voxels - low).T)]
        found[nodes] = np.where(values > 0, values, 0)
    return found


def erl_score(
    skeletons: Skeletons, segments: np.ndarray, voxel_size_xyz: Sequence[float],
    merge_threshold: float | None = None,
) -> ErlScore:  # fmt: skip
    """Computes the expected run length.

    Args:
      skeletons: with one edge at least.
      segments: uint64 [n], the segment that each node is in, 0: none.
      voxel_size_xyz: size of a voxel.
      merge_threshold: see the top of this file; None: DEFAULT_MERGE_VOXELS voxels.
    """
    if merge_threshold is None:
        merge_threshold = DEFAULT_MERGE_VOXELS * min(voxel_size_xyz)
    lengths = skeletons.lengths(voxel_size_xyz)
    first, second = segments[skeletons.edges].T
    mergers = _mergers(skeletons, segments, lengths, merge_threshold)
    omitted = (first == 0) | (second == 0)
    split = ~omitted & (first != second)
    merged = ~omitted & ~split & np.isin(first, [m.segment for m in mergers])
    correct = ~(omitted | split | merged)
    trees = skeletons.trees()
    tree = trees[skeletons.edges[:, 0]]
    runs = _sums(np.stack([tree[correct], first[correct]], axis=1), lengths[correct])
    total = float(lengths.sum())
    perfect = float(np.sum(np.bincount(tree, lengths) ** 2)) / total
    erl = float(np.sum(runs**2)) / total
    return ErlScore(
        erl, erl / perfect, perfect, total,
        *(float(lengths[kind].sum()) for kind in (correct, split, omitted, merged)),
        neurons=len(np.unique(skeletons.neuron)), trees=len(np.unique(tree)),
        nodes=len(segments), merge_threshold=float(merge_threshold),
        voxel_size_xyz=tuple(map(float, voxel_size_xyz)), mergers=tuple(mergers),
    )  # fmt: skip


def _sums(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sums of the values that have equal rows of keys."""
    _, group = np.unique(keys, axis=0, return_inverse=True)
    return np.bincount(group.reshape(-1), values)


def _mergers(
    skeletons: Skeletons, segments: np.ndarray, lengths: np.ndarray, threshold: float
) -> list[Merger]:
    """Finds the mergers; half of an edge lies in the segment of each of its ends."""
    of_node = np.bincount(
        skeletons.edges.reshape(-1), np.repeat(lengths / 2, 2), minlength=len(segments)
    )
    inside = np.flatnonzero(segments > 0)
    pairs, start, group = np.unique(
        np.stack([segments[inside], skeletons.neuron[inside].astype(np.uint64)], axis=1),
        axis=0, return_index=True, return_inverse=True,
    )  # fmt: skip
    covered = np.bincount(group.reshape(-1), of_node[inside], minlength=len(pairs))
    enough = np.flatnonzero((covered >= threshold) & (covered > 0))
    ids, counts = np.unique(pairs[enough, 0], return_counts=True)
    mergers = []
    for segment in ids[counts > 1]:
        rows = enough[pairs[enough, 0] == segment]
        rows = rows[np.argsort(-covered[rows], kind='stable')]
        at = skeletons.voxels_zyx[inside[start[rows[1]]]]
        mergers.append(
            Merger(
                int(segment), float(covered[pairs[:, 0] == segment].sum()),
                tuple(skeletons.names[int(n)] for n in pairs[rows, 1]), Zyx.of(at).xyz,
            )
        )  # fmt: skip
    return sorted(mergers, key=lambda m: (-m.length, m.segment))
