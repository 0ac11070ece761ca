"""Arrays as the libraries that work on voxels take them."""

from __future__ import annotations

import numpy as np


def native(array: np.ndarray) -> np.ndarray:
    """Returns an array in this machine's byte order; it is copied only if it has the other one.

    What reads files calls this. Later, bytes in the other order would be a wrong result: fastremap refuses
    them, and edt takes every distance for 0.

    Args:
      array: of any shape and type.
    """
    return array.astype(array.dtype.newbyteorder('='), copy=False)
