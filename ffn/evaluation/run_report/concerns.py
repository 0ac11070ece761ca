"""What in a run deserves a look: subvolumes unlike the others, and objects that look like mergers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffn.assembly.tiling import Tiling
from ffn.evaluation.run_report.object_summaries import LargeObject
from ffn.evaluation.run_report.subvolume_summaries import middle_of, place_of
from ffn.utils.geometry import Xyz

# An object is suspicious that holds this share of all labelled voxels, and this many times those of the
# object of median size among the ten largest.
_HUGE_SHARE, _HUGE_TIMES = 0.05, 5
# So is one that this many ids of one subvolume belong to: it must have been joined in a detour.
_MANY_IDS = 4
# Subvolumes are unlike the others that are this many times the usual deviation from the median, and this far.
_DEVIATIONS, _LEAST = 6.0, 0.1
_LISTED = 8


@dataclass(frozen=True)
class Concern:
    """Something to look at.

    Attributes:
      text: what it is.
      at_xyz: where; None: nowhere in particular.
      object: id of the object that it is about, if it is about one.
    """

    text: str
    at_xyz: Xyz | None = None
    object: int | None = None


def find_concerns(
    facts: np.ndarray | None,
    tiling: Tiling | None,
    largest: Sequence[LargeObject],
    voxels: int | None,
    places: dict[int, Xyz],
    unread: str = '',
) -> list[Concern]:
    """Applies the rules.

    Args:
      facts: FACTS [subvolumes], if the run is known.
      tiling: where these are.
      largest: the largest objects, largest first.
      voxels: all labelled voxels, if they are known.
      places: id → a voxel of the object, as far as known.
      unread: that the volume was left out, and why; '' if it was not.
    """
    found = [Concern(unread)] if unread else []
    found += _find_huge(largest, voxels) if voxels else []
    if voxels == 0:
        found.append(Concern('no voxel has a label: there is no object'))
    if facts is not None and tiling is not None:
        found += _find_joined(facts, tiling, places)
        found += _find_unlike(facts, tiling)
        if missing := int((~facts['present']).sum()):
            found.append(
                Concern(f'{missing} subvolumes have no result: masked, or not segmented yet')
            )
    return found


def _find_huge(largest: Sequence[LargeObject], voxels: int) -> list[Concern]:
    if len(largest) < 3:
        return []
    usual = float(np.median([one.voxels for one in largest]))
    return [
        Concern(
            f'object {one.id} holds {one.voxels / voxels:.1%} of all labelled voxels, {one.voxels / usual:.1f} '
            'times as many as is usual among the largest: a merger?',
            one.at_xyz,
            one.id,
        )
        for one in largest
        if one.voxels >= _HUGE_SHARE * voxels and one.voxels >= _HUGE_TIMES * usual
    ]


def _find_joined(facts: np.ndarray, tiling: Tiling, places: dict[int, Xyz]) -> list[Concern]:
    """Objects that several ids of one subvolume belong to, the object of the worst subvolume first."""
    found: dict[int, Concern] = {}
    for index in np.argsort(-facts['most_joined'], kind='stable').tolist():
        count, number = int(facts[index]['most_joined']), int(facts[index]['most_joined_object'])
        if count < _MANY_IDS or len(found) == _LISTED:
            break
        box = tiling.core(place_of(tiling, index))
        found.setdefault(
            number,
            Concern(
                f'{count} ids of the subvolume at {tiling.subvolume(place_of(tiling, index)).start} are one '
                f'object, {number}, joined through others: a merger?',
                places.get(number, middle_of(box)),
                number,
            ),
        )
    return list(found.values())


def _find_unlike(facts: np.ndarray, tiling: Tiling) -> list[Concern]:
    """Subvolumes that are filled, or agree with their neighbours, much less or more than the others."""
    labelled = facts['agree'] + facts['differ'] + facts['one_sided']
    known = facts['present'] & (facts['core'] > 0)
    shares = {
        'is filled to': (np.where(known, facts['filled'], 0), np.where(known, facts['core'], 0)),
        'agrees with the next ones on': (facts['agree'].sum(axis=1), labelled.sum(axis=1)),
    }
    found = []
    if not facts['filled'].any():
        return []
    for what, (part, whole) in shares.items():
        counted = np.flatnonzero(whole > 0)
        if len(counted) < 4:
            continue
        values = part[counted] / whole[counted]
        median = float(np.median(values))
        away = np.abs(values - median)
        limit = max(_DEVIATIONS * float(np.median(away)), _LEAST)
        order = np.argsort(-away, kind='stable')[:_LISTED]
        for index in counted[order[away[order] > limit]].tolist():
            place, value = place_of(tiling, index), part[index] / whole[index]
            found.append(
                Concern(
                    f'the subvolume at {tiling.subvolume(place).start} {what} {value:.1%}; the median is '
                    f'{median:.1%}',
                    middle_of(tiling.core(place)),
                )
            )
    return found
