"""Random changes of examples that leave them plausible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffn.training.augmentation import warps
from ffn.training.augmentation.config import AugmentationConfig
from ffn.training.augmentation.intensity import change_intensity
from ffn.utils.geometry import Zyx


def augment(
    image: np.ndarray, labels: np.ndarray, weights: np.ndarray, size: Zyx,
    config: AugmentationConfig, rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Changes an example at random: where its voxels come from, then what it looks like.

    The voxel in the centre, index (n - 1) // 2 along each axis, keeps its label and, before changes
    of intensity, its value. Sizes are odd as a rule; for even ones the same index counts.

    Args:
      image: float32 [z, y, x], normalised: a block of the patch with a margin on each side, of
        `config.margin(size)` or more. It may be less, for instance at the border of a volume, as
        long as it is the same on both sides: what is missing is repeated and gets weight 0.
      labels: of that shape and any type.
      weights: float32 of that shape.
      size: of the patch.
      config: what is changed.
      rng: source of chance; the same state gives the same result.

    Returns:
      Image, labels and weights of the patch, contiguous and of the types given; new arrays, but for
      a config without any change, with which they are parts of those given.

    Raises:
      ValueError: shapes that differ, or are not the patch with a margin.
    """
    margins = [(n - s) // 2 for n, s in zip(image.shape, size, strict=True)]
    middle = tuple(slice(m, m + s) for m, s in zip(margins, size, strict=True))
    if not image.shape == labels.shape == weights.shape or image.shape != tuple(
        s + 2 * m for m, s in zip(margins, size, strict=True)
    ) or min(margins) < 0:  # fmt: skip
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
    """Exchanges axes at random, then reverses each with probability one half; all arrays alike.

    Args:
      arrays: [z, y, x] each, of one shape.
      permutable_axes: indices of axes that may be exchanged with each other.
      reflectable_axes: indices of axes that may be reversed.
      rng: source of chance.

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
