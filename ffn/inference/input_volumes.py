"""The volumes that a run reads: the image, masks, and labels that fill a subvolume beforehand."""

from __future__ import annotations

import contextlib

import numpy as np
from absl import logging

from ffn.inference import histogram
from ffn.inference.config import InferenceConfig
from ffn.inference.core.counters import Counters
from ffn.inference.core.prefilled import find_gaps
from ffn.inference.core.restrictor import Restrictor
from ffn.inference.restrictions import make_restrictor
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.volumes.masks import MaskBuilder
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import Volume

# Standard deviations that no voxel of an image should be away from its mean, all on one side.
_FAR = 3


class InputVolumes(contextlib.ExitStack):
    """The open volumes of a configuration; a context manager.

    Attributes:
      box: the voxels of the image.
    """

    def __init__(self, config: InferenceConfig):
        """Opens them.

        Raises:
          UserError: one is missing, or of the wrong kind.
        """
        super().__init__()
        self._config = config
        self._warned = self._gap_told = False
        with contextlib.ExitStack() as opened:
            image = opened.enter_context(config.image.open())
            self._image = image.single_channel()
            self._labels: Volume | None = None
            if config.init_segmentation is not None:
                labels = config.init_segmentation.open()
                self._labels = opened.enter_context(labels).require_labels()
                opened.enter_context(counted(self._labels.unlabelled))
            self._reference: np.ndarray | None = None
            if config.reference_histogram:
                self._reference = histogram.load_reference(config.reference_histogram)
            size = self._voxel_size()
            self._masks = opened.enter_context(MaskBuilder(size))
            self.push(opened.pop_all())
        self.box = self._image.box

    def _voxel_size(self) -> KnownVoxelSize | None:
        """That of the image; tells where init_segmentation has another one."""
        known = []
        for what, volume in (('image', self._image), ('init_segmentation', self._labels)):
            if volume is not None and volume.voxel_size is not None:
                known.append(volume.voxel_size.of(f'{what} {volume.name}'))
        return agreed_voxel_size(known)

    @property
    def known_box(self) -> Box:
        """The voxels of the image that init_segmentation, if there is one, covers as well.

        Raises:
          UserError: the two do not overlap.
        """
        if self._labels is None:
            return self.box
        both = self.box.intersection(self._labels.box)
        if both is None:
            raise UserError(
                f'init_segmentation, {self._labels.box}, lies outside the image, {self.box}'
            )
        return both

    def clip(self, box: Box, fov: Xyz) -> Box:
        """Clips a box to the image.

        Raises:
          UserError: the box lies outside, or what is left is smaller than the field of view.
        """
        return clip_box(box, self.box, fov, self._image.name)[0]

    def load(self, box: Box, fov: Xyz, counters: Counters) -> tuple[np.ndarray, Restrictor]:
        """Reads the image of a subvolume and its masks.

        Args:
          box: inside the image.
          fov: field of view of the network.
          counters: where the time is counted.

        Returns:
          float32 [z, y, x] normalized image, and where movement and seeds are forbidden.

        Raises:
          UserError: masks that do not fit, or voxels that are not finite.
        """
        config = self._config
        with counters.timed('load-image'):
            image = self._image.read(box)
        if self._reference is not None:
            ignored = self._masks.build(config.histogram_masks, box, image)
            whole = config.histogram_per_subvolume
            match = histogram.match_histogram if whole else histogram.match_sections
            image = match(image, self._reference, ignored)
        restrictor = make_restrictor(config.masking, box, image, fov, self._masks)
        self._check_values(image, box)
        return self._normalize(image), restrictor

    def _normalize(self, image: np.ndarray) -> np.ndarray:
        normalized = np.subtract(image, self._config.image_mean, dtype=np.float32)
        normalized /= np.float32(self._config.image_stddev)
        return normalized

    def load_labels(self, box: Box, restrictor: Restrictor) -> np.ndarray | None:
        """Reads init_segmentation in a box; None where there is none.

        Args:
          box: inside the volume.
          restrictor: of the box; gaps beside objects are forbidden where the options say so.
        """
        if self._labels is None:
            return None
        labels, gap = self._read_labels(self._labels, box), self._config.options.gap
        if gap:
            if gap > max(box.size) and not self._gap_told:
                self._gap_told = True
                logging.warning(
                    'inference_options.prefilled_gap is %d, more than all sides of the subvolume %s: beside its objects, '
                    'nothing can grow',
                    gap,
                    box,
                )
            restrictor.forbid(find_gaps(labels, gap, self._config.voxel_size_zyx))
        return labels

    def _read_labels(self, labels: Volume, box: Box) -> np.ndarray:
        """Reads labels in a box; 0 where those of larger voxels end less than one of these before the image does."""
        source = self._config.init_segmentation
        inside = box.intersection(labels.box)
        if source is None or source.upsample is None or inside is None or inside == box:
            return labels.read(box)
        before, after = (
            [abs(a - b) for a, b in zip(own, read, strict=True)]
            for own, read in ((box.start, inside.start), (box.end, inside.end))
        )
        if any(max(a, b) >= n for a, b, n in zip(before, after, source.upsample, strict=True)):
            return labels.read(box)
        found = labels.read(inside)
        ends = zip(before[::-1], after[::-1], strict=True)
        return np.pad(found, list(ends))

    def _check_values(self, image: np.ndarray, box: Box) -> None:
        extremes = np.array([image.min(), image.max()])
        low, high = self._normalize(extremes)
        if not np.isfinite(low + high):
            raise UserError(f'the image holds voxels that are no finite numbers in {box}')
        # As read: a mean that is far off leaves no differences between numbers of 32 bits.
        varies = extremes[0] < extremes[1]
        if varies and (high < -_FAR or low > _FAR) and not self._warned:
            self._warned = True  # once, not for every subvolume
            logging.warning(
                'the image has values from %g to %g in %s, far from image_mean %g and image_stddev %g; '
                'do these belong to this image?',
                *extremes,
                box,
                self._config.image_mean,
                self._config.image_stddev,
            )


def clip_box(box: Box, volume: Box, fov: Xyz, name: str) -> tuple[Box, bool]:
    """Clips a subvolume to its volume.

    Args:
      box: the subvolume.
      volume: the voxels of the volume.
      fov: field of view of the network.
      name: the volume, for errors.

    Returns:
      The part of the box inside the volume, and whether it is smaller than the box.

    Raises:
      UserError: the box is outside, or what is left is smaller than the field of view.
    """
    clipped = box.intersection(volume)
    if clipped is None:
        raise UserError(f'box {box} lies outside {name}, which covers {volume}')
    if any(n < f for n, f in zip(clipped.size, fov, strict=True)):
        raise UserError(
            f'subvolume size {both_orders(clipped.size)} is smaller than the field of view '
            f'{both_orders(fov)}; choose a larger box'
        )
    return clipped, clipped != box
