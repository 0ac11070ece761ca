"""Writing the whole volume, a block of chunks for each subvolume.

Each voxel is owned by the subvolume whose core it lies in, and gets the object of its id there. If its
owner left it empty, it is background, even if a neighbour that shares it did not: borders between objects
are kept. The chunks that begin in a core are written by one task, which also reads what they contain of
the next cores, so that no two tasks write to a chunk. If cores end with chunks (the default chunks are
chosen so), each subvolume is read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from pathlib import Path

import numpy as np

from ffn.assembly.reconcile import Tables
from ffn.assembly.subvolumes import Subvolumes
from ffn.assembly.tiling import Tiling
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.labels import remap
from ffn.volumes.outputs import OutputSpec

CHANGED = 'has changed since its ids were reconciled; remove the output and the assembly folder, and run again'
_CHUNK = 64
_SMALLEST = 24


def default_chunk(tiling: Tiling) -> Xyz:
    """Chooses sides of at most 64 voxels, so that cores end with chunks where possible."""
    sides = []
    for count, stride, start, extent in zip(
        tiling.grid, tiling.stride, tiling.box.start, tiling.box.size, strict=True
    ):
        repeat = math.gcd(stride, start) if count > 1 else 0
        divisors = [n for n in range(_SMALLEST, _CHUNK + 1) if repeat % n == 0]
        length = extent if start < 0 else start + extent  # other arrays than precomputed begin at 0
        sides.append(min(divisors[-1] if divisors else _CHUNK, length))
    return Xyz(*sides)


def relabel_box(
    subvolumes: Subvolumes, tables: Tables, present: Container[Xyz], box: Box
) -> np.ndarray | None:
    """Reads a box from the cores that it intersects, with global ids.

    Args:
      subvolumes: reads them.
      tables: objects of their ids.
      present: places of subvolumes that exist; the others are background.
      box: in voxels of the image.

    Returns:
      uint64 [z, y, x], or None if none of the subvolumes exists.

    Raises:
      UserError: a subvolume that is missing, damaged, or not the one that was reconciled.
    """
    tiling = subvolumes.tiling
    block: np.ndarray | None = None
    for place in tiling.owners(box):
        part = tiling.core(place).intersection(box)
        if place not in present or part is None:
            continue
        if subvolumes.crcs(place)['segmentation'] != tables.crcs[tiling.index(place)]:
            raise UserError(f'{subvolumes.path(place)} {CHANGED}')
        labels = subvolumes.read_box(place, part)
        ids, objects = tables.look_up(tiling.index(place))
        new = remap(labels, ids, objects, others='background')
        if part == box:
            return new
        block = np.zeros(box.size.zyx, np.uint64) if block is None else block
        block[part.relative_to(box.start).slices_zyx] = new
    return block


def write_block(
    directory: str | Path,
    tiling: Tiling,
    tables: str | Path,
    output: OutputSpec,
    present: Container[Xyz],
    done: Path,
    place: Xyz,
) -> bool:
    """Writes the chunks of one core to a volume that several processes may write at a time.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      tables: folder of the reconciliation.
      output: the volume, which exists.
      present: places of the subvolumes that exist, among this and the next ones.
      done: marker file, created once the chunks are written; if it exists, nothing is done.
      place: whose chunks.

    Returns:
      Whether the chunks were written now.

    Raises:
      UserError: see `relabel_box`.
    """
    if done.exists():
        return False
    box = output.whole_chunks(tiling.core(place))
    if not box.empty:
        labels = relabel_box(Subvolumes(directory, tiling), Tables(tables), present, box)
        if labels is not None:
            output.open_parallel().write(box, labels)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    return True


def write_hdf5(
    directory: str | Path,
    tiling: Tiling,
    tables: str | Path,
    output: OutputSpec,
    stamp: str,
    present: Container[Xyz],
    tick: Callable[[], object] = lambda: None,
) -> None:
    """Writes an HDF5 dataset atomically.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      tables: folder of the reconciliation.
      output: the dataset.
      stamp: see `ffn.volumes.provenance`.
      present: places of the subvolumes that exist.
      tick: called after each core.

    Raises:
      UserError: see `relabel_box`; also a file that cannot be written.
    """
    subvolumes, opened = Subvolumes(directory, tiling), Tables(tables)
    with output.replace_hdf5(stamp) as target:
        for place in tiling.places():
            box = output.whole_chunks(tiling.core(place))
            labels = None if box.empty else relabel_box(subvolumes, opened, present, box)
            if labels is not None:
                target.write(box, labels)
            tick()
