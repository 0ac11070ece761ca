"""Whether a table is about the segmentation that is proofread: ids are meaningless with another one, and do not look wrong.

The record beside a table of `ffn agglomerate` says what it was made from. Where that is not known, or is another volume,
which may have the same ids as `ffn fill` keeps them, the places that a table names are compared with the segments that
lie there.
"""

from __future__ import annotations

from pathlib import Path

from absl import logging

from ffn.proofreading.editing.cut_masks import CutLabels
from ffn.proofreading.editing.merge_table import MergeTable
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.provenance import MANIFEST, check_made_from, read_claim
from ffn.volumes.volume import Volume, VolumeSource

# Places of a table that are looked at.
_SAMPLE = 20


def check_merges(path: str, table: MergeTable, source: VolumeSource, made_from: str) -> None:
    """Refuses a table of pairs that was made from another segmentation and does not fit; tells where that is in doubt.

    Args:
      path: of the table.
      table: what it says.
      source: the segmentation that is proofread.
      made_from: its stamp, '' if it has none.

    Raises:
      UserError: see `ffn.volumes.provenance.check_made_from`; or the volume cannot be read.
    """
    theirs = _made_from(Path(path).parent / MANIFEST)
    if theirs and theirs == made_from:
        return
    sample = table.pairs[:: max(len(table.pairs) // _SAMPLE, 1)]
    with source.open() as volume:
        labels = volume.require_labels()
        found = [(one, segment_at(labels, one.point)) for one in sample]
    elsewhere = [one for one, segment in found if segment not in (0, one.a, one.b)]
    if theirs and made_from:
        if elsewhere or not any(segment for _, segment in found):
            check_made_from(path, theirs, made_from, 'run ffn agglomerate again')
        logging.warning(
            '%s was made from another volume than %s; of the %d places that were '
            'looked at, none has other segments than it names, so it is taken to have the same ids',
            *(path, source.name, len(sample)),
        )
    elif elsewhere:
        logging.warning(
            '%s does not fit %s: of %d places that were looked at, %d have other segments than it names, such as %s. '
            'Was the segmentation made again since?',
            *(path, source.name, len(sample), len(elsewhere), elsewhere[0].point),
        )


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
