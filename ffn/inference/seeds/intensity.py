"""Seeds by the intensity of the image: its peaks, or all voxels from some intensity on."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.morphology import disk

from ffn.inference.seeds.policy import SeedPolicy, SeedView, sort_zyx, whole


def _unmasked(view: SeedView) -> np.ndarray:
    """The image, with the least value where the mask is."""
    if view.mask is None:
        return view.image
    return np.where(view.mask, view.image.min(), view.image)


class PolicyMax(SeedPolicy):
    """All voxels in order of decreasing intensity, for images that map where objects are.

    Voxels of equal intensity are in the order of z, y, x.
    """

    def points(self) -> np.ndarray:
        """See base class."""
        image = self.view.image
        order = np.argsort(-image, axis=None, kind='stable')
        return np.stack(np.unravel_index(order, image.shape), axis=1)


class PolicyMaxPeaks(SeedPolicy):
    """Local maxima of intensity outside the mask, in order of decreasing intensity."""

    def __init__(
        self,
        view: SeedView,
        min_distance: int = 3,
        threshold_abs: float = 0,
        threshold_rel: float = 0,
    ):
        """Makes a policy; for the arguments, see `skimage.feature.peak_local_max`."""
        super().__init__(view)
        self._args = {
            'min_distance': min_distance,
            'threshold_abs': threshold_abs,
            'threshold_rel': threshold_rel,
        }

    def points(self) -> np.ndarray:
        """See base class."""
        # Without its `labels`: findings/skimage_peaks_of_labels_on_slopes.sh.
        peaks: np.ndarray = peak_local_max(_unmasked(self.view), **self._args)
        return peaks if self.view.mask is None else peaks[~self.view.mask[tuple(peaks.T)]]


class PolicyImagePeaks3D2D(SeedPolicy):
    """Local maxima of intensity in 3-d, then those of every section by itself; dark ones too."""

    def __init__(
        self,
        view: SeedView,
        min_distance_2d: int = 2,
        min_distance_3d: int = 4,
        threshold_abs: float | None = None,
        threshold_rel: float | None = None,
    ):
        """Makes a policy.

        Args:
          view: the canvas.
          min_distance_2d: least distance between two seeds of a section, voxels.
          min_distance_3d: least distance between two seeds of the first kind, voxels.
          threshold_abs: normalized intensity that a maximum must exceed; None: any does.
          threshold_rel: the same as a fraction of the greatest intensity, for sections of the section's.
        """
        super().__init__(view)
        self._distances = min_distance_2d, min_distance_3d
        self._thresholds = {'threshold_abs': threshold_abs, 'threshold_rel': threshold_rel}

    def points(self) -> np.ndarray:
        """See base class."""
        image = _unmasked(self.view)
        in_2d, in_3d = self._distances
        sections = [
            np.insert(self._peaks(section, in_2d), 0, z, axis=1) for z, section in enumerate(image)
        ]
        return np.concatenate([self._peaks(image, in_3d), *sections])

    def _peaks(self, image: np.ndarray, min_distance: int) -> np.ndarray:
        return sort_zyx(peak_local_max(image, min_distance=min_distance, **self._thresholds))


class PolicyImagePeaks2DDisk(SeedPolicy):
    """Local maxima of intensity, section by section: voxels that are the greatest within a disk."""

    def __init__(
        self,
        view: SeedView,
        min_distance_2d: int = 3,
        threshold_rel: float = 0.5,
        disk_radius: int = 1,
    ):
        """Makes a policy.

        Args:
          view: the canvas.
          min_distance_2d: least Euclidean distance between two seeds of a section, and from its border,
            voxels.
          threshold_rel: normalized intensity that a peak must exceed, as a fraction of the section's
            greatest.
          disk_radius: radius of the disk around a voxel in which none is greater, voxels.
        """
        super().__init__(view)
        if disk_radius < 0:
            raise ValueError(f'disk_radius is {disk_radius}; expected 0 or more voxels')
        self._args = {
            'min_distance': whole(min_distance_2d, 'min_distance_2d', 0),
            'threshold_rel': threshold_rel,
            'footprint': disk(disk_radius, dtype=bool),
            'p_norm': 2,
        }

    def points(self) -> np.ndarray:
        """See base class."""
        return np.concatenate(
            [
                np.insert(sort_zyx(peak_local_max(section, **self._args)), 0, z, axis=1)
                for z, section in enumerate(_unmasked(self.view))
            ]
        )


class PolicyDenseSeeds(SeedPolicy):
    """All voxels of the thresholded image, so that every object in it is seeded somewhere."""

    def __init__(
        self,
        view: SeedView,
        threshold: float = 0.5,
        num_erosions: int = 0,
        invert: bool = False,
    ):
        """Makes a policy.

        Args:
          view: the canvas.
          threshold: normalized intensity above which a voxel is a seed.
          num_erosions: how often the thresholded image is eroded, to keep away from the rims of objects.
          invert: take the voxels at or below the threshold instead.
        """
        super().__init__(view)
        if invert not in (True, False):
            raise ValueError(f'invert is {invert!r}; expected true or false')
        self._threshold, self._invert = threshold, bool(invert)
        self._erosions = whole(num_erosions, 'num_erosions', 0)

    def points(self) -> np.ndarray:
        """See base class."""
        seeds = (self.view.image > self._threshold) ^ self._invert
        if self._erosions:
            seeds = ndimage.binary_erosion(seeds, iterations=self._erosions)
        if self.view.mask is not None:
            seeds = seeds & ~self.view.mask
        return np.argwhere(seeds)
