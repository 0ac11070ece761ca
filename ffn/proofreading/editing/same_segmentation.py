"""Whether a table is about the segmentation that is proofread: ids are meaningless with another one, and do not look wrong.

The record beside a table of `ffn agglomerate` says what it was made from. Where that is not known, or is another volume,
which may have the same ids as `ffn fill` keeps them, it is looked whether both segments of a pair lie around its place.
What lies at the place itself says little: a place between two segments may have been given to a third when empty voxels
were filled, and in a joined volume, others have the ids of most.

Seen on synthetic volumes that had lost up to 40 % of their processes before they were filled: both segments are around
nearly all places, of which 9 to 33 % lie in a third; with the ids of another run, they are around 6 of 21 at most; with joined
ones, around 50 to 82 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from ffn.proofreading.editing.cut_masks import CutLabels
from ffn.proofreading.editing.merge_table import MergeTable, ScoredPair
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.provenance import MANIFEST, check_made_from, read_claim
from ffn.volumes.volume import Volume, VolumeSource

# Places of a table that are looked at, and the part of them that may not fit; one may, of so many.
_SAMPLE, _DOUBTFUL, _FEW = 20, 0.1, 3
# The part of as many places or more that has to fit where nothing else says what a table is about.
_BY_CHANCE = 0.1
# Voxels around a place that are read at most.
_FARTHEST = 64


def check_merges(path: str, table: MergeTable, source: VolumeSource, made_from: str) -> None:
    """Refuses a table of pairs that was made from another segmentation and does not fit; tells where that is in doubt.

    Only places within the volume are looked at, which may be a part of what the table is about.

    Args:
      path: of the table.
      table: what it says.
      source: the segmentation that is proofread.
      made_from: its stamp, '' if it has none.

    Raises:
      UserError: see `ffn.volumes.provenance.check_made_from`; of `_SAMPLE` places or more, none lies in the volume; of
        as many within, fewer than `_BY_CHANCE` fit; or the volume cannot be read.
    """
    theirs = _made_from(Path(path).parent / MANIFEST)
    if theirs and theirs == made_from:
        return
    with source.open() as volume:
        labels = volume.require_labels()
        box, inside = labels.box, _within(table.pairs, labels.box)
        sample = inside[:: max(len(inside) // _SAMPLE, 1)]
        lacking = [one for one in sample if not are_around(labels, one.point, one, may_be_far=True)]
    fits = len(lacking) <= max(_DOUBTFUL * len(sample), len(sample) >= _FEW)
    if theirs and made_from:
        if not sample or not fits:
            check_made_from(path, theirs, made_from, 'run ffn agglomerate again')
        logging.warning(
            '%s was made from another volume than %s; around %d of the %d places that were '
            'looked at, are the segments that it names, so it is taken to have the same ids',
            *(path, source.name, len(sample) - len(lacking), len(sample)),
        )
    elif table.pairs and not sample:
        outside = f'none of the {len(table.pairs)} places of {path} lies in {source.name}, which covers {box}'
        if len(table.pairs) >= _SAMPLE:
            raise UserError(f'{outside}: the table is about another volume, or another part of it')
        logging.warning('%s: whether the table is about it was not checked', outside)
    elif len(sample) >= _SAMPLE and len(sample) - len(lacking) < _BY_CHANCE * len(sample):
        raise UserError(
            f'{path} is about another segmentation than {source.name}: around {len(lacking)} of {len(sample)} places '
            f'that were looked at, such as {lacking[0].point}, segments are missing that it names; run ffn '
            'agglomerate again'
        )
    elif not fits:
        logging.warning(
            '%s does not fit %s: around %d of %d places that were looked at, segments are missing that it names, such '
            'as around %s. Was the segmentation made again since?',
            *(path, source.name, len(lacking), len(sample), lacking[0].point),
        )


def _within(pairs: Sequence[ScoredPair], box: Box) -> list[ScoredPair]:
    """Those whose places lie in a box; a table may be that of a whole of which the volume is a part."""
    (x0, y0, z0), (x1, y1, z1) = box.start, box.end
    points = ((one, *one.point) for one in pairs)
    return [one for one, x, y, z in points if x0 <= x < x1 and y0 <= y < y1 and z0 <= z < z1]


def are_around(labels: Volume, point: Xyz, pair: ScoredPair, may_be_far: bool = False) -> bool:
    """Whether both segments of a pair lie as near to a place as its distance lets expect.

    Args:
      labels: the base volume; without a voxel size, distances count voxels.
      point: where they are closest.
      pair: the segments.
      may_be_far: they may be as far away as `_FARTHEST` voxels: the distance may be in another unit than the voxel size of the
        volume, and is short where voxels are long.
    """
    edges = (1.0, 1.0, 1.0) if labels.voxel_size is None else labels.voxel_size.xyz
    # The distance is that of the nearest segments, which may be others.
    near = Xyz(*(1 + math.ceil(min(2 * pair.distance / edge, _FARTHEST)) for edge in edges))
    far = Xyz(_FARTHEST, _FARTHEST, _FARTHEST)
    for reach in (near, far) if may_be_far else (near,):
        around = Box(point, Xyz(1, 1, 1)).grow(reach).intersection(labels.box)
        if around is None:
            return False
        there = labels.read(around)
        if all((there == segment).any() for segment in (pair.a, pair.b)):
            return True
    return False


def segment_at(labels: Volume, point: Xyz) -> int | None:
    """The segment of the base volume at a voxel, 0 for none; None outside of the volume."""
    return (
        CutLabels(Path()).at(labels, point)
        if labels.box.contains(Box(point, Xyz(1, 1, 1)))
        else None
    )


def _made_from(record: Path) -> str:
    """What a table was made from, by the record of `ffn agglomerate` beside it; '' where there is none."""
    try:
        return str(read_claim(record).get('init_segmentation_made_from', ''))
    except UserError:
        return ''
