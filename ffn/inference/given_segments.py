"""What a result tells of the segments that were there before any object grew: those of init_segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffn.inference import storage
from ffn.utils.errors import UserError
from ffn.utils.npz import read_npz
from ffn.volumes.provenance import SEGMENT_AGAIN


def read_given_ids(path: str | Path) -> np.ndarray:
    """What the first ids of a subvolume, from 0, are called in init_segmentation.

    Args:
      path: npz of the subvolume.

    Returns:
      uint64 [n]; empty without init_segmentation.
    """
    name = 'init_segmentation_ids'
    given = read_npz(path, [name], [], (), SEGMENT_AGAIN).get(name)
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


def load_seeds(
    directory: str | Path, corner_zyx: Sequence[int], shape: Sequence[int] | None = None
) -> np.ndarray:
    """Loads where the objects of a finished subvolume were seeded, also those that joined one of init_segmentation.

    Args:
      directory: the segmentation's folder.
      corner_zyx: first voxel of the subvolume.
      shape: its shape [z, y, x], where it is known; a file that declares far more is refused.

    Returns:
      int32 [n, 3], z, y, x, in the order in which they grew.

    Raises:
      UserError: no such subvolume, or a file that is damaged or unsafe.
    """
    seeds = [
        (i, 0, origin.start_zyx)
        for i, origin in storage.load_origins(directory, corner_zyx, shape).items()
    ]
    path = storage.existing_path(directory, corner_zyx, 'npz')
    joined = {} if path is None else read_npz(path, ['joined_seeds'], [], shape, SEGMENT_AGAIN)
    rows = joined.get('joined_seeds', np.zeros((0, 5), np.int64))
    if rows.ndim != 2 or rows.shape[1] != 5 or rows.dtype.kind not in 'iu':
        raise UserError(f'{path}: joined_seeds is {rows.dtype} of shape {rows.shape}')
    for number, (z, y, x, _, greatest) in enumerate(rows.tolist(), 1):
        seeds.append((greatest, number, (z, y, x)))  # after the object that was new then
    return np.array([start for *_, start in sorted(seeds)], np.int32).reshape(-1, 3)
