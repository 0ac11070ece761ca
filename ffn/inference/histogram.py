"""Matches the intensities of an image to those of the volume on which a network was trained."""

from __future__ import annotations

import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz


def load_reference(path: str) -> np.ndarray:
    """Loads the cumulative histogram of a reference volume.

    Args:
      path: npz with `cdf`, 256 ascending numbers up to 1, or `histogram`, 256 counts.

    Returns:
      float64 [256], the last one 1.

    Raises:
      UserError: a file of another kind, or an empty histogram.
    """
    data = read_npz(path, ['cdf', 'histogram'], [], (), 'make it again')
    cdf = data['cdf'] if 'cdf' in data else np.cumsum(data.get('histogram', []))
    if cdf.shape != (256,) or not 0 < cdf[-1] < np.inf or not np.all(np.diff(cdf) >= 0):
        raise UserError(
            f'reference_histogram {path} must hold `histogram`, the counts of the 256 intensities, or '
            '`cdf`, their running sum'
        )
    return cdf / cdf[-1]


def match_sections(
    image: np.ndarray, reference_cdf: np.ndarray, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Matches every section by itself, so that sections of different brightness become alike.

    Args:
      image: uint8 [z, y, x].
      reference_cdf: see `match_histogram`.
      ignored: bool [z, y, x], see `match_histogram`; a section without other voxels stays as it is.

    Returns:
      uint8 [z, y, x].

    Raises:
      UserError: an image of another type.
    """
    counted = [None] * len(image) if ignored is None else ignored
    pairs = zip(image, counted, strict=True)
    return np.stack(
        [match_histogram(section, reference_cdf, skipped) for section, skipped in pairs]
    )


def match_histogram(
    image: np.ndarray, reference_cdf: np.ndarray, ignored: np.ndarray | None = None
) -> np.ndarray:
    """Maps intensities so that the histogram of the image becomes that of the reference.

    Args:
      image: uint8 [z, y, x] or [y, x].
      reference_cdf: float64 [256], see `load_reference`.
      ignored: bool of the same shape, voxels that do not count in the image's histogram.

    Returns:
      uint8 of the same shape.

    Raises:
      UserError: an image of another type.
    """
    if image.dtype != np.uint8:
        raise UserError(f'reference_histogram needs a uint8 image; this one holds {image.dtype}')
    counted = image if ignored is None else image[~ignored]
    if not counted.size:
        return image
    cdf = np.cumsum(np.bincount(counted.ravel(), minlength=256)) / counted.size
    table = np.searchsorted(reference_cdf, cdf - 1e-9).clip(0, 255).astype(np.uint8)
    return table[image]
