"""The segmentation that is proofread: a label volume, and the table by which its segments are joined."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from ffn.proofreading.editing.journal import Base, Journal, read_journal
from ffn.proofreading.editing.merge_table import MergeTable, read_merge_table
from ffn.proofreading.editing.same_segmentation import check_merges
from ffn.utils.settings import setting
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import VolumeSource


@dataclass(frozen=True)
class ProofreadVolume:
    """What is proofread."""

    labels: str = setting('segmentation that is proofread', metavar='VOLUME')
    merges: str = setting(
        'merges.csv or equivalences.csv of ffn agglomerate: its joined segments are one object, which can be taken '
        'apart again',
        default='',
        metavar='FILE.csv',
    )

    @property
    def source(self) -> VolumeSource:
        """The volume."""
        return VolumeSource(absolute_spec(self.labels), field='--labels')

    @functools.cached_property
    def table(self) -> MergeTable:
        """What joins its segments.

        Raises:
          UserError: see `read_merge_table`.
        """
        return read_merge_table(self.merges or None)

    @functools.cached_property
    def base(self) -> Base:
        """What journals about it begin with.

        Raises:
          UserError: the volume is not complete, or the table is about another one.
        """
        spec = absolute_spec(self.labels)
        made_from = read_input_stamp(spec)
        if self.merges:
            check_merges(self.merges, self.table, self.source, made_from)
        return Base(spec, made_from, self.table.digest)

    def read_journal(self, path: str | Path) -> Journal:
        """Reads a journal that is about this segmentation.

        Raises:
          UserError: it is damaged, or about another one.
        """
        journal = read_journal(path)
        self.base.check_same(journal.base, Path(path))
        return journal
