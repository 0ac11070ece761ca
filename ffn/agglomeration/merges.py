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
from ffn.agglomeration.evidence import SCORES
from ffn.utils.atomic import atomic_path

# The first scores are fractions, the others count voxels.
_FRACTIONS = 5


class MergeDecision(NamedTuple):
    """The decision about a candidate.

    Attributes:
      candidate: the pair.
      scores: evidence from resegmentation, in the order of `ffn.agglomeration.evidence.SCORES`, NaN for what was not
        measured; None if that was not possible.
      accepted: whether the two are joined.
      note: why not, or ''.
      probability: that the two are one object; None without a fit.
      between: the same of the objects that the two belonged to when that was decided; None where it was not.
    """

    candidate: Candidate
    scores: Sequence[float] | None
    accepted: bool
    note: str = ''
    probability: float | None = None
    between: float | None = None


def write_decisions(path: Path, decisions: Iterable[MergeDecision], fitted: bool = False) -> None:
    """Writes the merge table as CSV, atomically; see doc/formats.md.

    Args:
      path: table to write.
      decisions: about all candidates.
      fitted: whether there are probabilities; otherwise the table has no columns for them.
    """
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        columns = [*SCORES, *(('probability', 'between') if fitted else ()), 'note']
        writer.writerow(['id_a', 'id_b', 'distance', 'x', 'y', 'z', 'accepted', *columns])
        for one in decisions:
            id_a, id_b, distance, point = one.candidate
            values = [''] * len(SCORES) if one.scores is None else _format_scores(one.scores)
            found = (one.probability, one.between) if fitted else ()
            odds = ['' if p is None else f'{p:.4f}' for p in found]
            pair = [id_a, id_b, f'{distance:g}', *point, int(one.accepted)]
            writer.writerow([*pair, *values, *odds, one.note])


def _format_scores(scores: Sequence[float]) -> list[str]:
    fractions, counts = scores[:_FRACTIONS], scores[_FRACTIONS:]
    shown = (*(f'{n:.4f}' for n in fractions), *(f'{n:.0f}' for n in counts))
    return ['' if text == 'nan' else text for text in shown]


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
