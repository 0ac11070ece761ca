"""What the settings of a training follow from: values of the image, sizes and kinds of the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import fastremap
import numpy as np
from scipy import ndimage

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, blocks
from ffn.utils.labels import compact
from ffn.utils.progress import progress
from ffn.volumes.provenance import open_complete
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import Volume, check_place

_BLOCK = Xyz(256, 256, 64)
# The image is sampled in blocks of this size, drawn from all that have labels.
_SAMPLE, _SAMPLES = Xyz(64, 64, 32), 64
_SEED = 1
# Part of the labels, in the middle, that is examined for connected components.
_MIDDLE = Xyz(256, 256, 128)


@dataclass(frozen=True)
class Measurements:
    """What is known of an image and its labels.

    Attributes:
      image: string that names the image.
      labels: likewise.
      image_box: the voxels of the image.
      box: the labelled box, within the image.
      voxel_size: x, y, z nanometres, None where nothing says so.
      mean: of the image where it is labelled, in sampled blocks.
      stddev: likewise.
      dtype: of the image.
      sizes: voxels of each object, uint64, ascending.
      largest_id: label of the largest object.
      unlabelled: voxels without a label.
      components: label → connected components of it in the middle of the volume.
      touching: of the places there where rows and columns lead from one object to another, the share without background
        between them.
    """

    image: str
    labels: str
    image_box: Box
    box: Box
    voxel_size: KnownVoxelSize | None
    mean: float
    stddev: float
    dtype: np.dtype
    sizes: np.ndarray
    largest_id: int
    unlabelled: int
    components: dict[int, int]
    touching: float

    @property
    def labelled(self) -> int:
        """Voxels with a label."""
        return int(self.sizes.sum())


def measure(
    image: str,
    labels: str,
    voxel_size: tuple[float, float, float] | None = None,
    quiet: bool = False,
) -> Measurements:
    """Reads an image in samples and its labels completely.

    Args:
      image: string that names the image.
      labels: string that names the labels, of the image or of a part of it.
      voxel_size: x, y, z nanometres; None: as the volumes say.
      quiet: no progress bar.

    Raises:
      UserError: volumes that do not fit each other, an image of values that are not finite, or labels without
        an object.
    """
    with open_complete(image) as opened, open_complete(labels) as truth:
        volume, truth = opened.single_channel(), truth.require_labels()
        check_place(truth, volume)
        known = [KnownVoxelSize(voxel_size, '--voxel_size')] if voxel_size else []
        known += [v.voxel_size.of(v.name) for v in (volume, truth) if v.voxel_size is not None]
        with counted(truth.unlabelled):
            sizes, parts = _read_labels(truth, quiet)
        unlabelled = sizes.pop(0, 0)
        if not sizes:
            raise UserError(f'{labels} holds no object: all of it is background')
        mean, stddev = _sample(volume, parts)
        middle = _read_middle(truth)
        return Measurements(
            image,
            labels,
            volume.box,
            truth.box,
            agreed_voxel_size(known),
            mean,
            stddev,
            volume.dtype,
            np.sort(np.array(list(sizes.values()), np.uint64)),
            max(sizes, key=sizes.__getitem__),
            unlabelled,
            _count_components(middle),
            _share_touching(middle),
        )


def _sample(volume: Volume, parts: Sequence[Box]) -> tuple[float, float]:
    """Mean and standard deviation of the image over some boxes."""
    count, total, squares = 0, 0.0, 0.0
    for part in parts:
        values = volume.read(part).astype(np.float64)
        if not np.isfinite(values).all():
            raise UserError(
                f'the image {volume.name} holds values that are no numbers in box {part}; replace them by a grey value'
            )
        count += values.size
        total += float(values.sum())
        squares += float((values**2).sum())
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0) ** 0.5


class _LabelledParts:
    """Blocks drawn from all that have labels, each cut to the box around its own labels.

    So membranes count, which are background between objects, and padding and what is not labelled do not.

    Attributes:
      drawn: at most `_SAMPLES`; every block with labels among those offered is as likely to be one of them.
    """

    def __init__(self) -> None:
        self.drawn: list[Box] = []
        self._seen = 0
        self._rng = np.random.default_rng(_SEED)

    def offer(self, box: Box, labels: np.ndarray) -> None:
        """Looks at the blocks within a box, of which the labels are given."""
        for part in blocks(box, _SAMPLE):
            labelled = labels[part.relative_to(box.start).slices_zyx] > 0
            if not labelled.any():
                continue
            self._seen += 1
            place = int(self._rng.integers(self._seen))
            if self._seen <= _SAMPLES:
                self.drawn.append(_around(labelled, part))
            elif place < _SAMPLES:
                self.drawn[place] = _around(labelled, part)


def _around(labelled: np.ndarray, part: Box) -> Box:
    """The smallest box with all that is labelled in a part."""
    (slices,) = ndimage.find_objects(labelled.astype(np.uint8))
    inside = Box.from_zyx([s.start for s in slices], [s.stop - s.start for s in slices])
    return inside.relative_to(Xyz(*(-a for a in part.start)))


def _read_labels(truth: Volume, quiet: bool) -> tuple[dict[int, int], list[Box]]:
    """Reads all labels once.

    Returns:
      Voxels of each label, those that are not positive counted as 0; some of the boxes that are labelled.
    """
    sizes: Counter[int] = Counter()
    parts = _LabelledParts()
    for box in progress(list(blocks(truth.box, _BLOCK)), desc='labels', unit='block', quiet=quiet):
        labels = truth.read(box)
        ids, counts = fastremap.unique(labels, return_counts=True)
        for i, n in zip(ids.tolist(), counts.tolist(), strict=True):
            sizes[max(int(i), 0)] += n
        parts.offer(box, labels)
    return dict(sizes), parts.drawn


def _read_middle(truth: Volume) -> np.ndarray:
    size = Xyz(*map(min, _MIDDLE, truth.box.size))
    start = Xyz(
        *(a + (n - m) // 2 for a, n, m in zip(truth.box.start, truth.box.size, size, strict=True))
    )
    return truth.read(Box(start, size))


def _count_components(labels: np.ndarray) -> dict[int, int]:
    numbers, ids = compact(labels)
    components, _ = cc3d.connected_components(numbers, connectivity=6, return_N=True)
    pairs = np.unique(np.stack([numbers.ravel(), components.ravel()]), axis=1)[0]
    found, counts = np.unique(pairs[pairs > 0], return_counts=True)
    return {int(ids[n]): int(c) for n, c in zip(found, counts, strict=True)}


def _share_touching(labels: np.ndarray) -> float:
    """Of the places where rows and columns lead from one object to another, the share without background between.

    Padding and parts without labels at the faces lie between no two objects, so that they do not count.
    """
    follow = touching = 0
    for lines in (labels, labels.swapaxes(1, 2)):
        places = np.flatnonzero(lines > 0)
        row, objects = places // lines.shape[2], lines[lines > 0]
        passes = (objects[1:] != objects[:-1]) & (row[1:] == row[:-1])
        follow += int(np.count_nonzero(passes))
        touching += int(np.count_nonzero(passes & (np.diff(places) == 1)))
    return touching / follow if follow else 0.0
