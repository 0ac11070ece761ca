"""Expected run length: how far one can follow a neuron before the first error of the segmentation.

Januszewski et al., Nature Methods 15, 2018, doi:10.1038/s41592-018-0049-4. An edge of a skeleton is

- omitted, if one of its ends lies in no segment;
- split, if its ends lie in different segments;
- merged, if its segment is a merger, that is, covers at least the merge threshold (a length) of each of
  two or more neurons;
- correct otherwise.

The correct edges of a tree within one segment form a run. The expected run length is the mean, over all
points of all skeletons, of the length of the run that the point lies in; outside of runs it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffn.evaluation.blocks import BLOCK_ZYX
from ffn.evaluation.skeletons import Skeletons
from ffn.utils.geometry import Box, Xyz, Zyx
from ffn.utils.labels import groups
from ffn.volumes.volume import Volume

# In units of the shortest edge of a voxel.
DEFAULT_MERGE_VOXELS = 50


@dataclass(frozen=True)
class Merger:
    """A segment that runs through several neurons.

    Attributes:
      segment: its id.
      length: of all skeletons within it.
      neurons: names of the neurons that it covers beyond the threshold, longest part first.
      at_xyz: voxel of the first node of the second of them.
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
      normalised_erl: `erl` as a fraction of `max_erl`.
      max_erl: expected run length of a segmentation without errors.
      length: total length of all skeletons.
      correct: total length of correct edges.
      split: total length of split edges.
      omitted: total length of omitted edges.
      merged: total length of merged edges.
      neurons: number of neurons.
      trees: number of connected trees.
      nodes: number of nodes.
      merge_threshold: length of a neuron that a segment must cover to count as containing it.
      voxel_size_xyz: physical size of a voxel.
      mergers: segments that merge neurons, longest first.
    """

    erl: float
    normalised_erl: float
    max_erl: float
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


def read_voxels(volume: Volume, voxels_zyx: np.ndarray, block_zyx: Zyx = BLOCK_ZYX) -> np.ndarray:
    """Reads individual voxels of a volume, block by block.

    Args:
      volume: labels.
      voxels_zyx: int64 [n, 3], within the volume.
      block_zyx: size of the blocks.

    Returns:
      uint64 [n]; values that are not positive become 0.
    """
    found = np.zeros(len(voxels_zyx), np.uint64)
    _, block = np.unique(voxels_zyx // block_zyx, axis=0, return_inverse=True)
    for nodes in groups(block.reshape(-1)):
        voxels = voxels_zyx[nodes]
        low = voxels.min(axis=0)
        labels = volume.read(Box.from_zyx(low, voxels.max(axis=0) + 1 - low))
        values = labels[tuple((voxels - low).T)]
        found[nodes] = np.where(values > 0, values, 0)
    return found


def erl_score(
    skeletons: Skeletons,
    segments: np.ndarray,
    voxel_size_xyz: Sequence[float],
    merge_threshold: float | None = None,
) -> ErlScore:
    """Computes the expected run length.

    Args:
      skeletons: with at least one edge.
      segments: uint64 [n], the segment that each node lies in, 0: none.
      voxel_size_xyz: physical size of a voxel.
      merge_threshold: see the module docstring; None: DEFAULT_MERGE_VOXELS voxels.
    """
    if merge_threshold is None:
        merge_threshold = DEFAULT_MERGE_VOXELS * min(voxel_size_xyz)
    lengths = skeletons.lengths(voxel_size_xyz)
    first, second = segments[skeletons.edges].T
    mergers = _mergers(skeletons, segments, lengths, merge_threshold)
    omitted = (first == 0) | (second == 0)
    split = ~omitted & (first != second)
    merged = ~omitted & ~split & np.isin(first, np.array([m.segment for m in mergers], np.uint64))
    correct = ~(omitted | split | merged)
    trees = skeletons.trees()
    tree = trees[skeletons.edges[:, 0]]
    pieces = np.stack([tree[correct].astype(np.uint64), first[correct]], axis=1)
    _, run = np.unique(pieces, axis=0, return_inverse=True)
    runs = np.bincount(run.reshape(-1), lengths[correct])
    total = float(lengths.sum())
    max_erl = float(np.sum(np.bincount(tree, lengths) ** 2)) / total
    erl = float(np.sum(runs**2)) / total
    return ErlScore(
        erl=erl,
        normalised_erl=erl / max_erl,
        max_erl=max_erl,
        length=total,
        correct=float(lengths[correct].sum()),
        split=float(lengths[split].sum()),
        omitted=float(lengths[omitted].sum()),
        merged=float(lengths[merged].sum()),
        neurons=len(np.unique(skeletons.neuron)),
        trees=len(np.unique(tree)),
        nodes=len(segments),
        merge_threshold=float(merge_threshold),
        voxel_size_xyz=tuple(map(float, voxel_size_xyz)),
        mergers=tuple(mergers),
    )


def _mergers(
    skeletons: Skeletons, segments: np.ndarray, lengths: np.ndarray, threshold: float
) -> list[Merger]:
    """Finds the mergers; half of each edge is attributed to the segment of each of its ends."""
    of_node = np.bincount(
        skeletons.edges.reshape(-1), np.repeat(lengths / 2, 2), minlength=len(segments)
    )
    inside = np.flatnonzero(segments > 0)
    pairs, start, group = np.unique(
        np.stack([segments[inside], skeletons.neuron[inside].astype(np.uint64)], axis=1),
        axis=0,
        return_index=True,
        return_inverse=True,
    )
    covered = np.bincount(group.reshape(-1), of_node[inside], minlength=len(pairs))
    enough = (covered >= threshold) & (covered > 0)
    ids, counts = np.unique(pairs[enough, 0], return_counts=True)
    merging = ids[counts > 1]
    begins, ends = (np.searchsorted(pairs[:, 0], merging, side) for side in ('left', 'right'))
    voxels, mergers = skeletons.voxels_zyx, []
    for segment, begin, end in zip(merging, begins, ends, strict=True):
        rows = begin + np.flatnonzero(enough[begin:end])
        rows = rows[np.argsort(-covered[rows], kind='stable')]
        at = voxels[inside[start[rows[1]]]]
        mergers.append(
            Merger(
                int(segment),
                float(covered[begin:end].sum()),
                tuple(skeletons.names[int(n)] for n in pairs[rows, 1]),
                Zyx.of(at).xyz,
            )
        )
    return sorted(mergers, key=lambda m: (-m.length, m.segment))
