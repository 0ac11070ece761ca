"""Places to look at, the most worthwhile first: how much is expected to change there if it is put right.

That is the probability that what the segmentation says is wrong, times what would change then, by the sizes of the two
sides that are joined, or of the two objects that are apart; see `Change`. Kinds of places:

- `pair`: two segments that agglomeration was not sure about, joined or apart.
- `jump`: it was sure to join them, but both sides were large already; a mistake there is costly.
- `loop`: an object touches itself: agglomeration did not join these two, and yet they are one object through others.
- `orphan`: a small object that does not reach a face of the volume, although neurites come from somewhere.
- `split`, `merger`, `missing`: errors in the report of `ffn evaluate`; also objects that other segmentations hold together,
  or have in pieces, see `ffn.proofreading.editing.disagreement`.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from ffn.evaluation.contingency import Contingency
from ffn.proofreading.editing.disagreement import find_mergers, find_splits
from ffn.proofreading.editing.edits import Item
from ffn.proofreading.editing.merge_table import UNKNOWN, MergeTable, ScoredPair
from ffn.proofreading.editing.objects import Objects
from ffn.proofreading.editing.survey import Segment, total
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.settings import setting

RankBy = Literal['voxels', 'voi', 'run_length']
# How the reason of a pair begins, and how that of a place ends that was skipped; read again by `was_joined` and `times_skipped`.
_JOINED, _SKIPPED = 'joined', re.compile(r', skipped (\d+) times?$')


@dataclass(frozen=True)
class QueueConfig:
    """Which places are worth a look."""

    rank_by: RankBy = setting(
        'what counts in the order of places: voxels of the smaller side, variation of information (voi), or expected '
        'run length, for which voxels stand',
        default='voxels',
        choices=get_args(RankBy),
    )
    min_doubt: float = setting(
        'places are shown if what was decided about them is wrong with at least this probability',
        default=0.1,
        metavar='F',
    )
    jump_voxels: int = setting(
        'joins that were sure are shown if both sides had this many voxels', default=100_000
    )
    orphan_voxels: int = setting(
        'objects that do not reach a face of the volume are shown if they have fewer voxels',
        default=100_000,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.min_doubt <= 1:
            raise UserError(f'--min_doubt is {self.min_doubt:g}; expected 0 to 1')


class Change(NamedTuple):
    """How much changes if two sides are joined that were apart, or are taken apart.

    Where both sides are of one object, and are all there is of it, joining them lowers the variation of information by their
    entropy, and raises the expected run length, the mean over all points of the length of the object that they are in.

    Attributes:
      rank_by: how that is measured: in voxels of the smaller side, in bits, or in mean voxels.
      total: voxels of all objects.
    """

    rank_by: RankBy
    total: int

    def __call__(self, a: float, b: float) -> float:
        """What sides with so many voxels change."""
        if self.rank_by == 'voxels' or min(a, b) <= 0:
            return float(min(a, b))
        if self.rank_by == 'voi':
            whole = a + b
            return (a * math.log2(whole / a) + b * math.log2(whole / b)) / self.total
        return 2 * a * b / self.total


class Queued(NamedTuple):
    """A place in the queue.

    Attributes:
      item: the place.
      priority: what is expected to change there, see `Change`.
      reason: why it is there, a line.
    """

    item: Item
    priority: float
    reason: str


def was_joined(one: Queued) -> bool:
    """Whether the two segments of a place were one object when it was queued."""
    return one.item.kind in ('jump', 'loop') or one.reason.startswith(_JOINED)


def times_skipped(one: Queued) -> int:
    """How many times a place had been skipped when it was queued."""
    found = _SKIPPED.search(one.reason)
    return int(found[1]) if found else 0


def make_queue(
    config: QueueConfig,
    table: MergeTable,
    objects: Objects,
    segments: Mapping[int, Segment],
    report: Mapping[str, Any] | None = None,
    others: Sequence[Contingency] = (),
) -> list[Queued]:
    """Finds the places that are worth a look and have not been judged yet.

    Args:
      config: which ones.
      table: what agglomeration decided.
      objects: as they are now.
      segments: sizes, see `ffn.proofreading.editing.survey`.
      report: of `ffn evaluate --json`, of the same segmentation, if any.
      others: other segmentations, see `ffn.proofreading.editing.disagreement.compare_with_others`.

    Returns:
      The places by falling priority; each is there once.

    Raises:
      UserError: a report that is none.
    """
    change = Change(config.rank_by, max(total(segments, segments), 1))
    found = [
        *_pairs(config, table, objects, segments, change),
        *_orphans(config, objects, segments, change),
        *_disagreements(config, objects, segments, others, change),
        *(() if report is None else _errors(report, objects, change)),
    ]
    judged = {key for key, one in objects.decisions.items() if one.answer != 'skip'}
    best: dict[str, Queued] = {}
    for one in found:
        key = one.item.key
        if key not in judged and (key not in best or one.priority > best[key].priority):
            if skips := objects.skips[key]:
                told = f'{one.reason}, skipped {skips} time{"s" * (skips > 1)}'
                one = one._replace(reason=told)
            best[key] = one
    return sorted(best.values(), key=lambda one: (-one.priority, one.item.key))


def _pairs(
    config: QueueConfig,
    table: MergeTable,
    objects: Objects,
    segments: Mapping[int, Segment],
    change: Change,
) -> Iterator[Queued]:
    sides = _sizes_when_joined(table, segments)
    object_of = _Numbered(objects)
    voxels = _voxels_of(object_of, segments)
    for pair in table.pairs:
        joined = object_of[pair.a] == object_of[pair.b]
        at_first = objects.origin_of(pair.a) == objects.origin_of(pair.b)
        if joined != at_first or (pair.a, pair.b) in objects.by_hand:
            continue
        probability = UNKNOWN if pair.probability is None else pair.probability
        doubt = 1 - probability if joined else probability
        own = (total(segments, [pair.a]), total(segments, [pair.b]))
        small, large = sorted(sides.get((pair.a, pair.b), own))
        if not joined:
            kind = 'pair' if doubt >= config.min_doubt else ''
            small, large = sorted(voxels.get(object_of[i], 0) for i in (pair.a, pair.b))
        elif not pair.accepted:
            kind, (small, large) = 'loop', sorted(own)
        elif doubt >= config.min_doubt:
            kind = 'pair'
        else:
            kind = 'jump' if small >= config.jump_voxels else ''
        if kind:
            priority = doubt * change(small, large)
            yield Queued(_item(kind, pair), priority, _reason(pair, joined, small, large))


def _item(kind: str, pair: ScoredPair) -> Item:
    return Item(kind, (pair.a, pair.b), pair.point)


def _reason(pair: ScoredPair, joined: bool, small: int, large: int) -> str:
    sure = 'unknown' if pair.probability is None else f'{pair.probability:.2f}'
    return f'{_JOINED if joined else "apart"}, probability {sure}, {small:,} and {large:,} voxels'


class _Numbered(dict[int, int]):
    """Segment → id of its object, found once for each object."""

    def __init__(self, objects: Objects):
        super().__init__(objects.equivalences())

    def __missing__(self, segment: int) -> int:
        return segment


def _voxels_of(object_of: _Numbered, segments: Mapping[int, Segment]) -> dict[int, int]:
    """Object → its size."""
    voxels: dict[int, int] = {}
    for number, segment in segments.items():
        voxels[object_of[number]] = voxels.get(object_of[number], 0) + segment.voxels
    return voxels


def _sizes_when_joined(
    table: MergeTable, segments: Mapping[int, Segment]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Voxels on either side of each join, if the strongest are made first; not of those that join nothing any more."""
    root: dict[int, int] = {}
    size: dict[int, int] = {}

    def find(segment: int) -> int:
        way = []
        while segment in root:
            way.append(segment)
            segment = root[segment]
        root.update(dict.fromkeys(way, segment))
        return segment

    found = {}
    for pair in sorted(table.pairs, key=lambda one: -one.strength):
        if pair.accepted:
            a, b = find(pair.a), find(pair.b)
            if a == b:  # without this join, they would be one nevertheless
                continue
            sizes = [size.get(i) or total(segments, [i]) for i in (a, b)]
            found[pair.a, pair.b] = (sizes[0], sizes[1])
            root[b] = a
            size[a] = sum(sizes)
    return found


def _orphans(
    config: QueueConfig, objects: Objects, segments: Mapping[int, Segment], change: Change
) -> Iterator[Queued]:
    """Small objects that end inside; what they belong to is taken to be as large as the object of a random voxel."""
    object_of = _Numbered(objects)
    members: dict[int, list[int]] = {}
    for segment in segments:
        members.setdefault(object_of[segment], []).append(segment)
    done = objects.done_objects()
    sizes = {one: total(segments, those) for one, those in members.items()}
    typical = sum(n * n for n in sizes.values()) / max(sum(sizes.values()), 1)
    for one, those in members.items():
        voxels = sizes[one]
        if voxels >= config.orphan_voxels or one in done:
            continue
        if not any(segments[i].at_face for i in those):
            item = Item('orphan', (one,), segments[those[0]].point)
            reason = f'{voxels:,} voxels, reaches no face of the volume'
            yield Queued(item, change(voxels, max(voxels, typical)), reason)


def _disagreements(
    config: QueueConfig,
    objects: Objects,
    segments: Mapping[int, Segment],
    others: Sequence[Contingency],
    change: Change,
) -> Iterator[Queued]:
    """Where other segmentations hold objects together, or have one in pieces."""
    object_of = _Numbered(objects)
    voxels = _voxels_of(object_of, segments)
    done = set(objects.done_objects())
    for kind, said, doubts in (
        ('split', 'together', find_splits(others, voxels)),
        ('merger', 'in pieces', find_mergers(others)),
    ):
        for one in doubts:
            if (
                one.probability >= config.min_doubt
                and done.isdisjoint(one.ids)
                and not _are_separated(objects, one.ids)
            ):
                small, large = one.sizes
                reason = (
                    f'{said} in {one.votes} of {one.others} others, {small:,} and {large:,} voxels'
                )
                item = Item(kind, one.ids, one.point)
                yield Queued(item, one.probability * change(small, large), reason)


def _are_separated(objects: Objects, ids: Sequence[int]) -> bool:
    """Whether a person has taken two objects apart."""
    if len(ids) != 2 or objects.are_one(*ids):
        return False
    first, second = map(objects.origins_of, ids)
    return not first.isdisjoint(second)


def _errors(report: Mapping[str, Any], objects: Objects, change: Change) -> Iterator[Queued]:
    """Error cases, see `ffn.evaluation.error_cases`."""
    try:
        for case in report['splits']:
            yield from _split_case(case, objects, change)
        for case in report['mergers']:
            pieces = ', '.join(f'{one["id"]}' for one in case['pieces'])
            item = Item('merger', (_id(case['id']),), _point(case['at_xyz']))
            first, second = (one['voxels'] for one in case['pieces'][:2])
            yield Queued(item, change(first, second), f'joins objects of the truth: {pieces}')
        for case in report['missing']:
            item = Item('missing', (), _point(case['at_xyz']))
            priority = change(case['missing'], case['missing'])
            yield Queued(item, priority, f'object {case["id"]} of the truth')
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            f'the report of errors is not one that ffn evaluate --json writes ({type(error).__name__} {error})'
        ) from error


def _split_case(case: Mapping[str, Any], objects: Objects, change: Change) -> Iterator[Queued]:
    first, *rest = case['pieces']
    for n, piece in enumerate(rest):
        ids = sorted((_id(first['id']), _id(piece['id'])))
        if not objects.are_one(*ids) and not _are_separated(objects, ids):
            at = _point(case['at_xyz'] if n == 0 else piece['at_xyz'])
            reason = f'pieces of object {case["id"]} of the truth are apart'
            priority = change(piece['voxels'], first['voxels'])
            yield Queued(Item('split', tuple(ids), at), priority, reason)


def _id(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**64 - 1:
        raise ValueError(f'{value!r:.40} is no id')
    return value


def _point(value: Any) -> Xyz:
    x, y, z = value
    if not all(type(n) is int and abs(n) < 2**62 for n in (x, y, z)):
        raise ValueError(f'{value!r:.40} is no voxel')
    return Xyz(x, y, z)


class Progress(NamedTuple):
    """How far a proofreader has come.

    Attributes:
      judged: places that were judged right or wrong.
      wrong: those that were wrong.
      skipped: places that were skipped.
      seconds: median time of a decision, None before the first one.
    """

    judged: int
    wrong: int
    skipped: int
    seconds: float | None


def measure_progress(objects: Objects) -> Progress:
    """Counts the decisions of a journal."""
    answers = [one.answer for one in objects.decisions.values()]
    times = [one.seconds for one in objects.decisions.values()]
    skipped = answers.count('skip')
    return Progress(
        len(answers) - skipped,
        answers.count('wrong'),
        skipped,
        statistics.median(times) if times else None,
    )
