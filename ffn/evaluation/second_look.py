"""What pictures of a comparison need besides its table: where most is wrong, and how far objects extend.

One more pass over both volumes, in the blocks in which the table was counted.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool

import numpy as np
from scipy import ndimage

from ffn.evaluation.blocks import BLOCK_ZYX
from ffn.evaluation.matches import Matches
from ffn.utils.geometry import Box, Xyz, Zyx, blocks
from ffn.utils.labels import compact
from ffn.utils.progress import progress
from ffn.volumes.volume import Volume

_MAX_THREADS = 4
RIGHT, SPLIT, MERGED, MISSED = range(4)
"""What a voxel is, see `classify`."""


@dataclass
class Extent:
    """Where a label occurs.

    Attributes:
      box: around it.
      parts: boxes around it within the blocks in which it occurs.
    """

    parts: list[Box] = field(default_factory=list)

    @property
    def box(self) -> Box:
        """Returns the box around all parts."""
        start = Xyz(*(min(part.start[a] for part in self.parts) for a in range(3)))
        end = Xyz(*(max(part.end[a] for part in self.parts) for a in range(3)))
        return Box(start, Xyz(*(e - s for s, e in zip(start, end, strict=True))))


@dataclass(frozen=True)
class SecondLook:
    """Where most is wrong, and how far some labels extend.

    Attributes:
      box: what was compared.
      wrong: number of SPLIT and MERGED voxels by section, across x, y and z.
      missed: number of MISSED voxels, likewise.
      objects: extents of labels of the truth.
      segments: extents of labels of the segmentation.
    """

    box: Box
    wrong: tuple[np.ndarray, ...]
    missed: tuple[np.ndarray, ...]
    objects: dict[int, Extent]
    segments: dict[int, Extent]

    def worst_place(self) -> Xyz:
        """Returns where the planes meet that have most wrong voxels, or if none are wrong, most missed ones."""
        counts = self.wrong if self.wrong[0].any() else self.missed
        middle = [n // 2 for n in self.box.size]
        at = [int(c.argmax()) if c.any() else m for c, m in zip(counts, middle, strict=True)]
        return Xyz(*(s + a for s, a in zip(self.box.start, at, strict=True)))


def classify(labels: np.ndarray, found: np.ndarray, matches: Matches) -> np.ndarray:
    """Tells what is wrong, voxel by voxel.

    Args:
      labels: the truth, integer, any shape.
      found: the segmentation, same shape.
      matches: which labels are the same.

    Returns:
      uint8: SPLIT, an object's voxel in a smaller piece of it; MERGED, in a segment that belongs to another
      object more than to this one; MISSED, without a segment, of an object that no segment belongs to;
      else RIGHT.
    """
    (small, ids), (small_found, found_ids) = compact(labels), compact(found)
    # By number, so that ids are looked up once each.
    matched, partner = matches.objects.are_matched(ids), matches.objects.partners(ids)
    own = matches.segments.partners(found_ids)
    in_both = (small > 0) & (small_found > 0)
    same = matched[small] & (partner[small] == found_ids[small_found])
    belongs = own[small_found] == ids[small]
    kinds = np.zeros(labels.shape, np.uint8)
    kinds[in_both & ~same & belongs] = SPLIT
    kinds[in_both & ~same & ~belongs] = MERGED
    kinds[(small > 0) & (small_found == 0) & ~matched[small]] = MISSED
    return kinds


def look_again(
    truth: Volume,
    segmentation: Volume,
    box: Box,
    matches: Matches,
    objects: Collection[int],
    segments: Collection[int],
    *,
    block_zyx: Zyx = BLOCK_ZYX,
    quiet: bool = True,
) -> SecondLook:
    """Reads both volumes once more.

    Args:
      truth: labels.
      segmentation: labels, in the same coordinates.
      box: what was compared.
      matches: of its table.
      objects: labels of the truth whose extents are wanted.
      segments: labels of the segmentation whose extents are wanted.
      block_zyx: size of the blocks.
      quiet: no progress bar.

    Raises:
      UserError: a volume cannot be read.
    """
    # [kind][axis]
    counts = [[np.zeros(n, np.int64) for n in box.size] for _ in range(2)]
    extents: tuple[dict[int, Extent], dict[int, Extent]] = ({}, {})
    parts = list(blocks(box, block_zyx.xyz))

    def look(block: Box) -> tuple[Box, list[list[np.ndarray]], list[dict[int, Box]]]:
        labels, found = truth.read(block), segmentation.read(block)
        kinds = classify(labels, found, matches)
        sums = [
            [which.sum(axis=axes) for axes in ((0, 1), (0, 2), (1, 2))]
            for which in ((kinds == SPLIT) | (kinds == MERGED), kinds == MISSED)
        ]
        return block, sums, [_boxes(labels, objects, block), _boxes(found, segments, block)]

    threads = min(os.cpu_count() or 1, _MAX_THREADS, len(parts))
    with (
        progress(total=len(parts), desc='looking again', unit='block', quiet=quiet) as bar,
        ThreadPool(threads) as pool,
    ):
        for block, sums, found in pool.imap_unordered(look, parts):
            bar.update()
            for total, of_kind in zip(counts, sums, strict=True):
                for axis, more in enumerate(of_kind):
                    first = block.start[axis] - box.start[axis]
                    total[axis][first : first + len(more)] += more
            for known, boxes in zip(extents, found, strict=True):
                for label, part in boxes.items():
                    known.setdefault(label, Extent()).parts.append(part)
    wrong, missed = map(tuple, counts)
    return SecondLook(box, wrong, missed, *extents)


def _boxes(labels: np.ndarray, wanted: Collection[int], block: Box) -> dict[int, Box]:
    """Boxes around some labels of a block, where they occur."""
    numbers, ids = compact(labels, keep=set(wanted))
    found = ndimage.find_objects(numbers)
    boxes = {}
    for label, index in zip(ids[1:].tolist(), found, strict=True):
        start = [s.start + b for s, b in zip(index, block.start.zyx, strict=True)]
        boxes[label] = Box.from_zyx(start, [s.stop - s.start for s in index])
    return boxes
