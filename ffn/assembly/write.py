"""Writing the whole volume, a block of chunks for each subvolume.

A voxel has one owner, the subvolume whose core it lies in, and carries the object of its id there;
where its owner left it empty, it is background, even if a neighbour that shares it did not: a
border between two objects stays one. The chunks that begin in a core are written by one task, which
reads what they hold of the cores behind as well, so that no chunk is ever written by two. Where cores
end with chunks (the default chunks are chosen so), each subvolume is read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from pathlib import Path

import numpy as np

from ffn.assembly.overlaps import Subvolumes
from ffn.assembly.reconcile import Tables
from ffn.assembly.tiling import Tiling
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, both_orders
from ffn.utils.labels import remap
from ffn.volumes.outputs import OutputSpec

CHANGED = 'has changed since its ids were reconciled; remove the output and the assembly folder, and run again'
_CHUNK = 64
_SMALLEST = 24


def default_chunk(tiling: Tiling) -> Xyz:
    """Sides of at most 64 voxels, so that cores end with chunks where that is possible."""
    sides = []
    for count, stride, start, extent in zip(
        tiling.grid, tiling.stride, tiling.box.start, tiling.box.size, strict=True
    ):
        repeat = math.gcd(stride, start) if count > 1 else 0
        divisors = [n for n in range(_SMALLEST, _CHUNK + 1) if repeat % n == 0]
        length = extent if start < 0 else start + extent  # other arrays than precomputed begin at 0
        sides.append(min(divisors[-1] if divisors else _CHUNK, length))
    return Xyz(*sides)


def check_chunk(chunk: Xyz) -> None:
    """Checks the size of a chunk.

    Raises:
      UserError: a side is not positive.
    """
    if min(chunk) < 1:
        raise UserError(f'chunk size is {both_orders(chunk)}; expected positive sides')


def relabelled(
    subvolumes: Subvolumes, tables: Tables, present: Container[Xyz], box: Box
) -> np.ndarray | None:
    """Puts together what the cores hold of a box.

    Args:
      subvolumes: reads them.
      tables: objects of their ids.
      present: places that were segmented; the others are background.
      box: absolute.

    Returns:
      uint64 [z, y, x], or None where no subvolume was segmented.

    Raises:
      UserError: a subvolume that is missing, damaged, or not the one that was reconciled.
    """
    tiling, block = subvolumes.tiling, None
    for place in tiling.owners(box):
        if place not in present:
            continue
        part = tiling.core(place).intersection(box)
        if subvolumes.crcs(place)[0] != tables.crcs[tiling.number(place)]:
            raise UserError(f'{subvolumes.path(place)} {CHANGED}')
        labels = subvolumes.read_box(place, part)
        ids, objects = tables.of_subvolume(tiling.number(place))
        new = remap(labels, ids, objects, others='background')
        if part == box:
            return new
        block = np.zeros(box.size.zyx, np.uint64) if block is None else block
        block[part.relative_to(box.start).slices_zyx] = new
    return block


def write_block(
    directory: str | Path, tiling: Tiling, tables: str | Path, output: OutputSpec,
    present: Container[Xyz], done: Path, place: Xyz,
) -> bool:  # fmt: skip
    """Writes the chunks of one core to a volume that several processes may write to.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      tables: folder of the reconciliation.
      output: the volume, which exists.
      present: the place and the next ones, as far as they were segmented.
      done: file that is made when the chunks are written; if it exists, nothing is done.
      place: whose chunks.

    Returns:
      Whether they were written now.

    Raises:
      UserError: see `relabelled`.
    """
    if done.exists():
        return False
    box = output.whole_chunks(tiling.core(place))
    if not box.empty:
        labels = relabelled(Subvolumes(directory, tiling), Tables(tables), present, box)
        if labels is not None:
            output.open_parallel().write(box, labels)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    return True


def write_hdf5(
    directory: str | Path, tiling: Tiling, tables: str | Path, output: OutputSpec, stamp: str,
    present: Container[Xyz], tick: Callable[[], object] = lambda: None,
) -> None:  # fmt: skip
    """Writes an HDF5 dataset, which appears whole or not at all.

    Args:
      directory: the segmentation's folder.
      tiling: where the subvolumes are.
      tables: folder of the reconciliation.
      output: the dataset.
      stamp: see `ffn.volumes.provenance`.
      present: places that were segmented.
      tick: called after each core.

    Raises:
      UserError: see `relabelled`; also a file that cannot be written to.
    """
    subvolumes, opened = Subvolumes(directory, tiling), Tables(tables)
    with output.replace_hdf5(stamp) as target:
        for place in tiling.places():
            box = output.whole_chunks(tiling.core(place))
            labels = None if box.empty else relabelled(subvolumes, opened, present, box)
            if labels is not None:
                target.write(box, labels)
            tick()
