"""Numbers of a report: how large and how long objects are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ffn.evaluation.run_report.census import Objects
from ffn.utils.checksums import CheckedTable
from ffn.utils.geometry import Box, Xyz

_PART = 1 << 20
LISTED = 10


@dataclass(frozen=True)
class LargeObject:
    """An object that is listed.

    Attributes:
      id: in the volume.
      voxels: its size.
      span: diagonal of the box around it, in the unit of the report; None: not known.
      at_xyz: a place in the middle of the box, or in the object nearest to it; None: not known.
    """

    id: int
    voxels: int
    span: float | None
    at_xyz: Xyz | None


@dataclass(frozen=True)
class Sizes:
    """How large the objects are.

    Attributes:
      objects: number of objects.
      voxels: in all of them.
      median: of their sizes.
      histogram: number of objects by size, in steps of a factor of 10^(1/4): from 1 voxel on.
    """

    objects: int
    voxels: int
    median: int
    histogram: list[int]


@dataclass(frozen=True)
class Spans:
    """How long the objects are; see `ffn.evaluation.run_report.census`.

    Attributes:
      unit: of lengths, 'nm' or 'voxels'.
      min_voxels: smaller objects are left out.
      objects: number of objects that count.
      median: of their spans.
      mean_by_voxel: span of the object that a voxel belongs to, on average.
      largest: of all.
      diagonal: of the volume.
      histogram: number of objects by span, in equal steps from 0 to the diagonal.
      crossing: number of objects that reach two opposite faces of the volume.
    """

    unit: str
    min_voxels: int
    objects: int
    median: float
    mean_by_voxel: float
    largest: float
    diagonal: float
    histogram: list[int]
    crossing: int


STEPS_PER_DECADE = 4


def summarize_sizes(parts: Iterable[np.ndarray]) -> Sizes:
    """Counts sizes.

    Args:
      parts: int64 [n], voxels of objects; those of 0 voxels do not count.
    """
    histogram = np.zeros(19 * STEPS_PER_DECADE, np.int64)
    edges = np.array([10 ** (i / STEPS_PER_DECADE) for i in range(len(histogram))]).round()
    count = total = 0
    for part in parts:
        sizes = part[part > 0]
        histogram += np.bincount(
            np.searchsorted(edges, sizes, 'right') - 1, minlength=len(histogram)
        )
        count, total = count + len(sizes), total + int(sizes.sum())
    used = int(np.flatnonzero(histogram)[-1]) + 1 if count else 0
    middle = int(np.searchsorted(np.cumsum(histogram), (count + 1) // 2)) if count else 0
    return Sizes(count, total, int(edges[middle]) if count else 0, histogram[:used].tolist())


def table_parts(table: CheckedTable) -> Iterable[np.ndarray]:
    """The sizes in sizes.bin, in parts; object 0 left out."""
    for begin in range(1, len(table), _PART):
        yield table[begin : begin + _PART]


def largest_of_table(table: CheckedTable, count: int = LISTED) -> list[LargeObject]:
    """The largest objects of sizes.bin."""
    ids, sizes = np.zeros(0, np.int64), np.zeros(0, np.int64)
    begin = 1
    for part in table_parts(table):
        ids = np.concatenate([ids, np.arange(begin, begin + len(part))])
        sizes = np.concatenate([sizes, part])
        order = np.argsort(-sizes, kind='stable')[:count]
        ids, sizes, begin = ids[order], sizes[order], begin + len(part)
    pairs = zip(ids.tolist(), sizes.tolist(), strict=True)
    return [LargeObject(i, n, None, None) for i, n in pairs if n]


def summarize_spans(
    objects: Objects, box: Box, voxel_size_xyz: Sequence[float], unit: str, min_voxels: int
) -> Spans:
    """Counts spans of objects with at least so many voxels."""
    chosen = objects.voxels >= min_voxels
    spans, voxels = objects.spans(voxel_size_xyz)[chosen], objects.voxels[chosen]
    low, high = objects.low[chosen], objects.high[chosen]
    diagonal = float(np.linalg.norm([n * s for n, s in zip(box.size, voxel_size_xyz, strict=True)]))
    through = (low == np.array(box.start)) & (high == np.array(box.end))
    histogram, _ = np.histogram(spans, bins=30, range=(0, diagonal))
    return Spans(
        unit,
        min_voxels,
        len(spans),
        float(np.median(spans)) if len(spans) else 0.0,
        float((spans * voxels).sum() / voxels.sum()) if len(spans) else 0.0,
        float(spans.max(initial=0)),
        diagonal,
        histogram.tolist(),
        int(through.any(axis=1).sum()),
    )
