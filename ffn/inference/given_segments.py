"""What a result tells of the segments that were there before any object grew: those of init_segmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffn.utils.npz import read_npz


def read_given_ids(path: str | Path) -> np.ndarray:
    """What the first ids of a subvolume, from 0, are called in init_segmentation.

    Args:
      path: npz of the subvolume.

    Returns:
      uint64 [n]; empty without init_segmentation.
    """
    name = 'init_segmentation_ids'
    given = read_npz(path, [name], [], ()).get(name)
    return np.zeros(0, np.uint64) if given is None else given.astype(np.uint64)


def look_up(given: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """What ids are called in init_segmentation.

    Args:
      given: see `read_given_ids`.
      ids: unsigned [m].

    Returns:
      uint64 [m]; 0 for those that were not there.
    """
    known = ids < len(given)
    found = np.zeros(len(ids), np.uint64)
    found[known] = given[ids[known]]
    return found
