"""Segmented subvolumes made one volume: overlaps counted, ids matched and made global, chunks written.

Files on disk are the only record of progress: a stopped run resumes with what is missing, and
results of other settings are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

from ffn.assembly.config import Assembly
from ffn.assembly.masked import find_unmasked_subvolumes
from ffn.assembly.overlaps import count_row, read_overlaps
from ffn.assembly.reconcile import STATISTICS, Tables, again, reconcile
from ffn.assembly.same_inputs import SameInputs
from ffn.assembly.tiling import SubvolumeSet
from ffn.assembly.write import CHANGED, write_block, write_hdf5
from ffn.distributed.pool import Pool, run_stage
from ffn.inference import storage
from ffn.utils.checksums import digest, unsealed
from ffn.utils.errors import UserError
from ffn.utils.geometry import Xyz
from ffn.utils.locks import exclusive_directory
from ffn.utils.progress import progress
from ffn.volumes import provenance
from ffn.volumes.provenance import read_stamp


def assemble(assembly: Assembly, pool: Pool, quiet: bool = False) -> dict[str, Any]:
    """Makes one volume of the subvolumes; does what is missing.

    Args:
      assembly: what to do.
      pool: runs the tasks.
      quiet: no progress bars.

    Returns:
      The statistics of the reconciliation.

    Raises:
      UserError: subvolumes that are missing, damaged or do not fit; an output that exists; folders
        that hold results of other settings.
    """
    if not assembly.directory.is_dir():
        raise UserError(f'--segmentation {assembly.directory}: there is no such folder')
    with exclusive_directory(assembly.folder):
        if (assembly.overlaps / provenance.MANIFEST).exists():
            _claim_overlaps(assembly)  # before masks are read: names what differs
        present = find_unmasked_subvolumes(
            assembly.tiling, assembly.masks, assembly.overlaps, pool, quiet
        )
        _check_complete(assembly, present)
        claim_output(assembly)
        _claim_overlaps(assembly)
        crcs = count_overlaps(assembly, present, pool, quiet)
        statistics = assign_global_ids(assembly, present, crcs, quiet)
        write_output(assembly, present, crcs, pool, quiet)
    return statistics


def _check_complete(assembly: Assembly, present: SubvolumeSet) -> None:
    corners = (assembly.tiling.corner_zyx(place) for place in present)
    missing = [c for c in corners if storage.existing_path(assembly.directory, c, 'npz') is None]
    if missing:
        raise UserError(
            f'{assembly.directory} lacks {len(missing)} of {len(present)} subvolumes, among them that '
            f'at {missing[0].xyz}: {storage.subvolume_path("", missing[0], "npz")}; segment them, or '
            'say with --mask where there are none'
        )


def _claim_overlaps(assembly: Assembly) -> None:
    provenance.claim(assembly.overlaps, assembly.tiled, advice='remove it, to count overlaps again')


def claim_output(assembly: Assembly) -> None:
    """Makes sure that the output either does not exist or belongs to this assembly.

    Raises:
      UserError: it belongs to another one, or cannot be written.
    """
    output = assembly.output
    output.check()
    exists = output.exists()
    if (assembly.folder / provenance.MANIFEST).exists():
        _claim_folder(assembly)  # before the stamp is compared: names what differs
    if exists and not read_stamp(output.spec).startswith(_make_stamp(assembly)):
        raise UserError(
            f'--output {output.spec} exists, and was not started with {assembly.directory} and these '
            'settings; remove it, or give another one'
        )
    output.check_stored_voxel_size()
    _claim_folder(assembly)


def _claim_folder(assembly: Assembly) -> None:
    provenance.claim(
        assembly.folder,
        assembly.as_dict(),
        advice='remove it, give another --assembly_dir, or the same settings',
    )


def _make_stamp(assembly: Assembly, crcs: np.ndarray | None = None) -> str:
    """Identifies what the output is made from: folder and settings, and the labels once they are known."""
    made_from = {**assembly.as_dict(), 'segmentation': str(assembly.directory)}
    labels = '' if crcs is None else hashlib.sha256(crcs.tobytes()).hexdigest()
    return f'{digest(made_from)}-{labels}'


def count_overlaps(
    assembly: Assembly, present: SubvolumeSet, pool: Pool, quiet: bool = False
) -> np.ndarray:
    """Counts the overlaps of all subvolumes; the first step of `assemble`.

    Returns:
      uint32 [subvolumes], checksums of their labels.

    Raises:
      UserError: subvolumes that are missing, damaged or were made from different inputs.
    """
    tiling = assembly.tiling

    def tasks() -> Iterator[tuple[Any, ...]]:
        for _, places in itertools.groupby(tiling.places(), key=lambda place: place[1:]):
            row = [place for place in places if place in present]
            near = [tiling.next_place(place, axis) for place in row for axis in range(3)]
            needed = {place for place in (*row, *near) if place is not None and place in present}
            yield assembly.directory, tiling, assembly.overlaps, row, needed

    count, unlabelled, crcs = 0, 0, np.zeros(len(tiling), np.uint32)
    same = SameInputs(tiling)
    stage = run_stage(
        pool, count_row, tasks(), len(present), 'overlaps', quiet, weight=lambda task: len(task[3])
    )
    with contextlib.closing(stage) as rows:
        for row in rows:
            count += row.written
            unlabelled += row.unlabelled
            crcs[list(row.crcs)] = list(row.crcs.values())
            for place, made_with in row.made_with:
                same.add(place, made_with)
    same.tell(assembly.directory)
    if unlabelled:
        logging.warning(
            '%s: in %d subvolumes, voxels with the label 2^64-1 are not labelled; they are background',
            assembly.directory,
            unlabelled,
        )
    logging.info('overlaps of %d subvolumes counted, %d were there', count, len(present) - count)
    return crcs


def assign_global_ids(
    assembly: Assembly, present: SubvolumeSet, crcs: np.ndarray, quiet: bool = False
) -> dict[str, Any]:
    """Gives the ids of all subvolumes that are one object one number; the second step of `assemble`.

    Args:
      assembly: what to do.
      present: the subvolumes that exist.
      crcs: of `count_overlaps`.
      quiet: no progress bar.

    Returns:
      The statistics.

    Raises:
      UserError: a subvolume has changed since it was reconciled.
    """
    path = assembly.folder / STATISTICS
    if path.exists():
        changed = np.flatnonzero(Tables(assembly.folder).crcs[:] != crcs)
        if len(changed):
            place = next(itertools.islice(assembly.tiling.places(), int(changed[0]), None))
            raise UserError(f'the subvolume at {assembly.tiling.subvolume(place).start} {CHANGED}')
        return unsealed(path.read_bytes(), path, again(assembly.folder))
    with progress(total=len(present), desc='ids', unit='subvolume', quiet=quiet) as bar:
        overlaps = read_overlaps(assembly.tiling, present, assembly.overlaps)
        return reconcile(assembly.tiling, overlaps, assembly.matching, assembly.folder, bar.update)


def write_output(
    assembly: Assembly, present: SubvolumeSet, crcs: np.ndarray, pool: Pool, quiet: bool = False
) -> None:
    """Writes the volume; the third step of `assemble`.

    Args:
      assembly: what to do.
      present: the subvolumes that exist.
      crcs: of `count_overlaps`.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: the output was made from other labels; see also `write_block`.
    """
    tiling, output, folder = assembly.tiling, assembly.output, assembly.folder
    written, stamp, exists = folder / 'written', _make_stamp(assembly, crcs), output.exists()
    if exists and read_stamp(output.spec) != stamp:
        raise UserError(f'--output {output.spec} was made from other subvolumes; remove it')
    if not output.parallel:
        if not exists:
            with progress(total=len(tiling), desc='writing', unit='subvolume', quiet=quiet) as bar:
                write_hdf5(assembly.directory, tiling, folder, output, stamp, present, bar.update)
        return
    if not exists:
        shutil.rmtree(written, ignore_errors=True)
    output.create(stamp)

    def tasks() -> Iterator[tuple[Any, ...]]:
        for place in tiling.places():
            block = output.whole_chunks(tiling.core(place))
            owners: set[Xyz] = set()
            if not block.empty:
                owners = {owner for owner in tiling.owners(block) if owner in present}
            if owners:
                done = written / str(place.z) / str(place.y) / str(place.x)
                yield assembly.directory, tiling, folder, output, owners, done, place

    count = sum(run_stage(pool, write_block, tasks(), len(present), 'writing', quiet))
    output.finish(stamp)
    logging.info('blocks of %d subvolumes written', count)


def describe(statistics: dict[str, Any], assembly: Assembly) -> str:
    """Summarizes the result in a few lines."""
    s = statistics
    x, y, z = assembly.tiling.box.size
    return (
        f'{s["subvolumes"]} subvolumes, {s["ids"]} ids in them; {s["pairs_of_subvolumes"]} pairs of '
        f'neighbours share {s["candidates"]} pairs of ids, of which {s["edges"]} are one object\n'
        f'{s["conflicts"]} ids matched several of a neighbour; {s["joined_within_subvolumes"]} joins of ids of one '
        'subvolume came about through others\n'
        f'{s["objects_in_cores"]} objects, {s["voxels"] / max(x * y * z, 1):.1%} of the box; '
        f'written to {assembly.output.spec}; statistics in {assembly.folder / STATISTICS}'
    )
