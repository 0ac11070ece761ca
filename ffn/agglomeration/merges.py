"""Which segments are joined: the table of scores, and what every id becomes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.evidence import Thresholds
from ffn.inference import resegmentation_pb2
from ffn.utils.atomic import atomic_path

_SCORES = (
    'iou', 'a_in_from_a', 'b_in_from_a', 'a_in_from_b', 'b_in_from_b', 'deleted_from_a', 'deleted_from_b',
    'voxels_from_a', 'voxels_from_b',
)  # fmt: skip


class MergeDecision(NamedTuple):
    """A candidate and what became of it.

    Attributes:
      candidate: the pair.
      scores: of its resegmentation, None where that was not possible.
      accepted: whether the two are joined.
      note: why it was not possible, '' where it was.
    """

    candidate: Candidate
    scores: resegmentation_pb2.EvalResult | None
    accepted: bool
    note: str = ''


def judge(
    candidate: Candidate, scores: resegmentation_pb2.EvalResult, thresholds: Thresholds
) -> MergeDecision:
    """Applies thresholds to a candidate's scores."""
    return MergeDecision(candidate, scores, thresholds.accept(scores))


def write_table(path: Path, judged: Iterable[MergeDecision]) -> None:
    """Writes the merge table as CSV, see doc/formats.md; whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id_a', 'id_b', 'distance', 'x', 'y', 'z', 'accepted', *_SCORES, 'note'])
        for one in judged:
            id_a, id_b, distance, point = one.candidate
            values = [''] * len(_SCORES) if one.scores is None else _numbers(one.scores)
            writer.writerow(
                [id_a, id_b, f'{distance:g}', *point, int(one.accepted), *values, one.note]
            )


def _numbers(scores: resegmentation_pb2.EvalResult) -> list[str]:
    sides = scores.from_a, scores.from_b
    parts = [n for s in sides for n in (s.segment_a_consistency, s.segment_b_consistency)]
    counts = [s.deleted_voxels for s in sides] + [s.num_voxels for s in sides]
    return [f'{n:.4f}' for n in (scores.iou, *parts)] + [str(n) for n in counts]


def joined(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Joins ids along pairs.

    Args:
      pairs: ids that are one.

    Returns:
      Every id of a pair → the lowest id of those that it is one with.
    """
    if not pairs:
        return {}
    ids, at = np.unique(np.array(pairs, np.uint64), return_inverse=True)
    a, b = at.reshape(-1, 2).T
    graph = coo_array((np.ones(len(a), np.uint8), (a, b)), shape=(len(ids),) * 2)
    _, group = connected_components(graph, directed=False)
    # np.unique finds the first of each group, and ids are sorted.
    _, first = np.unique(group, return_index=True)
    return dict(zip(ids.tolist(), ids[first[group]].tolist(), strict=True))


def write_equivalences(path: Path, equivalences: Mapping[int, int]) -> None:
    """Writes id → id of the joined segment as CSV; ids that are joined with none are left out."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'joined_id'])
        writer.writerows(sorted(equivalences.items()))
