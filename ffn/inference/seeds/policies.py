"""Where objects are started: policies that yield seed positions in an order.

A policy sees the canvas through `SeedView` and returns points [n, 3] in z, y, x; those whose field
of view does not fit are dropped. The policies of this module look at edges and at free space; see
also seed_image (intensity), seed_grid (regular) and seed_combine (earlier runs, combinations).
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import edt
import numpy as np
from absl import logging
from scipy import ndimage
from skimage.feature import peak_local_max

from ffn.utils.errors import UserError
from ffn.utils.geometry import Zyx

Position = tuple[int, int, int]


class SeedView(Protocol):
    """What a seed policy may see of the canvas; nothing of it may be changed.

    Attributes:
      image: float32 [z, y, x], normalised.
      segmentation: int32 [z, y, x]; > 0 segments, 0 free, -1 rejected seeds.
      mask: bool [z, y, x] where the field of view may not go, or None.
      margin_zyx: half the field of view.
      corner_zyx: first voxel of the subvolume.
      voxel_size_zyx: physical size of a voxel, any unit.
    """

    image: np.ndarray
    segmentation: np.ndarray
    mask: np.ndarray | None
    margin_zyx: Zyx
    corner_zyx: Zyx
    voxel_size_zyx: tuple[float, float, float]


class SeedPolicy:
    """Base of all policies: computes points once, when the first is asked for.

    Subclasses implement `points()`.
    """

    def __init__(self, view: SeedView):
        self.view = view
        self._points: np.ndarray | None = None
        self._index = 0

    def points(self) -> np.ndarray:
        """Returns int [n, 3] positions z, y, x in the order in which to try them."""
        raise NotImplementedError

    def _fitting_points(self) -> np.ndarray:
        name = type(self).__name__
        try:
            points = np.asarray(self.points(), dtype=np.int32).reshape(-1, 3)
        except UserError:
            raise
        except (
            TypeError,
            ValueError,
            ZeroDivisionError,
            RuntimeError,
            IndexError,
            AttributeError,
        ) as error:
            raise UserError(
                f'{name} cannot compute its points: {error}; do seed_policy_args fit?'
            ) from error
        margin = np.array(self.view.margin_zyx)
        shape = np.array(self.view.image.shape)
        fits = np.all((points >= margin) & (points + margin < shape), axis=1)
        logging.info('%s: %d seeds, %d fit', name, len(points), fits.sum())
        return points[fits]

    def __iter__(self) -> Iterator[Position]:
        return self

    def __next__(self) -> Position:
        if self._points is None:
            self._points = self._fitting_points()
        if self._index >= len(self._points):
            raise StopIteration
        z, y, x = self._points[self._index].tolist()
        self._index += 1
        return z, y, x

    @property
    def total(self) -> int | None:
        """Number of seeds, None before the first is asked for."""
        return None if self._points is None else len(self._points)

    @property
    def index(self) -> int:
        """Number of seeds given out."""
        return self._index

    def get_state(self) -> dict[str, Any]:
        """Everything needed to go on later: {'points': int32 [n, 3] or None, 'index': int}."""
        return {'points': self._points, 'index': self._index}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from what `get_state` returned."""
        self._points, self._index = state['points'], int(state['index'])


def sort_zyx(points: np.ndarray) -> np.ndarray:
    """Sorts points ascending by z, then y, then x."""
    return points[np.lexsort(points.T[::-1])]


def tie_noise(shape: tuple[int, ...]) -> np.ndarray:
    """Noise below any real difference of distances, which decides between equal ones.

    Drawn with NumPy's legacy generator and a fixed seed: existing results depend on it.
    """
    return np.random.RandomState(42).rand(*shape) * 1e-4


def edges(image: np.ndarray) -> np.ndarray:
    """Where the gradient is greater than around: bool, the image's shape.

    Args:
      image: float32 [z, y, x] or [y, x].
    """
    gradient = ndimage.generic_gradient_magnitude(image, ndimage.sobel)
    return gradient > _smoothed(gradient, 49 / 6)


def _smoothed(array: np.ndarray, sigma: float) -> np.ndarray:
    """`ndimage.gaussian_filter`, bit for bit, on several cores: lines along an axis are filtered alone."""
    workers = min(os.cpu_count() or 1, 8)
    with ThreadPoolExecutor(workers) as pool:
        for axis in range(array.ndim):
            across = 1 if axis == 0 else 0
            bounds = np.linspace(0, array.shape[across], workers + 1, dtype=int)
            parts = [
                (slice(None),) * across + (slice(a, b),)
                for a, b in itertools.pairwise(bounds.tolist())
                if a < b
            ]
            source, array = array, np.empty_like(array)
            filter_part = functools.partial(_filter_part, source, array, sigma, axis)
            list(pool.map(filter_part, parts))
    return array


def _filter_part(
    source: np.ndarray, target: np.ndarray, sigma: float, axis: int, part: tuple[slice, ...]
) -> None:
    ndimage.gaussian_filter1d(source[part], sigma, axis, output=target[part], mode='reflect')


def distance(free: np.ndarray, voxel_size: tuple[float, ...]) -> np.ndarray:
    """Distance of each voxel of `free` to the nearest that is not: float32, the array's shape.

    Where everything is free, the distance to the border.
    """
    return edt.edt(
        np.ascontiguousarray(free), anisotropy=voxel_size, black_border=bool(free.all()),
        parallel=os.cpu_count() or 1,
    )  # fmt: skip


def _edge_peaks(
    image: np.ndarray, blocked: np.ndarray, masked: np.ndarray | None, voxel_size: tuple[float, ...],
    min_distance: int, threshold_abs: float,
) -> np.ndarray:  # fmt: skip
    edge = edges(image)
    if masked is not None:
        edge |= masked
    if edge.all():
        return np.zeros((0, image.ndim), dtype=np.int64)
    height = distance(~edge, voxel_size) + tie_noise(image.shape)
    height[blocked] = -1
    return peak_local_max(
        height, min_distance=min_distance, threshold_abs=threshold_abs, threshold_rel=0
    )


def _blocked(view: SeedView) -> np.ndarray:
    blocked = view.segmentation != 0
    return blocked if view.mask is None else blocked | view.mask


class PolicyPeaks(SeedPolicy):
    """Peaks of the distance from edges: the middles of large homogeneous places.

    (Januszewski et al. 2018, Methods: seed list.)
    """

    def points(self) -> np.ndarray:
        """See base class."""
        view = self.view
        return sort_zyx(
            _edge_peaks(view.image, _blocked(view), view.mask, view.voxel_size_zyx, 3, 0)
        )


class PolicyPeaks2d(SeedPolicy):
    """PolicyPeaks in every section by itself, for volumes with thick or shifting sections."""

    def __init__(self, view: SeedView, min_distance: int = 7, threshold_abs: float = 2.5,
                 sort_cmp: str = 'ascending'):  # fmt: skip
        """Makes a policy.

        Args:
          view: the canvas.
          min_distance: least distance of two seeds, voxels.
          threshold_abs: least distance from an edge.
          sort_cmp: order of the sections, 'ascending' or 'descending' in z.
        """
        super().__init__(view)
        if sort_cmp not in ('ascending', 'descending'):
            raise ValueError(f"sort_cmp is {sort_cmp!r}; expected 'ascending' or 'descending'")
        self._args = min_distance, threshold_abs
        self._descending = sort_cmp == 'descending'

    def points(self) -> np.ndarray:
        """See base class."""
        view, blocked = self.view, _blocked(self.view)
        found = []
        for z in range(view.image.shape[0]):
            mask = None if view.mask is None else view.mask[z]
            peaks = sort_zyx(
                _edge_peaks(view.image[z], blocked[z], mask, view.voxel_size_zyx[1:], *self._args)
            )
            found.append(np.insert(peaks, 0, z, axis=1))
        return np.concatenate(found[::-1] if self._descending else found)


class PolicyFillEmptySpace(SeedPolicy):
    """Peaks of the distance from all segments: the middles of what is still empty."""

    def points(self) -> np.ndarray:
        """See base class."""
        height = distance(self.view.segmentation == 0, self.view.voxel_size_zyx)
        if self.view.mask is not None:
            height[self.view.mask] = -1
        height = height + tie_noise(height.shape)
        return sort_zyx(peak_local_max(height, min_distance=2, threshold_abs=0.5, threshold_rel=0))
