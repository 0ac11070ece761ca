"""Parts that were cut off segments: their voxels on disk, and volumes in which they have ids of their own.

A mask is an npz named after its content, in the folder `JOURNAL.masks` beside the journal, and is complete before the
edit is written that names it. Masks apply in the order of the edits: a part may itself be cut.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ffn.proofreading.editing.edits import Cut
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, damage_told
from ffn.utils.geometry import Box, Xyz
from ffn.utils.kept import Kept
from ffn.utils.npz import read_npz, write_compressed
from ffn.volumes.volume import Volume

_ADVICE = 'restore it from a copy, or undo the split that made it'


@dataclass(frozen=True)
class PartMask:
    """The voxels of a part, an eighth of a byte for each of the box.

    Attributes:
      box: around them.
      bits: uint8 of `np.packbits`: whether each voxel of the box, [z, y, x], is one of them.
    """

    box: Box
    bits: np.ndarray

    @classmethod
    def of(cls, box: Box, voxels: np.ndarray) -> PartMask:
        """Makes one of bool [z, y, x]."""
        return cls(box, np.packbits(voxels))

    def within(self, box: Box) -> np.ndarray:
        """Which voxels of a box inside its own are of the part: bool [z, y, x]."""
        (z, y, x), (depth, height, width) = (
            box.relative_to(self.box.start).slices_zyx,
            self.box.size.zyx,
        )
        # Whole sections, as far as they begin with a byte.
        first = z.start * height * width // 8 * 8
        count = min(z.stop, depth) * height * width - first
        bits = np.unpackbits(self.bits[first // 8 : -(-(first + count) // 8)], count=count)
        sections = bits[z.start * height * width - first :].reshape(-1, height, width)
        return sections[:, y, x].astype(bool)

    @property
    def voxels(self) -> np.ndarray:
        """All of the box."""
        return self.within(self.box)

    def bytes(self) -> int:
        """How much memory it takes."""
        return self.bits.nbytes


def masks_folder(journal: str | Path) -> Path:
    """Where the masks of a journal are."""
    return Path(f'{journal}.masks')


def check_masks(journal: str | Path, cuts: Sequence[Cut]) -> None:
    """Checks that the masks of a journal lie beside it, before anything is made of them.

    Raises:
      UserError: one does not, as where the journal was copied without them.
    """
    folder = masks_folder(journal)
    lost = [cut.mask for cut in cuts if not (folder / cut.mask).is_file()]
    if lost:
        raise UserError(
            f'{folder} lacks {len(lost)} of {len(cuts)} masks of segments that were cut, such as {lost[0]}; it belongs '
            f'to {journal}: copy it along'
        )


def save_mask(folder: Path, mask: PartMask) -> str:
    """Writes a mask, unless it is there already.

    Returns:
      Its file name.
    """
    box, bits = np.array([mask.box.start, mask.box.size], np.int64), mask.bits
    name = hashlib.sha256(box.tobytes() + bits.tobytes()).hexdigest()[:32] + '.npz'
    if not (folder / name).exists():
        with atomic_path(folder / name) as temporary, open(temporary, 'wb') as file:
            write_compressed(file, box=box, bits=bits)
    return name


def load_mask(path: Path) -> PartMask:
    """Reads a mask, unless it is among those that were used last.

    Raises:
      UserError: it is missing or damaged, or not the one that its name says.
    """
    return _masks.get(path)


def _read_mask(path: Path) -> PartMask:
    members = read_npz(path, ('box', 'bits'), (), advice=_ADVICE)
    with damage_told(path, _ADVICE):
        box, bits = members['box'], members['bits']
        if box.dtype != np.int64 or box.shape != (2, 3) or bits.dtype != np.uint8:
            raise ValueError('its members are of other types')
        if hashlib.sha256(box.tobytes() + bits.tobytes()).hexdigest()[:32] != path.stem:
            raise ValueError('its content does not fit its name')
        start, size = box.tolist()
        if min(size) < 1 or bits.shape != (-(-size[0] * size[1] * size[2] // 8),):
            raise ValueError(f'a box of size {size} and {len(bits)} bytes')
        return PartMask(Box(Xyz(*start), Xyz(*size)), bits)


_masks = Kept(_read_mask, PartMask.bytes)


@functools.cache
def _box_of(path: Path) -> Box:
    """Where a mask is; kept for all masks, of which many do not fit into memory."""
    return load_mask(path).box


@dataclass(frozen=True)
class CutLabels:
    """How the base volume is read with all parts that were cut off.

    Attributes:
      folder: of the masks.
      cuts: in the order of the edits.
    """

    folder: Path
    cuts: tuple[Cut, ...] = ()

    def read(self, volume: Volume, box: Box) -> np.ndarray:
        """Reads a box.

        Args:
          volume: the base volume.
          box: inside it.

        Returns:
          uint64 [z, y, x].

        Raises:
          UserError: a mask that cannot be read.
        """
        labels = volume.read(box)
        if labels.dtype.kind == 'i':
            labels = np.maximum(labels, 0)
        labels = labels.astype(np.uint64)
        for cut in self.near(box):
            mask = load_mask(self.folder / cut.mask)
            part = mask.box.intersection(box)
            if part is None:
                continue
            there = labels[part.relative_to(box.start).slices_zyx]
            there[mask.within(part) & (there == np.uint64(cut.of))] = cut.new
        return labels

    def near(self, box: Box) -> list[Cut]:
        """The cuts whose masks reach into a box, in their order.

        Raises:
          UserError: a mask that cannot be read.
        """
        begin, end = self._boxes[:, 0], self._boxes[:, 1]
        inside = ((begin < np.array(box.end)) & (end > np.array(box.start))).all(axis=1)
        return [self.cuts[n] for n in np.flatnonzero(inside).tolist()]

    @functools.cached_property
    def _boxes(self) -> np.ndarray:
        """Of the masks: int64 [cuts, 2, 3], begin and end."""
        boxes = [_box_of(self.folder / cut.mask) for cut in self.cuts]
        return np.array([(box.start, box.end) for box in boxes], np.int64).reshape(-1, 2, 3)

    def applied_to(self, volume: Volume) -> Volume:
        """The base volume with the parts, as a volume that is closed with that one."""
        if not self.cuts:
            return volume
        array, begin = _CutArray(self, volume), volume.box.start.zyx
        size, origin = volume.voxel_size, volume.origin_from
        found = Volume(volume.name, array, volume.attrs, begin, volume.close, size, origin)
        found.unlabelled = volume.unlabelled  # which the volume itself counts
        return found

    def at(self, volume: Volume, point: Xyz) -> int:
        """The segment at a voxel, 0 for none.

        Raises:
          UserError: the voxel is outside the volume.
        """
        box = Box(point, Xyz(1, 1, 1))
        if not volume.box.contains(box):
            raise UserError(f'{point} is outside of {volume.name}, which covers {volume.box}')
        return int(self.read(volume, box)[0, 0, 0])

    def with_cuts(self, cuts: Sequence[Cut]) -> CutLabels:
        """The same with other cuts."""
        return CutLabels(self.folder, tuple(cuts))


NO_CUTS = CutLabels(Path())


class _CutArray:
    """A base volume with parts, indexed from 0."""

    dtype = np.dtype(np.uint64)

    def __init__(self, labels: CutLabels, volume: Volume):
        self.shape = tuple(volume.shape_zyx)
        self._labels, self._volume = labels, volume

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        start = [
            part.start + at for part, at in zip(index, self._volume.box.start.zyx, strict=True)
        ]
        size = [part.stop - part.start for part in index]
        return self._labels.read(self._volume, Box.from_zyx(start, size))
