"""The classical baseline: a seeded watershed, with a small grid of its settings.

Smoothing, a map that is high at membranes, markers where the insides of objects are thick, and the
watershed of the map from these markers (scikit-image). Membranes are dark in EM, so that the map is
the darkness itself, the gradient magnitude, or the curvature across dark sheets.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from scipy import ndimage
from skimage.feature import hessian_matrix, hessian_matrix_eigvals, peak_local_max
from skimage.segmentation import watershed

# Components of markers with fewer voxels are noise.
SMALLEST_MARKER = 50


class Settings(NamedTuple):
    """One way to do it.

    Attributes:
      height: 'dark', 'gradient' or 'ridge': the map.
      sigma: of the smoothing, voxels.
      markers: 'cores': the connected parts of the inside that are at least `radius` from a membrane;
        'peaks': its points farthest from a membrane, at least `radius` apart.
      inside: part of the voxels, those of lowest map, that counts as inside.
      radius: voxels.
    """

    height: str
    sigma: float
    markers: str
    inside: float
    radius: float

    def __str__(self) -> str:
        return (
            f'{self.height}, sigma {self.sigma:g}, {self.markers} of the lowest {self.inside:.0%}, '
            f'radius {self.radius:g}'
        )


def _grid() -> tuple[Settings, ...]:
    """Finest where it is best on training_sample2; a map's settings are neighbours."""
    fine = list(itertools.product((0.35, 0.4, 0.45, 0.5), (1, 1.5, 2)))
    grid = [Settings('dark', sigma, 'cores', *way) for sigma in (0.5, 0.75, 1.0) for way in fine]
    coarse = itertools.product((1.5, 2.5), (0.4, 0.5, 0.6), (1, 2, 3))
    grid += [Settings('gradient', sigma, 'cores', *way) for sigma, *way in coarse]
    for way in itertools.product((0.5, 0.6), (2, 5)):
        grid.append(Settings('ridge', 1.5, 'cores', *way))
    grid += [Settings(height, 1.5, 'peaks', 0.8, 20) for height in ('dark', 'gradient', 'ridge')]
    return tuple(sorted(grid))


GRID = _grid()


def height_map(image: np.ndarray, kind: str, sigma: float) -> np.ndarray:
    """A map that is high at membranes.

    Args:
      image: [z, y, x], membranes are dark.
      kind: see `Settings`.
      sigma: voxels.

    Returns:
      float32 [z, y, x].
    """
    image = image.astype(np.float32)
    if kind == 'dark':
        return -ndimage.gaussian_filter(image, sigma)
    if kind == 'gradient':
        return ndimage.gaussian_gradient_magnitude(image, sigma)
    hessian = hessian_matrix(image, sigma=sigma, order='rc', use_gaussian_derivatives=False)
    return hessian_matrix_eigvals(hessian)[0].astype(np.float32)


def markers(height: np.ndarray, settings: Settings) -> np.ndarray:
    """Where objects begin: int32 [z, y, x], 0 elsewhere."""
    inside = height < np.quantile(height[::2, ::2, ::2], settings.inside)
    distance = edt.edt(np.ascontiguousarray(inside))
    if settings.markers == 'cores':
        cores = cc3d.connected_components(distance >= settings.radius, connectivity=6)
        return cc3d.dust(cores, threshold=SMALLEST_MARKER, connectivity=6).astype(np.int32)
    smooth = ndimage.gaussian_filter(distance, 1)
    points = peak_local_max(
        smooth, min_distance=int(settings.radius), threshold_abs=1, exclude_border=False
    )
    found = np.zeros(height.shape, np.int32)
    found[tuple(points.T)] = np.arange(1, len(points) + 1)
    return found


def segmentations(
    image: np.ndarray, grid: Sequence[Settings]
) -> Iterator[tuple[Settings, np.ndarray]]:
    """Segments an image with each of the settings; those with the same map should be neighbours.

    Args:
      image: [z, y, x].
      grid: the settings, such as GRID.

    Yields:
      Settings and int32 labels [z, y, x]; without those that find no marker at all.
    """
    for (kind, sigma), group in itertools.groupby(grid, key=lambda s: (s.height, s.sigma)):
        height = height_map(image, kind, sigma)
        for settings in group:
            begin = markers(height, settings)
            if begin.any():
                yield settings, watershed(height, begin)
