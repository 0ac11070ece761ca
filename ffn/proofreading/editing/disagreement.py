"""Where other segmentations of the same volume differ from the one that is proofread.

Others come from the same network in another order of seeds or with other thresholds, or from another network. Each is
compared as if it were the ground truth: where it holds two objects together, they may be split, and where it has an
object in pieces, that may be a merger. How much it says so, its vote, is how completely the two parts lie in the one
object. Objects of which it shows less than a tenth, or nothing, do not count: where it has them is hardly known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ffn.evaluation.blocks import compare_volumes
from ffn.evaluation.contingency import Contingency, add_up
from ffn.evaluation.sources import open_segmentation, shared_box
from ffn.proofreading.editing.cut_masks import NO_CUTS, CutLabels
from ffn.proofreading.editing.objects import Objects
from ffn.utils.geometry import Xyz
from ffn.utils.labels import remap
from ffn.volumes.volume import VolumeSource

# Votes below this are not looked at: they would be of every two objects that touch.
_LEAST_VOTE = 0.05
# Objects of which less than this fraction of the voxels is labelled are not shown. A network often leaves half of one empty:
# with 0.5, benchmarks.where_to_look finds more than a third fewer errors.
_LEAST_SHOWN = 0.1


class Doubt(NamedTuple):
    """Two parts that other segmentations hold together, or apart, unlike the one that is proofread.

    Attributes:
      ids: the two objects; or the one object, whose parts they are.
      point: where the smaller part touches the other, or else in it.
      sizes: voxels of the smaller part and of the larger one.
      probability: mean vote of the others that show the objects.
      votes: how many of them say so at all.
      others: how many show the objects.
    """

    ids: tuple[int, ...]
    point: Xyz
    sizes: tuple[int, int]
    probability: float
    votes: int
    others: int


def compare_with_others(
    segmentation: VolumeSource,
    others: Sequence[str],
    objects: Objects,
    quiet: bool = False,
    cuts: CutLabels = NO_CUTS,
) -> list[Contingency]:
    """Counts the voxels that objects share with those of other segmentations.

    Args:
      segmentation: what is proofread.
      others: volumes, or results of inference; each may cover a part.
      objects: as they are now.
      quiet: no progress bar.
      cuts: parts that were cut off segments.

    Returns:
      For each of the others, a table whose `truth` are its objects, and whose `segmentation` are objects, with what
      only one of the two has.

    Raises:
      UserError: one cannot be read, or lies elsewhere.
    """
    ids = object_table(objects)
    tables = []
    with segmentation.open() as volume:
        labels = cuts.applied_to(volume.require_labels())
        for spec in others:
            with open_segmentation(spec) as other:
                moved, box = shared_box(labels, other, names=('--labels', spec))
                table = compare_volumes(moved, labels, box, quiet=quiet)
            joined = remap(table.segmentation, ids[:, 0], ids[:, 1], others='keep')
            table = add_up([dataclasses.replace(table, segmentation=joined)])
            tables.append(table.rows(table.where('either')))
    return tables


def object_table(objects: Objects) -> np.ndarray:
    """Segment and its object, uint64 [n, 2], ascending, where they differ."""
    return np.array(sorted(objects.equivalences().items()), np.uint64).reshape(-1, 2)


def find_splits(tables: Sequence[Contingency], voxels: Mapping[int, int]) -> list[Doubt]:
    """Finds pairs of objects that others hold together.

    Args:
      tables: see `compare_with_others`.
      voxels: size of each object.
    """

    def sizes(table: Contingency, row: int, main: int) -> tuple[int, int]:
        a, b = (int(table.segmentation[n]) for n in (row, main))
        small, large = sorted((voxels.get(a, 0), voxels.get(b, 0)))
        return small, large

    def ids(table: Contingency, row: int, main: int) -> tuple[int, ...]:
        return tuple(sorted(int(table.segmentation[n]) for n in (row, main)))

    return list(_doubts([_Shown.of(table, _as_is) for table in tables], ids, sizes))


def find_mergers(tables: Sequence[Contingency]) -> list[Doubt]:
    """Finds objects that others have in pieces; of each, the piece that is largest after the first."""

    def sizes(table: Contingency, row: int, main: int) -> tuple[int, int]:
        return int(table.voxels[row]), int(table.voxels[main])

    def ids(table: Contingency, row: int, main: int) -> tuple[int, ...]:
        return (int(table.truth[row]),)

    return list(_doubts([_Shown.of(table, Contingency.swapped) for table in tables], ids, sizes))


def _as_is(table: Contingency) -> Contingency:
    return table


class _Shown(NamedTuple):
    """What one of the others shows of objects.

    Attributes:
      table: the voxels that both label, of the objects that it shows; possibly swapped.
      share: float64 [rows], of the labelled voxels of `table.segmentation`, how many are in the row.
      objects: ids of those that it shows.
    """

    table: Contingency
    share: np.ndarray
    objects: set[int]

    @classmethod
    def of(cls, table: Contingency, turned: Callable[[Contingency], Contingency]) -> _Shown:
        objects = _objects_shown(table)
        table = table.rows(table.where('both'))
        known = np.isin(table.segmentation, objects)
        table = turned(table)
        _, part = np.unique(table.segmentation, return_inverse=True)
        share = table.voxels / np.bincount(part, table.voxels)[part]
        return cls(table.rows(known), share[known], set(objects.tolist()))


def _objects_shown(table: Contingency) -> np.ndarray:
    """Ids of the objects of which enough is labelled in the other segmentation, uint64 [n]."""
    ids, part = np.unique(table.segmentation, return_inverse=True)
    labelled = np.bincount(part, table.voxels * (table.truth > 0), len(ids))
    shown = labelled >= _LEAST_SHOWN * np.bincount(part, table.voxels, len(ids))
    return ids[shown & (ids > 0)]


class _Vote(NamedTuple):
    strength: float
    sizes: tuple[int, int]
    point: Xyz


def _doubts(
    others: Sequence[_Shown],
    ids_of: Callable[[Contingency, int, int], tuple[int, ...]],
    sizes_of: Callable[[Contingency, int, int], tuple[int, int]],
) -> Iterator[Doubt]:
    """Adds up the votes; of one table about the same ids, that with the most voxels at stake counts."""
    found: dict[tuple[int, ...], list[_Vote]] = {}
    for table, share, _ in others:
        votes: dict[tuple[int, ...], _Vote] = {}
        for row, main, strength in _pieces(table, share):
            place = table.split_site[row] or table.place[row]
            vote = _Vote(strength, sizes_of(table, row, main), table.at(int(place)))
            ids = ids_of(table, row, main)
            before = votes.get(ids)
            if before is None or vote.strength * vote.sizes[0] > before.strength * before.sizes[0]:
                votes[ids] = vote
        for ids, vote in votes.items():
            found.setdefault(ids, []).append(vote)
    for ids, said in found.items():
        most = max(said, key=lambda one: one.strength * one.sizes[0])
        shown = sum(one.objects.issuperset(ids) for one in others)
        mean = sum(one.strength for one in said) / shown
        yield Doubt(ids, most.point, most.sizes, mean, len(said), shown)


def _pieces(table: Contingency, share: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yields row of each piece of an object of the truth but the largest, row of that one, and the vote that they are one."""
    if not len(table.voxels):
        return
    order = np.lexsort((-table.voxels, table.truth))
    whole = table.truth[order]
    begins = np.flatnonzero(np.append(True, whole[1:] != whole[:-1]))
    main = np.repeat(order[begins], np.diff(begins, append=len(order)))
    votes = np.minimum(share[order], share[main])
    for n in np.flatnonzero((order != main) & (votes >= _LEAST_VOTE)).tolist():
        yield int(order[n]), int(main[n]), float(votes[n])


def agreement(tables: Sequence[Contingency]) -> dict[int, float]:
    """Object → mean intersection over union with the object of each other segmentation that is most like it.

    Args:
      tables: see `compare_with_others`; those that do not show an object do not count for it.
    """
    sums: dict[int, list[float]] = {}
    for table in tables:
        ids, part = np.unique(table.segmentation, return_inverse=True)
        _, whole = np.unique(table.truth, return_inverse=True)
        size = np.bincount(part, table.voxels)[part] + np.bincount(whole, table.voxels)[whole]
        iou = table.voxels / (size - table.voxels)
        best = np.zeros(len(ids))
        both = table.where('both')
        np.maximum.at(best, part[both], iou[both])
        shown = np.isin(ids, _objects_shown(table))
        for one, most in zip(ids[shown].tolist(), best[shown].tolist(), strict=True):
            sums.setdefault(one, []).append(most)
    return {one: sum(ious) / len(ious) for one, ious in sums.items()}
