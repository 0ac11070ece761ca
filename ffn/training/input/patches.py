"""Reading patches of a volume, with a margin that may leave it."""

from __future__ import annotations

import numpy as np

from ffn.utils.geometry import Box, Zyx
from ffn.volumes.unlabelled import Unlabelled
from ffn.volumes.volume import Volume

# Volumes up to this size are kept in memory while training.
_CACHED_BYTES = 2**30


class PatchReader:
    """Reads boxes of a volume; small volumes are read once and kept in memory.

    Attributes:
      volume: where boxes are read from, of one channel.
      box: the box of the whole volume.
    """

    def __init__(self, volume: Volume):
        """Reads the volume if it is small."""
        self.volume = volume
        self.box = volume.box
        self._whole: np.ndarray | None = None
        if np.prod(volume.shape_zyx, dtype=np.int64) * volume.dtype.itemsize <= _CACHED_BYTES:
            self._whole = volume.read(volume.box)

    def read(self, box: Box) -> np.ndarray:
        """Reads the voxels of a box inside the volume, [z, y, x]."""
        if self._whole is None:
            return self.volume.read(box)
        return self._whole[box.relative_to(self.box.start).slices_zyx]

    def read_around(self, box: Box, margin: Zyx) -> tuple[np.ndarray, np.ndarray]:
        """Reads a box that overlaps the volume, and a margin around it.

        Args:
          box: voxels of the volume.
          margin: voxels on each side.

        Returns:
          The voxels [z, y, x], the outermost ones repeated where the margin leaves the volume; and
          which of them are inside, bool of the same shape.

        Raises:
          ValueError: the box and its margin lie outside the volume.
        """
        grown = box.grow(margin.xyz)
        inside = grown.intersection(self.box)
        if inside is None:
            raise ValueError(f'{grown} lies outside the volume, {self.box}')
        voxels = self.read(inside)
        before = [a - b for a, b in zip(inside.start.zyx, grown.start.zyx, strict=True)]
        after = [b - a for a, b in zip(inside.end.zyx, grown.end.zyx, strict=True)]
        if not any(before) and not any(after):
            return voxels, np.ones(voxels.shape, bool)
        widths = list(zip(before, after, strict=True))
        return np.pad(voxels, widths, 'edge'), np.pad(np.ones(voxels.shape, bool), widths)

    def count_labelled(self, rule: Unlabelled) -> int | None:
        """Number of voxels with a label above 0; None where the volume is too large to be counted.

        Args:
          rule: which labels are none; it counts the voxels that have one of these.
        """
        if self._whole is None:
            return None
        return int(np.count_nonzero(rule.clear(self._whole) > 0))
