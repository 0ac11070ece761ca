"""Seeds in the middle of things: peaks of the distance from edges, or from existing segments.

(Januszewski et al. 2018, Methods: seed list.)
"""

from __future__ import annotations

import functools
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import edt
import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from ffn.inference.seeds.policy import SeedPolicy, SeedView, is_constant, sort_zyx

_WORKERS = min(os.cpu_count() or 1, 8)


class PolicyPeaks(SeedPolicy):
    """Peaks of the distance from edges: the middles of large homogeneous regions.

    Masked voxels count as edges, and so do those where no seed is placed. Distances are measured in the
    size of a voxel. A constant image has no peaks.
    (Januszewski et al. 2018, Methods: seed list.)
    """

    def points(self) -> np.ndarray:
        """See base class."""
        view = self.view
        if is_constant(view.image):
            return np.zeros((0, 3), dtype=np.int64)
        masked = [mask for mask in (view.mask, view.seed_mask) if mask is not None]
        edge = np.logical_or.reduce(masked) if masked else None
        return sort_zyx(_edge_peaks(view.image, _blocked(view), edge, view.voxel_size_zyx, 3, 0))


class PolicyPeaks2d(SeedPolicy):
    """PolicyPeaks in every section by itself, for volumes with thick or shifting sections.

    Distances are measured in voxels, and where no seed is placed does not matter. A constant image has no
    peaks; a constant section of another image may.
    """

    def __init__(
        self,
        view: SeedView,
        min_distance: int = 7,
        threshold_abs: float = 2.5,
        sort_cmp: str = 'ascending',
    ):
        """Makes a policy.

        Args:
          view: the canvas.
          min_distance: least distance between two seeds, voxels.
          threshold_abs: distance from an edge that a seed must exceed, voxels.
          sort_cmp: order of the seeds, 'ascending' or 'descending' in (z, y, x).
        """
        super().__init__(view)
        if sort_cmp not in ('ascending', 'descending'):
            raise ValueError(f"sort_cmp is {sort_cmp!r}; expected 'ascending' or 'descending'")
        self._min_distance, self._threshold_abs = min_distance, threshold_abs
        self._descending = sort_cmp == 'descending'

    def points(self) -> np.ndarray:
        """See base class."""
        view = self.view
        if is_constant(view.image):
            return np.zeros((0, 3), dtype=np.int64)
        blocked, found = _blocked(view), []
        for z in range(view.image.shape[0]):
            peaks = _edge_peaks(
                view.image[z],
                blocked[z],
                None if view.mask is None else view.mask[z],
                (1, 1),
                self._min_distance,
                self._threshold_abs,
            )
            found.append(np.insert(sort_zyx(peaks), 0, z, axis=1))
        ascending = np.concatenate(found)
        return ascending[::-1] if self._descending else ascending


class PolicyFillEmptySpace(SeedPolicy):
    """Peaks of the distance from all segments: the middles of what is still empty.

    They are at least half the shortest edge of a voxel away from segments, and not masked.
    """

    def points(self) -> np.ndarray:
        """See base class."""
        height = distance(self.view.segmentation == 0, self.view.voxel_size_zyx)
        if self.view.mask is not None:
            height[self.view.mask] = -1
        height = height + tie_noise(height.shape)
        return sort_zyx(_local_maxima(height, 2, 0.5))


def _blocked(view: SeedView) -> np.ndarray:
    blocked = view.segmentation != 0
    return blocked if view.mask is None else blocked | view.mask


def _edge_peaks(
    image: np.ndarray,
    blocked: np.ndarray,
    masked: np.ndarray | None,
    voxel_size: tuple[float, ...],
    min_distance: int,
    threshold_abs: float,
) -> np.ndarray:
    """Peaks of the distance from edges and masked voxels, int [n, d]; none on blocked voxels."""
    edge = edges(image)
    if masked is not None:
        edge |= masked
    if edge.all():
        return np.zeros((0, image.ndim), dtype=np.int64)
    height = tie_noise(image.shape)
    height += distance(np.logical_not(edge, out=edge), voxel_size)
    height[blocked] = -1
    return _local_maxima(height, min_distance, threshold_abs)


def _local_maxima(height: np.ndarray, min_distance: int, threshold_abs: float) -> np.ndarray:
    """`peak_local_max`, which spends most of its time on keeping maxima apart: only equally high ones can be close."""
    thresholds = {'threshold_abs': threshold_abs, 'threshold_rel': 0}
    if min_distance > 1:
        window = np.ones((2 * min_distance + 1,) * height.ndim, bool)
        found: np.ndarray = peak_local_max(
            height, footprint=window, exclude_border=min_distance, **thresholds
        )
        if len(np.unique(height[tuple(found.T)])) == len(found):
            return found
    spaced: np.ndarray = peak_local_max(height, min_distance=min_distance, **thresholds)
    return spaced


def edges(image: np.ndarray) -> np.ndarray:
    """Where the gradient is steeper than in the neighbourhood: bool, the image's shape.

    Args:
      image: float32 [z, y, x] or [y, x].
    """
    gradient = _gradient(image)
    return np.greater(gradient, _smoothed(gradient, 49 / 6))


def distance(free: np.ndarray, voxel_size: tuple[float, ...]) -> np.ndarray:
    """Distance of each voxel of `free` to the nearest that is not: float32, the array's shape.

    The unit is the shortest edge of a voxel, so that thresholds mean the same whatever unit the size of a
    voxel has. Where everything is free, the distance to the border.

    Args:
      free: bool [z, y, x] or [y, x].
      voxel_size: size of a voxel along each axis, in any unit.
    """
    # To seven digits, which is what requests hold: 0.033 / 0.008 is 33 / 8 then.
    shape_of_voxel = tuple(float(f'{size / min(voxel_size):.7g}') for size in voxel_size)
    distances: np.ndarray = edt.edt(
        np.ascontiguousarray(free),
        anisotropy=shape_of_voxel,
        black_border=bool(free.all()),
        parallel=os.cpu_count() or 1,
    )
    return distances


def tie_noise(shape: tuple[int, ...]) -> np.ndarray:
    """Noise smaller than any real difference of distances, to break ties between equal ones.

    Drawn with NumPy's legacy generator and a fixed seed: existing results depend on it.
    """
    noise: np.ndarray = np.random.RandomState(42).rand(*shape)
    noise *= 1e-4
    return noise


def _gradient(image: np.ndarray) -> np.ndarray:
    """`ndimage.generic_gradient_magnitude` of Sobel's filter, bit for bit, on several cores."""
    result = np.empty_like(image)

    def compute(part: slice) -> None:
        before = min(part.start, 1)  # a filter sees one plane on either side
        piece = image[part.start - before : part.stop + 1]
        gradient = ndimage.generic_gradient_magnitude(piece, ndimage.sobel)
        result[part] = gradient[before : before + part.stop - part.start]

    with ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(compute, _parts(len(image))))
    return result


def _parts(length: int) -> list[slice]:
    """Divides the length of an axis among threads."""
    bounds = np.linspace(0, length, _WORKERS + 1, dtype=int)
    return [slice(a, b) for a, b in itertools.pairwise(bounds.tolist()) if a < b]


def _smoothed(array: np.ndarray, sigma: float) -> np.ndarray:
    """`ndimage.gaussian_filter`, bit for bit, on several cores: lines are filtered independently."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        for axis in range(array.ndim):
            across = 1 if axis == 0 else 0
            parts = [(slice(None),) * across + (part,) for part in _parts(array.shape[across])]
            source, array = array, np.empty_like(array)
            filter_part = functools.partial(_filter_part, source, array, sigma, axis)
            list(pool.map(filter_part, parts))
    return array


def _filter_part(
    source: np.ndarray, target: np.ndarray, sigma: float, axis: int, part: tuple[slice, ...]
) -> None:
    ndimage.gaussian_filter1d(source[part], sigma, axis, output=target[part], mode='reflect')
