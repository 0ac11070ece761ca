"""The report of a whole-volume run: what its tables, its counters and one pass over its volume say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffn.assembly.reconcile import Tables
from ffn.assembly.tiling import Tiling
from ffn.distributed.pool import Pool
from ffn.evaluation.plain import to_plain
from ffn.evaluation.run_report.census import Census, take_census
from ffn.evaluation.run_report.concerns import Concern, find_concerns
from ffn.evaluation.run_report.joins import Joins, read_joins
from ffn.evaluation.run_report.object_summaries import (
    LISTED,
    LargeObject,
    Sizes,
    Spans,
    largest_of_table,
    summarize_sizes,
    summarize_spans,
    table_parts,
)
from ffn.evaluation.run_report.run_files import RunFiles
from ffn.evaluation.run_report.subvolume_facts import read_facts
from ffn.evaluation.run_report.subvolume_summaries import (
    Borders,
    Times,
    summarize_borders,
    summarize_times,
)
from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import VolumeSource


@dataclass(frozen=True)
class RunReport:
    """What is known of a run; None where its files do not say.

    Attributes:
      box: what was segmented.
      voxel_size_xyz: nanometres, or 1,1,1 if unknown.
      unit: of lengths, 'nm' or 'voxels'.
      subvolumes: number of subvolumes in the grid, and with a result.
      filled_fraction: share of the box with a label.
      sizes: of objects.
      largest: the largest objects, largest first.
      spans: of objects.
      borders: between subvolumes.
      matching: counts of the assembly's statistics.
      times: of the subvolumes.
      joins: of an agglomeration.
      concerns: what deserves a look.
      tiling: where subvolumes are; not in the JSON.
      facts: FACTS [subvolumes], see `subvolume_facts`; not in the JSON.
      census: of the volume; not in the JSON.
    """

    box: Box | None
    voxel_size_xyz: tuple[float, float, float]
    unit: str
    subvolumes: tuple[int, int] | None
    filled_fraction: float | None
    sizes: Sizes | None
    largest: tuple[LargeObject, ...]
    spans: Spans | None
    borders: Borders | None
    matching: dict[str, int] | None
    times: Times | None
    joins: Joins | None
    concerns: tuple[Concern, ...]
    tiling: Tiling | None = None
    facts: np.ndarray | None = None
    census: Census | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns plain numbers, lists and dicts, as doc/formats.md describes them."""
        hidden = ('tiling', 'facts', 'census', 'box')
        fields = (f.name for f in dataclasses.fields(self) if f.name not in hidden)
        box = self.box and {'start_xyz': list(self.box.start), 'size_xyz': list(self.box.size)}
        return to_plain({'box': box, **{name: getattr(self, name) for name in fields}})


_MATCHING = (
    *('pairs_of_subvolumes', 'candidates', 'edges', 'conflicts', 'joined_within_subvolumes'),
    *('ids', 'objects', 'objects_in_cores'),
)


def make_report(
    files: RunFiles,
    voxel_size: tuple[float, float, float] | None,
    min_voxels: int,
    read_volume: bool,
    pool: Pool,
    quiet: bool = False,
) -> RunReport:
    """Makes a report.

    Args:
      files: of the run.
      voxel_size: x, y, z nanometres; None: unknown.
      min_voxels: smaller objects are left out of spans.
      read_volume: whether the volume is read, which spans and pictures need.
      pool: runs the tasks.
      quiet: no progress bars.

    Raises:
      UserError: a file is damaged, or a volume cannot be read.
    """
    size = voxel_size or (1.0, 1.0, 1.0)
    unit = 'nm' if voxel_size else 'voxels'
    tiling, facts, tables = files.tiling, None, None
    if files.assembly is not None:
        tables = Tables(files.assembly)
    if files.subvolumes is not None and tiling is not None:
        facts = read_facts(files.subvolumes, tiling, files.assembly, files.min_shared, pool, quiet)
    census, box = None, tiling.box if tiling is not None else None
    if files.volume is not None and read_volume and not files.unread:
        source = VolumeSource(spec=files.volume, field='volume')
        with source.open() as volume:
            box = box or volume.require_labels().box
        census = take_census(source, box, size, pool, quiet)
    sizes, largest = _find_sizes(tables, census, size)
    voxels = sizes.voxels if sizes else None
    named = {one.id: one.at_xyz for one in largest if one.at_xyz is not None}
    statistics = files.statistics
    return RunReport(
        box,
        size,
        unit,
        None if facts is None else (len(facts), int(facts['present'].sum())),
        None if box is None or voxels is None else voxels / np.prod(box.size, dtype=float),
        sizes,
        largest,
        summarize_spans(census.objects, census.box, size, unit, min_voxels) if census else None,
        summarize_borders(facts, tiling) if facts is not None and tiling is not None else None,
        _counts(statistics) if statistics else None,
        summarize_times(facts, tiling) if facts is not None and tiling is not None else None,
        read_joins(files.merges) if files.merges is not None else None,
        tuple(find_concerns(facts, tiling, largest, voxels, named, files.unread)),
        tiling,
        facts,
        census,
    )


def _counts(statistics: dict[str, Any]) -> dict[str, int]:
    return {k: statistics[k] for k in _MATCHING if isinstance(statistics.get(k), int)}


def _find_sizes(
    tables: Tables | None, census: Census | None, voxel_size: tuple[float, float, float]
) -> tuple[Sizes | None, tuple[LargeObject, ...]]:
    """Sizes and the largest objects: of the volume if it was read, else of the assembly's tables."""
    if census is not None:
        objects = census.objects
        order = np.argsort(-objects.voxels, kind='stable')[:LISTED]
        spans = objects.spans(voxel_size)
        largest = tuple(
            LargeObject(
                int(objects.ids[i]),
                int(objects.voxels[i]),
                float(spans[i]),
                _place_in(census, int(objects.ids[i]), objects.low[i], objects.high[i]),
            )
            for i in order
        )
        return summarize_sizes([objects.voxels]), largest
    if tables is not None:
        return summarize_sizes(table_parts(tables.sizes)), tuple(largest_of_table(tables.sizes))
    return None, ()


def _place_in(census: Census, label: int, low: np.ndarray, high: np.ndarray) -> Xyz:
    """A voxel in or beside an object: in the cell that is nearest to the middle of the box around it."""
    start, factors = np.array(census.box.start), np.array(census.factors)
    first, last = (low - start) // factors, (high - 1 - start) // factors
    index = tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1], strict=True))
    cells = np.argwhere(census.coarse[index] == label)[:, ::-1]
    if not len(cells):  # outnumbered in all cells
        return Xyz(*((low + high) // 2).tolist())
    middle = (last - first) / 2
    nearest = cells[np.linalg.norm((cells - middle) * factors, axis=1).argmin()]
    voxel = start + (first + nearest) * factors + factors // 2
    return Xyz(*np.clip(voxel, low, high - 1).tolist())
