"""Decides about all candidates, by thresholds or by a fit; the tables of evidence are read, not held."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from absl import logging

from ffn.agglomeration.candidates import Candidate
from ffn.agglomeration.evidence import Thresholds
from ffn.agglomeration.evidence_table import EvidenceTable, candidate_of
from ffn.agglomeration.features import FEATURES
from ffn.agglomeration.joins import NOTES, JoinRules, Segments, Why, join
from ffn.agglomeration.merge_model import MergeModel
from ffn.agglomeration.merges import MergeDecision
from ffn.inference.request_meaning import comparable
from ffn.volumes import provenance

# Why a pair could not be resegmented, in this run.
Notes = Mapping[Candidate, str]
# Why a pair that was resegmented has scores of one object alone, see `terminate_early`.
NOT_RECOVERED = 'the first object was not recovered, so the second was not grown'
# Pairs of which one object was grown at most have no other evidence than sizes and contact; however sure a fit is of these, they
# count as undecided at most.
ONE_SIDED, UNDECIDED = 'improbable: not both objects were grown', 0.5
_GROWN = FEATURES.index('grown')
# What fits have that do not say it.
_OF_EARLIER_FITS = {'features': 1}


def decide_by_thresholds(
    evidence: EvidenceTable, thresholds: Thresholds, notes: Notes
) -> Iterator[MergeDecision]:
    """Yields the decision about each candidate: each pair for itself.

    Args:
      evidence: complete.
      thresholds: when two segments are joined.
      notes: why pairs have no evidence.
    """
    for table in evidence.read():
        for row, accepted in zip(table, thresholds.accept_all(table['scores']), strict=True):
            candidate, scores = candidate_of(row), _known(row)
            if scores is None:
                note = notes.get(candidate, '')
            else:
                note = NOT_RECOVERED if math.isnan(scores[0]) else ''
            yield MergeDecision(candidate, scores, bool(accepted), note)


def decide_by_model(
    evidence: EvidenceTable,
    model: MergeModel,
    rules: JoinRules,
    segments: Segments | None,
    notes: Notes,
) -> Iterator[MergeDecision]:
    """Yields the decision about each candidate: the most probable are joined first, under constraints.

    Ids and probabilities of all pairs are held in memory, with what it takes to find groups 140 bytes a pair; and about 500
    bytes for each pair of the largest group of segments that probable pairs link, see `join`.

    Args:
      evidence: complete.
      model: gives probabilities.
      rules: what may be joined.
      segments: sizes and somata, where rules need them.
      notes: why pairs have no evidence.
    """
    ids, probabilities, one_sided = _judge_all(evidence, model)
    why, between = join(ids, probabilities, rules, segments)
    begin = 0
    for table in evidence.read():
        for number, row in enumerate(table, begin):
            candidate, reason = candidate_of(row), Why(why[number])
            note = NOTES[reason]
            if reason == Why.UNKNOWN:
                note = notes.get(candidate, note)
            elif reason == Why.IMPROBABLE and one_sided[number]:
                note = ONE_SIDED
            yield MergeDecision(
                candidate,
                _known(row),
                reason == Why.JOINED,
                note,
                _number(probabilities[number]),
                _number(between[number]),
            )
        begin += len(table)


def _judge_all(
    evidence: EvidenceTable, model: MergeModel
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Judges all pairs.

    Returns:
      Their ids, uint64 [n, 2]; probabilities, float64 [n]; whether one object was grown at most, bool [n].
    """
    ids, found, alone = [np.zeros((0, 2), np.uint64)], [np.zeros(0)], [np.zeros(0, bool)]
    for table in evidence.read():
        ids.append(np.stack([table['id_a'], table['id_b']], axis=1))
        probabilities = model.probabilities(table['features'])
        one_sided = table['features'][:, _GROWN] < 2
        found.append(np.where(one_sided, np.minimum(probabilities, UNDECIDED), probabilities))
        alone.append(one_sided)
    return np.concatenate(ids), np.concatenate(found), np.concatenate(alone)


@dataclass
class Summary:
    """Counts decisions.

    Attributes:
      pairs: all of them.
      impossible: without evidence.
      joined: ids of the accepted pairs.
    """

    pairs: int = 0
    impossible: int = 0
    joined: list[tuple[int, int]] = field(default_factory=list)

    def counted(self, decisions: Iterable[MergeDecision]) -> Iterator[MergeDecision]:
        """Yields decisions, and counts them."""
        for one in decisions:
            self.pairs += 1
            self.impossible += one.scores is None
            if one.accepted:
                self.joined.append((one.candidate.id_a, one.candidate.id_b))
            yield one


def warn_of_differences(model: MergeModel, evidence: Mapping[str, Any]) -> None:
    """Warns if evidence was gained in another way than that which a fit was made with.

    Args:
      model: the fit; what one of an earlier version does not say is not compared.
      evidence: how it was gained, plain JSON.
    """
    stored = {**_OF_EARLIER_FITS, **model.fitted_on}
    if len(set(evidence.get('voxel_size') or ())) < 2:
        stored['features'] = evidence.get('features')  # both versions are the same for cubes
    if 'resegmentation' in stored:
        how = stored['resegmentation']
        stored['resegmentation'] = {n: value for n, value in how.items() if n != 'subdir_digits'}
    known = {name: value for name, value in evidence.items() if name in stored}
    stored = {name: stored[name] for name in known}
    if shown := provenance.differences(comparable(stored), comparable(known)):
        logging.warning(
            'the fit was made with other settings, so its probabilities may not hold: %s', shown
        )


def _known(row: np.void) -> list[float] | None:
    scores = row['scores']
    return None if np.isnan(scores).all() else scores.tolist()


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
