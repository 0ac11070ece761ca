"""Which subvolumes of a tiling have voxels that are not masked.

Workers determine it, row by row along x; the answer is kept in a file, as masks of a large volume take
time to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ffn.assembly.config import describe_tiling
from ffn.assembly.tiling import SubvolumeSet, Tiling
from ffn.distributed.pool import Pool, run_stage
from ffn.utils.checksums import digest, read_checked_npy, write_checked_npy
from ffn.utils.geometry import Xyz
from ffn.volumes.masks import Mask, MaskBuilder


def find_unmasked_subvolumes(
    tiling: Tiling, masks: Sequence[Mask], folder: Path, pool: Pool, quiet: bool = False
) -> SubvolumeSet:
    """Finds the subvolumes that are not masked everywhere.

    Args:
      tiling: where the subvolumes are.
      masks: may be empty.
      folder: keeps the answer, beside those for other tilings and masks.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: masks that do not cover the box.
    """
    found = SubvolumeSet(tiling)
    if not masks:
        return found
    folder = folder / 'present' / digest(describe_tiling(tiling, masks))[:16]
    path = folder / 'all.npy'
    if path.exists():
        found.present = read_checked_npy(path, f'remove {folder}, and run again')
        return found
    rows = {
        (z, y): folder / f'{z}_{y}.npy' for z in range(tiling.grid.z) for y in range(tiling.grid.y)
    }
    left = [row for row, file in rows.items() if not file.exists()]
    tasks = ((masks, tiling, *row, rows[row]) for row in left)
    for _ in run_stage(pool, write_unmasked_row, tasks, len(left), 'masks', quiet, unit='row'):
        pass
    for row, file in rows.items():
        found.present[row] = read_checked_npy(file, f'remove {folder}, and run again')
    write_checked_npy(path, found.present)
    return found


def write_unmasked_row(masks: Sequence[Mask], tiling: Tiling, z: int, y: int, path: Path) -> None:
    """Writes which subvolumes of a row along x are not masked everywhere.

    Args:
      masks: they are combined by OR.
      tiling: where the subvolumes are.
      z: place of the row in the grid.
      y: the same.
      path: npy to write, bool [x].

    Raises:
      UserError: masks that do not cover the subvolumes.
    """
    present = np.ones(tiling.grid.x, bool)
    with MaskBuilder() as builder:
        for x in range(tiling.grid.x):
            mask = builder.build(masks, tiling.subvolume(Xyz(x, y, z)))
            present[x] = mask is None or not mask.all()
    write_checked_npy(path, present)
