"""Numbers of a report: what borders between subvolumes do, and where time went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ffn.assembly.tiling import AXES, Tiling
from ffn.evaluation.run_report.subvolume_facts import COUNTERS, OF_BORDERS
from ffn.utils.geometry import Box, Xyz


@dataclass(frozen=True)
class Border:
    """The overlap of two neighbours.

    Attributes:
      at_xyz: its middle.
      along: axis across the border.
      agreement: share of its labelled voxels that both give one object.
      voxels: labelled ones.
    """

    at_xyz: Xyz
    along: str
    agreement: float
    voxels: int


@dataclass(frozen=True)
class Borders:
    """What borders between subvolumes do; see `ffn.evaluation.run_report.subvolume_facts`.

    Attributes:
      overlaps: number of pairs of neighbours.
      voxels: labelled voxels of the overlaps, each pair of neighbours counted by itself.
      agreement: share of these that both sides give one object.
      differ: share that they give two objects.
      one_sided: share that one side leaves empty.
      ids: number of ids in overlaps, of both sides, with as many voxels as a match needs.
      continued: share of these whose object is also on the other side.
      ended: share that ends at the border, where the other side is empty.
      blocked: share that ends where the other side has another object.
      worst: overlaps with the most voxels on which the two sides do not agree.
    """

    overlaps: int
    voxels: int
    agreement: float
    differ: float
    one_sided: float
    ids: int
    continued: float
    ended: float
    blocked: float
    worst: tuple[Border, ...]


def summarize_borders(facts: np.ndarray, tiling: Tiling) -> Borders | None:
    """Adds up the overlaps; None where there are none with a label.

    Args:
      facts: FACTS [subvolumes].
      tiling: where these are.
    """
    sums = {name: int(facts[name].sum()) for name in OF_BORDERS}
    voxels = sums['agree'] + sums['differ'] + sums['one_sided']
    ids = sums['continued'] + sums['ended'] + sums['blocked']
    if not voxels:
        return None
    wrong = facts['differ'] + facts['one_sided']
    labelled = facts['agree'] + wrong
    worst = []
    for index in np.argsort(-wrong, axis=None, kind='stable')[:5]:
        number, axis = np.unravel_index(index, wrong.shape)
        border = tiling_border(tiling, int(number), int(axis))
        if border is not None and wrong[number, axis]:
            count = int(labelled[number, axis])
            share = float(facts['agree'][number, axis]) / count
            worst.append(Border(border, AXES[axis], share, count))
    return Borders(
        int(facts['neighbours'].sum()),
        voxels,
        sums['agree'] / voxels,
        sums['differ'] / voxels,
        sums['one_sided'] / voxels,
        ids,
        sums['continued'] / max(ids, 1),
        sums['ended'] / max(ids, 1),
        sums['blocked'] / max(ids, 1),
        tuple(worst),
    )


def place_of(tiling: Tiling, index: int) -> Xyz:
    """The place of a subvolume in the grid."""
    x, y, _ = tiling.grid
    return Xyz(index % x, index // x % y, index // (x * y))


def tiling_border(tiling: Tiling, index: int, axis: int) -> Xyz | None:
    """The middle of the overlap of a subvolume with the next along an axis; None at the end."""
    place = place_of(tiling, index)
    if (other := tiling.next_place(place, axis)) is None:
        return None
    shared = tiling.subvolume(place).intersection(tiling.subvolume(other))
    if shared is None:
        return None
    return middle_of(shared)


def middle_of(box: Box) -> Xyz:
    """The voxel in the middle of a box."""
    return Xyz(*(s + n // 2 for s, n in zip(box.start, box.size, strict=True)))


@dataclass(frozen=True)
class SlowSubvolume:
    """A subvolume that took long.

    Attributes:
      corner_xyz: its first voxel.
      seconds: of segmenting it.
      steps: of the network.
      step_ms: of one of them.
    """

    corner_xyz: Xyz
    seconds: float
    steps: int
    step_ms: float


@dataclass(frozen=True)
class Times:
    """Where time went, added up over all subvolumes.

    Attributes:
      subvolumes: number of those with counters.
      seconds: of segmenting them, one after the other.
      steps: of the network.
      step_ms: of one of them, waiting included.
      kept_seconds: spent on objects that were kept.
      weak_seconds: on objects that became too weak, and were rejected.
      small_seconds: on those that were too small.
      other_seconds: on the rest, such as looking for seeds.
      seeds: seeds that were tried.
      rejected: of these, by reason.
      slowest: the subvolumes that took longest.
    """

    subvolumes: int
    seconds: float
    steps: int
    step_ms: float
    kept_seconds: float
    weak_seconds: float
    small_seconds: float
    other_seconds: float
    seeds: int
    rejected: dict[str, int]
    slowest: tuple[SlowSubvolume, ...]


def summarize_times(facts: np.ndarray, tiling: Tiling) -> Times | None:
    """Adds up the counters of subvolumes; None where none has any."""
    counted = facts[facts['counted']]
    if not len(counted):
        return None
    total = {name: int(counted[name].sum()) for name in COUNTERS}
    seconds = {name: total[name] / 1e3 for name in ('time', 'kept_time', 'weak_time', 'small_time')}
    slowest = []
    for index in np.argsort(-facts['time'], kind='stable')[:5]:
        fact = facts[index]
        if fact['counted']:
            corner = tiling.subvolume(place_of(tiling, int(index))).start
            steps = int(fact['steps'])
            slowest.append(
                SlowSubvolume(
                    corner, int(fact['time']) / 1e3, steps, int(fact['step_time']) / max(steps, 1)
                )
            )
    return Times(
        len(counted),
        seconds['time'],
        total['steps'],
        total['step_time'] / max(total['steps'], 1),
        seconds['kept_time'],
        seconds['weak_time'],
        seconds['small_time'],
        max(2 * seconds['time'] - sum(seconds.values()), 0.0),
        total['seeds'],
        {name: total[name] for name in ('weak', 'small', 'close')},
        tuple(slowest),
    )
