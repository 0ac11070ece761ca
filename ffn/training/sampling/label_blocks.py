"""Label volumes block by block: reading labels, choosing which to keep, splitting boxes to fit memory.

Voxels that are not labelled are background here, see `ffn.volumes.unlabelled`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import fastremap
import numpy as np
from absl import logging

from ffn.utils.geometry import Box, Xyz
from ffn.volumes.volume import Volume

_MIN_SIDE = 64


def read_labels(volume: Volume, box: Box) -> np.ndarray:
    """Reads the labels of a box, integer [z, y, x]."""
    labels = volume.read(box)
    return labels.view(np.uint8) if labels.dtype.kind == 'b' else labels


def kept_labels(
    blocks: Iterable[np.ndarray], min_size: int, whitelist: Collection[int]
) -> set[int]:
    """Finds the labels that are large enough, and whitelisted.

    Args:
      blocks: labels [z, y, x] of 0 or more that together are the whole volume.
      min_size: least number of voxels.
      whitelist: labels to keep; empty: all.

    Returns:
      The labels, without 0.
    """
    uniques = [fastremap.unique(block, return_counts=True) for block in blocks]
    ids, index = np.unique(np.concatenate([ids for ids, _ in uniques]), return_inverse=True)
    sizes = np.zeros(len(ids), np.int64)
    np.add.at(sizes, index, np.concatenate([counts for _, counts in uniques]).astype(np.int64))
    is_large = sizes[ids != 0] >= min_size
    kept = set(ids[ids != 0][is_large].tolist())
    _tell_dust(sizes[ids != 0], is_large, min_size)
    if whitelist:
        absent = [str(label) for label in whitelist if label not in kept]
        if absent:
            logging.warning(
                '--id_whitelist: no segment that is large enough has the label %s',
                ', '.join(absent[:10]),
            )
        kept &= set(whitelist)
    return kept


def _tell_dust(sizes: np.ndarray, is_large: np.ndarray, min_size: int) -> None:
    """Says how many objects, of all with these sizes, are too small, and how much of what is labelled."""
    if not is_large.any():
        logging.warning(
            'no segment has %d voxels or more (--min_size): all is background', min_size
        )
    elif not is_large.all():
        logging.info(
            '--min_size %d makes %d of %d objects background, %.1f %% of the labelled voxels',
            min_size,
            np.count_nonzero(~is_large),
            len(sizes),
            100 * sizes[~is_large].sum() / sizes.sum(),
        )


def split(box: Box, border: Xyz, limit: int) -> list[Box]:
    """Halves a box along its longest axis until its parts fit in memory.

    Args:
      box: what to split.
      border: voxels that are read around each part.
      limit: maximum number of voxels of a part and its border. A side is not halved below 64 voxels:
        parts that are mostly border would cost more than they save.

    Returns:
      The parts; they tile the box.
    """
    axis = int(np.argmax(box.size.zyx))
    length = box.size.zyx[axis]
    if np.prod(box.grow(border).size) <= limit or length < 2 * _MIN_SIDE:
        return [box]
    start, size = list(box.start.zyx), list(box.size.zyx)
    size[axis] = length // 2
    low = Box.from_zyx(start, size)
    start[axis] += length // 2
    size[axis] = length - length // 2
    return split(low, border, limit) + split(Box.from_zyx(start, size), border, limit)
