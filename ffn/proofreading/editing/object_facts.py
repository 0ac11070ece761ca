"""What is known about every object, as a table: its size, and how sure it is that it is right."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ffn.proofreading.editing.merge_table import MergeTable
from ffn.proofreading.editing.objects import Objects
from ffn.proofreading.editing.survey import Segment, total
from ffn.utils.atomic import atomic_path
from ffn.utils.geometry import Xyz


class ObjectFacts(NamedTuple):
    """An object.

    Attributes:
      id: the least of its segments.
      segments: how many it has.
      voxels: its size.
      at_face: whether it reaches a face of the volume.
      point: a voxel in it.
      agreement: mean intersection over union with what other segmentations have there; None: none shows it.
      margin: |2p - 1| of the least certain pair of agglomeration that one of its segments is in; None: there is none.
    """

    id: int
    segments: int
    voxels: int
    at_face: bool
    point: Xyz
    agreement: float | None
    margin: float | None


def object_facts(
    objects: Objects,
    segments: Mapping[int, Segment],
    table: MergeTable,
    agreement: Mapping[int, float],
) -> list[ObjectFacts]:
    """Lists all objects, ascending by id.

    Args:
      objects: as they are now.
      segments: sizes, see `ffn.proofreading.editing.survey`.
      table: what agglomeration decided.
      agreement: see `ffn.proofreading.editing.disagreement.agreement`.
    """
    object_of = objects.equivalences()
    members: dict[int, list[int]] = {}
    for segment in segments:
        members.setdefault(object_of.get(segment, segment), []).append(segment)
    margins: dict[int, float] = {}
    for pair in table.pairs:
        if pair.probability is not None:
            for one in {object_of.get(pair.a, pair.a), object_of.get(pair.b, pair.b)}:
                margins[one] = min(margins.get(one, 1.0), abs(2 * pair.probability - 1))
    return [
        ObjectFacts(
            one,
            len(those),
            total(segments, those),
            any(segments[i].at_face for i in those),
            segments[those[0]].point,
            agreement.get(one),
            margins.get(one),
        )
        for one, those in sorted(members.items())
    ]


def write_objects(path: str | Path, facts: Sequence[ObjectFacts]) -> None:
    """Writes them as CSV, atomically; see doc/formats.md."""
    with atomic_path(path) as temporary, open(temporary, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(
            ['id', 'segments', 'voxels', 'at_face', 'x', 'y', 'z', 'agreement', 'margin']
        )
        for one in facts:
            sure = ['' if n is None else f'{n:.4f}' for n in (one.agreement, one.margin)]
            writer.writerow([one.id, one.segments, one.voxels, int(one.at_face), *one.point, *sure])
