"""Counting, around each voxel of an object, how many voxels of the object lie in a box.

The cost is proportional to the bounding boxes of the objects: each object is cut out, and three running
sums, one per axis, give the number of its voxels in the box around every voxel of the cutout.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from ffn.utils.geometry import Xyz, Zyx


def box_sums(
    mask: np.ndarray, radius: Xyz, first_zyx: Sequence[int], size_zyx: Sequence[int]
) -> np.ndarray:
    """Counts the True voxels in the box of ±radius around each voxel of a part of a mask.

    Args:
      mask: bool [z, y, x]; voxels outside it count as False.
      radius: of the box, in voxels; its sides are 2 * radius + 1.
      first_zyx: first voxel of the part, as an index into mask.
      size_zyx: size of the part.

    Returns:
      Counts [z, y, x] of the part, in the smallest unsigned type that holds the box's volume.
    """
    sums, volume = mask.view(np.uint8), 1
    for axis, (r, first, size) in enumerate(zip(radius.zyx, first_zyx, size_zyx, strict=True)):
        volume *= 2 * r + 1
        sums = _running_sum(sums, axis, r, first, size, np.min_scalar_type(volume))
    return sums


def _running_sum(
    values: np.ndarray, axis: int, radius: int, first: int, size: int, dtype: np.dtype
) -> np.ndarray:
    """Sums of values[i - radius : i + radius + 1] along an axis, for i in first .. first + size."""
    values = np.moveaxis(values, axis, 0)
    sums = np.empty((size, *values.shape[1:]), dtype)
    np.sum(values[max(first - radius, 0) : first + radius + 1], axis=0, dtype=dtype, out=sums[0])
    for i in range(1, size):
        enters, leaves = first + i + radius, first + i - radius - 1
        if enters < len(values):
            np.add(sums[i - 1], values[enters], out=sums[i])
        else:
            sums[i] = sums[i - 1]
        if leaves >= 0:
            sums[i] -= values[leaves]
    return np.moveaxis(sums, 0, axis)


def classify_objects(
    objects: np.ndarray, radius: Xyz, count_limits: np.ndarray, threads: int
) -> np.ndarray:
    """Classifies each voxel by how many voxels of its own object are in the box around it.

    Args:
      objects: unsigned [z, y, x], object ids 1..n without large gaps, 0 for background; includes a
        border of `radius` voxels around the part that is computed.
      radius: of the box, in voxels.
      count_limits: int64, ascending; a count that reaches i of the limits gives class i + 1.
      threads: number of objects processed at a time.

    Returns:
      uint8 [z, y, x], smaller than objects by the border: 0 for background, else the class.
    """
    border = radius.zyx
    core = tuple(slice(r, n - r) for r, n in zip(border, objects.shape, strict=True))
    classes = np.zeros([part.stop - part.start for part in core], np.uint8)

    def classify(object_id: int, extent: tuple[slice, ...]) -> None:
        first = [max(part.start, r) for part, r in zip(extent, border, strict=True)]
        end = [min(part.stop, inner.stop) for part, inner in zip(extent, core, strict=True)]
        if any(a >= b for a, b in zip(first, end, strict=True)):
            return
        reach = tuple(
            slice(max(a - r, part.start), min(b + r, part.stop))
            for a, b, r, part in zip(first, end, border, extent, strict=True)
        )
        mask = objects[reach] == object_id
        first_in_mask = [a - part.start for a, part in zip(first, reach, strict=True)]
        size = Zyx.of(b - a for a, b in zip(first, end, strict=True))
        counts = box_sums(mask, radius, first_in_mask, size)
        own = mask[tuple(slice(a, a + n) for a, n in zip(first_in_mask, size, strict=True))]
        target = tuple(slice(a - r, b - r) for a, b, r in zip(first, end, border, strict=True))
        classes[target][own] = np.searchsorted(count_limits, counts[own], side='right') + 1

    extents = enumerate(ndimage.find_objects(objects), start=1)
    jobs = [(object_id, extent) for object_id, extent in extents if extent is not None]
    jobs.sort(key=lambda job: np.prod([part.start - part.stop for part in job[1]]))
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(classify, *job) for job in jobs]:
            done.result()
    return classes
