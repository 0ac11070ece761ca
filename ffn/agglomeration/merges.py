"""Decides which candidates are joined, and writes the tables of decisions and of joined ids."""

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
    'iou',
    'a_in_from_a',
    'b_in_from_a',
    'a_in_from_b',
    'b_in_from_b',
    'deleted_from_a',
    'deleted_from_b',
    'voxels_from_a',
    'voxels_from_b',
)


class MergeDecision(NamedTuple):
    """The decision about a candidate.

    Attributes:
      candidate: the pair.
      scores: evidence from resegmentation; None if that was not possible.
      accepted: whether the two are joined.
      note: why resegmentation was not possible, or ''.
    """

    candidate: Candidate
    scores: resegmentation_pb2.EvalResult | None
    accepted: bool
    note: str = ''


def decide_merge(
    candidate: Candidate, scores: resegmentation_pb2.EvalResult, thresholds: Thresholds
) -> MergeDecision:
    """Applies thresholds to the scores of a candidate."""
    return MergeDecision(candidate, scores, thresholds.accept(scores))


def write_decisions(path: Path, decisions: Iterable[MergeDecision]) -> None:
    """Writes the merge table as CSV, atomically; see doc/formats.md."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id_a', 'id_b', 'distance', 'x', 'y', 'z', 'accepted', *_SCORES, 'note'])
        for one in decisions:
            id_a, id_b, distance, point = one.candidate
            values = [''] * len(_SCORES) if one.scores is None else _format_scores(one.scores)
            writer.writerow(
                [id_a, id_b, f'{distance:g}', *point, int(one.accepted), *values, one.note]
            )


def _format_scores(scores: resegmentation_pb2.EvalResult) -> list[str]:
    sides = scores.from_a, scores.from_b
    parts = [n for s in sides for n in (s.segment_a_consistency, s.segment_b_consistency)]
    counts = [s.deleted_voxels for s in sides] + [s.num_voxels for s in sides]
    return [f'{n:.4f}' for n in (scores.iou, *parts)] + [str(n) for n in counts]


def join_ids(pairs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Finds the connected components of pairs of ids.

    Args:
      pairs: ids to join.

    Returns:
      Every id in a pair → the lowest id of its component.
    """
    if not pairs:
        return {}
    ids, at = np.unique(np.array(pairs, np.uint64), return_inverse=True)
    a, b = at.reshape(-1, 2).T
    graph = coo_array((np.ones(len(a), np.uint8), (a, b)), shape=(len(ids),) * 2)
    _, group = connected_components(graph, directed=False)
    # np.unique returns the first member of each group, and ids are sorted.
    _, first = np.unique(group, return_index=True)
    return dict(zip(ids.tolist(), ids[first[group]].tolist(), strict=True))


def write_equivalences(path: Path, equivalences: Mapping[int, int]) -> None:
    """Writes id → id of the joined object as CSV, atomically; unchanged ids are omitted."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'joined_id'])
        writer.writerows(sorted(equivalences.items()))
