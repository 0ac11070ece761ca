"""Segmented subvolumes made one volume: overlaps matched, ids reconciled, chunks written.

    python -m ffn.assembly.assemble --segmentation results --output zarr://whole.zarr \
      --bounding_box 'start { x:0 y:0 z:0 } size { x:2000 y:2000 z:1000 }' \
      --subvolume_size 544,544,544 --overlap 32,32,32

for subvolumes that run_inference.py, run_consensus or anything else left as X/Y/seg-X_Y_Z.npz;
ffn.assembly.segment_volume does this and segments before. Every step leaves a file, and a run that
was stopped goes on with what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.assembly.matching import Matching
from ffn.assembly.overlaps import match_row
from ffn.assembly.reconcile import Tables, overlaps_of, reconcile
from ffn.assembly.tiling import Places, Tiling
from ffn.assembly.write import CHANGED, write_block, write_hdf5
from ffn.cli.assembly_flags import (
    add_arguments,
    matching_of,
    output_of,
    tiling_of,
)
from ffn.distributed.pool import Pool, open_pool, run_stage
from ffn.inference import inference_pb2, storage
from ffn.inference.request import absolute_paths, read_box
from ffn.utils import protos
from ffn.utils.atomic import write_npy
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Xyz
from ffn.utils.locks import exclusive_directory
from ffn.utils.progress import progress
from ffn.utils.startup import show_log
from ffn.volumes import provenance
from ffn.volumes.masks import Mask, MaskBuilder
from ffn.volumes.outputs import OutputSpec
from ffn.volumes.provenance import read_stamp


@dataclass(frozen=True)
class Assembly:
    """What is put together.

    Attributes:
      directory: the segmentation's folder.
      tiling: where its subvolumes are.
      masks: subvolumes that are masked everywhere do not exist.
      matching: which ids are one object.
      output: what is written.
      folder: where tables, statistics and records go.
    """

    directory: Path
    tiling: Tiling
    masks: inference_pb2.MaskConfigs
    matching: Matching
    output: OutputSpec
    folder: Path

    @property
    def overlaps(self) -> Path:
        """Folder of the overlaps, which other thresholds and outputs share."""
        return self.directory / 'overlaps'

    def configuration(self) -> dict[str, Any]:
        """What decides the output, as JSON."""
        return {
            **tiled(self.tiling, self.masks), 'matching': self.matching.as_dict(),
            'output': self.output.spec, 'chunk_xyz': list(self.output.chunk),
            **({'voxel_size_xyz': list(self.output.voxel_size)} if self.output.has_voxel_size else {}),
        }  # fmt: skip


def tiled(tiling: Tiling, masks: inference_pb2.MaskConfigs) -> dict[str, Any]:
    """The configuration that decides which subvolumes there are."""
    return {'tiling': tiling.as_dict(), 'masks': str(masks)}


def places_of(
    tiling: Tiling, masks: inference_pb2.MaskConfigs, folder: Path, pool: Pool, quiet: bool = False
) -> Places:
    """Finds the subvolumes that are not masked everywhere.

    Args:
      tiling: where the subvolumes are.
      masks: none, or those that leave out some.
      folder: keeps the answer, beside those for other tilings and masks.
      pool: carries out the tasks.
      quiet: no progress bar.

    Raises:
      UserError: masks that do not cover the box.
    """
    places = Places(tiling)
    if not masks.masks:
        return places
    folder = folder / 'present' / provenance.digest(tiled(tiling, masks))[:16]
    path = folder / 'all.npy'
    if path.exists():
        places.there = np.load(path)
        return places
    rows = {row: folder / '{}_{}.npy'.format(*row) for row in np.ndindex(tiling.grid.zyx[:2])}
    left = [row for row, file in rows.items() if not file.exists()]
    text = masks.SerializeToString()
    tasks = ((text, tiling, *row, rows[row]) for row in left)
    for _ in run_stage(pool, look_at_masks, tasks, len(left), 'masks', quiet, unit='row'):
        pass
    for row, file in rows.items():
        places.there[row] = np.load(file)
    write_npy(path, places.there)
    return places


def look_at_masks(masks: bytes, tiling: Tiling, z: int, y: int, path: Path) -> None:
    """Writes which subvolumes of a row along x are not masked everywhere.

    Args:
      masks: MaskConfigs, serialised.
      tiling: where the subvolumes are.
      z: place of the row.
      y: the same.
      path: npy, takes bool [x].

    Raises:
      UserError: masks that do not cover the subvolumes.
    """
    configs = [Mask.from_proto(m) for m in inference_pb2.MaskConfigs.FromString(masks).masks]
    there = np.ones(tiling.grid.x, bool)
    with MaskBuilder() as builder:
        for x in range(tiling.grid.x):
            there[x] = not builder.build(configs, tiling.subvolume(Xyz(x, y, z))).all()
    write_npy(path, there)


def run(assembly: Assembly, pool: Pool, quiet: bool = False) -> dict[str, Any]:
    """Puts the subvolumes together; does what is missing.

    Args:
      assembly: what to do.
      pool: what carries out the tasks.
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
            _claim_overlaps(assembly)  # says what differs
        places = places_of(assembly.tiling, assembly.masks, assembly.overlaps, pool, quiet)
        _check_there(assembly, places)
        claim_output(assembly)
        _claim_overlaps(assembly)
        crcs = match(assembly, places, pool, quiet)
        statistics = number(assembly, places, crcs, quiet)
        write(assembly, places, crcs, pool, quiet)
    return statistics


def _claim_overlaps(assembly: Assembly) -> None:
    configuration = tiled(assembly.tiling, assembly.masks)
    provenance.claim(assembly.overlaps, configuration, advice='remove it, to count overlaps anew')


def _check_there(assembly: Assembly, places: Places) -> None:
    corners = (assembly.tiling.corner_zyx(place) for place in places)
    missing = [c for c in corners if storage.existing_path(assembly.directory, c, 'npz') is None]
    if missing:
        raise UserError(
            f'{assembly.directory} lacks {len(missing)} of {len(places)} subvolumes, among them that '
            f'at {missing[0].xyz}: {storage.subvolume_path("", missing[0], "npz")}; segment them, or '
            'say with --mask where there are none'
        )


def claim_output(assembly: Assembly) -> None:
    """Makes sure that what is at the output is this run's, or nothing.

    Raises:
      UserError: it is another's.
    """
    output = assembly.output
    output.check()
    there = output.exists()
    if (assembly.folder / provenance.MANIFEST).exists():
        _claim(assembly)  # says what differs
    if there and not read_stamp(output.spec).startswith(_stamp(assembly)):
        raise UserError(
            f'--output {output.spec} exists, and was not begun with {assembly.directory} and these '
            'settings; remove it, or give another one'
        )
    _claim(assembly)


def _claim(assembly: Assembly) -> None:
    provenance.claim(
        assembly.folder, assembly.configuration(),
        advice='remove it, give another --assembly_dir, or the same settings',
    )  # fmt: skip


def _stamp(assembly: Assembly, crcs: np.ndarray | None = None) -> str:
    """What the output is made from: folder and settings, and the labels where they are known."""
    made_from = {**assembly.configuration(), 'segmentation': str(assembly.directory)}
    labels = '' if crcs is None else hashlib.sha256(crcs.tobytes()).hexdigest()
    return f'{provenance.digest(made_from)}-{labels}'


def match(assembly: Assembly, places: Places, pool: Pool, quiet: bool = False) -> np.ndarray:
    """Counts the overlaps of all subvolumes; the first step of `run`.

    Returns:
      uint32 [subvolumes], checksums of their labels.
    """
    tiling = assembly.tiling

    def tasks() -> Iterator[tuple]:
        for _, row in itertools.groupby(tiling.places(), key=lambda place: place[1:]):
            row = [place for place in row if place in places]
            near = [tiling.next_place(place, axis) for place in row for axis in range(3)]
            present = {place for place in (*row, *near) if place is not None and place in places}
            yield assembly.directory, tiling, assembly.overlaps, row, present

    count, crcs = 0, np.zeros(len(tiling), np.uint32)
    for written, found in run_stage(
        pool, match_row, tasks(), len(places), 'overlaps', quiet, weight=lambda task: len(task[3])
    ):
        count += written
        crcs[list(found)] = list(found.values())
    logging.info('overlaps of %d subvolumes counted, %d were there', count, len(places) - count)
    return crcs


def number(
    assembly: Assembly, places: Places, crcs: np.ndarray, quiet: bool = False
) -> dict[str, Any]:
    """Numbers the objects, the second step of `run`.

    Args:
      assembly: what is put together.
      places: the subvolumes that there are.
      crcs: of `match`.
      quiet: no progress bar.

    Returns:
      The statistics.

    Raises:
      UserError: a subvolume is not the one that was reconciled before.
    """
    path = assembly.folder / 'statistics.json'
    if path.exists():
        changed = np.flatnonzero(Tables(assembly.folder).crcs != crcs)
        if len(changed):
            place = next(itertools.islice(assembly.tiling.places(), int(changed[0]), None))
            raise UserError(f'the subvolume at {assembly.tiling.subvolume(place).start} {CHANGED}')
        return json.loads(path.read_text())
    with progress(total=len(places), desc='ids', unit='subvolume', quiet=quiet) as bar:
        overlaps = overlaps_of(assembly.tiling, places, assembly.overlaps)
        return reconcile(
            assembly.tiling, overlaps, assembly.matching, assembly.folder, bar.update
        )  # fmt: skip


def write(
    assembly: Assembly, places: Places, crcs: np.ndarray, pool: Pool, quiet: bool = False
) -> None:
    """Writes the output, the third step of `run`.

    Args:
      assembly: what is put together.
      places: the subvolumes that there are.
      crcs: of `match`.
      pool: carries out the tasks.
      quiet: no progress bar.

    Raises:
      UserError: what is at the output was made from other labels; see also `write_block`.
    """
    tiling, output, folder = assembly.tiling, assembly.output, assembly.folder
    written, stamp, there = folder / 'written', _stamp(assembly, crcs), output.exists()
    if there and read_stamp(output.spec) != stamp:
        raise UserError(f'--output {output.spec} was made from other subvolumes; remove it')
    if not output.parallel:
        if not there:
            with progress(total=len(tiling), desc='writing', unit='subvolume', quiet=quiet) as bar:
                write_hdf5(assembly.directory, tiling, folder, output, stamp, places, bar.update)
        return
    if not there:
        shutil.rmtree(written, ignore_errors=True)
    output.create(stamp)

    def tasks() -> Iterator[tuple]:
        for place in tiling.places():
            block = output.whole_chunks(tiling.core(place))
            owners = (
                set() if block.empty else set(filter(places.__contains__, tiling.owners(block)))
            )
            if owners:
                done = written / str(place.z) / str(place.y) / str(place.x)
                yield assembly.directory, tiling, folder, output, owners, done, place

    count = sum(run_stage(pool, write_block, tasks(), len(places), 'writing', quiet))
    output.finish(stamp)
    logging.info('blocks of %d subvolumes written', count)


def describe(statistics: dict[str, Any], assembly: Assembly) -> str:
    """Says in a few lines what came out."""
    s = statistics
    return (
        f'{s["subvolumes"]} subvolumes, {s["ids"]} ids in them; {s["pairs_of_subvolumes"]} pairs of '
        f'neighbours share {s["candidates"]} pairs of ids, of which {s["edges"]} are one object\n'
        f'{s["conflicts"]} ids matched several of a neighbour; {s["joined_within_subvolumes"]} were '
        f'joined with another one of their subvolume\n'
        f'{s["objects_in_cores"]} objects, {s["voxels"] / max(_size(assembly), 1):.1%} of the box; '
        f'written to {assembly.output.spec}; statistics in {assembly.folder / "statistics.json"}'
    )


def _size(assembly: Assembly) -> int:
    x, y, z = assembly.tiling.box.size
    return x * y * z


def main(argv: Sequence[str] | None = None) -> None:
    """Assembles as the command line says.

    Raises:
      UserError: see `run`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.assembly.assemble', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--segmentation', required=True, metavar='FOLDER',
                        help='segmentation_output_dir of the subvolumes')  # fmt: skip
    add_arguments(parser, box_required=True)
    args = parser.parse_args(argv)
    masks = inference_pb2.MaskConfigs()
    if args.mask:
        protos.read_text_or_file(args.mask, masks, '--mask')
    tiling = tiling_of(args, read_box(args.bounding_box))
    absolute_paths(masks)
    directory = Path(os.path.abspath(args.segmentation))
    assembly = Assembly(
        directory, tiling, masks, matching_of(args), output_of(args, tiling),
        Path(os.path.abspath(args.assembly_dir or directory / 'assembly')),
    )  # fmt: skip
    logging.info('%s', tiling)
    with open_pool(args.scheduler, args.workers) as pool:
        statistics = run(assembly, pool, args.quiet)
    print(describe(statistics, assembly))


if __name__ == '__main__':
    show_log()
    run_tool(main)
