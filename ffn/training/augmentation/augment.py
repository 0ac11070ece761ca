"""Applying augmentation to an example: geometry and intensities, then permuted and reflected axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffn.training.augmentation import warps
from ffn.training.augmentation.config import AugmentationConfig
from ffn.training.augmentation.intensity import change_intensity
from ffn.utils.geometry import Zyx


def augment(
    image: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    size: Zyx,
    config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Changes an example at random: first its geometry, then its intensities.

    The voxel in the centre, index (n - 1) // 2 along each axis (of even sizes too), keeps its label and,
    before changes of intensity, its value.

    Args:
      image: float32 [z, y, x], normalized: the patch with a margin on each side, of
        `required_margin(config, size)` or more. A smaller margin, for instance at the border of a
        volume, must be equal on both sides; missing voxels repeat the outermost ones and get weight 0.
      labels: of that shape and any type.
      weights: float32 of that shape.
      size: of the patch.
      config: what may be changed.
      rng: random generator; the same state gives the same result.

    Returns:
      Image, labels and weights of the patch, contiguous and of the given types. They are new arrays,
      unless the config changes nothing: then they are views of the given ones.

    Raises:
      ValueError: shapes that differ, or are not that of the patch with a margin.
    """
    margins = [(n - s) // 2 for n, s in zip(image.shape, size, strict=True)]
    middle = tuple(slice(m, m + s) for m, s in zip(margins, size, strict=True))
    expected = tuple(s + 2 * m for m, s in zip(margins, size, strict=True))
    if not image.shape == labels.shape == weights.shape == expected or min(margins) < 0:
        raise ValueError(
            f'image {image.shape}, labels {labels.shape} and weights {weights.shape} must have one '
            f'shape, that of the patch {tuple(size)} with the same margin on both sides'
        )
    if not config.chosen():
        return image[middle], labels[middle], weights[middle]
    warp = warps.draw(config, size, rng)
    if warp is None:
        image, labels, weights = (array[middle].copy() for array in (image, labels, weights))
    else:
        image, labels, weights = warps.resample(image, labels, weights, size, warp)
    change_intensity(image, config, rng)
    return image, labels, weights


def permute_and_reflect(
    arrays: Sequence[np.ndarray],
    permutable_axes: Sequence[int],
    reflectable_axes: Sequence[int],
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Permutes axes at random, then reverses each with probability one half; all arrays alike.

    Args:
      arrays: [z, y, x] each, of one shape.
      permutable_axes: z, y, x indices of axes that may be exchanged with each other.
      reflectable_axes: z, y, x indices of axes that may be reversed.
      rng: random generator.

    Returns:
      Views of the arrays.
    """
    order = np.arange(3)
    order[list(permutable_axes)] = rng.permutation(list(permutable_axes))
    flip = tuple(
        slice(None, None, -1 if axis in reflectable_axes and rng.random() < 0.5 else 1)
        for axis in range(3)
    )
    return [array.transpose(order)[flip] for array in arrays]
