"""Random changes of examples that leave them plausible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
