"""A whole volume segmented: subvolume by subvolume, then one id space, one output.

The subvolumes are segmented as run_inference.py does it, into the request's segmentation_output_dir, and
assembled by `ffn.assembly.assembly`. Files on disk are the only record of progress: killed at any time
and restarted, a run resumes; finished subvolumes are kept, others continue from their checkpoints, and
results of other settings are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from absl import logging

from ffn.assembly.assembly import assemble, claim_output
from ffn.assembly.config import Assembly, AssemblyConfig
from ffn.assembly.masked import find_unmasked_subvolumes
from ffn.assembly.tiling import SubvolumeSet, Tiling
from ffn.distributed.pool import Pool
from ffn.inference import request_identity, storage
from ffn.inference.config import InferenceConfig
from ffn.inference.input_identity import claim
from ffn.inference.report import sum_counters
from ffn.inference.runner import Runner
from ffn.inference.worker_network import NetworkFactory, resolve, segment_subvolumes
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.locks import exclusive_directory
from ffn.volumes import provenance
from ffn.volumes.masks import ImageMask, Mask


class NetworkInfo(NamedTuple):
    """What the tiling needs to know of a loaded network.

    Attributes:
      fov: field of view, voxels.
      deltas: a move, voxels.
      precision: what it computes in.
      volume: box of the image.
      edge: voxels on each side of the field of view that it does not predict.
    """

    fov: Xyz
    deltas: Xyz
    precision: str
    volume: Box
    edge: Xyz = Xyz(0, 0, 0)


def describe_network(runner: Runner) -> NetworkInfo:
    """Describes the network of a started runner."""
    info = runner.info
    return NetworkInfo(
        info.input_image_size, info.deltas, runner.precision, runner.volume_box, info.edge
    )


def segment_volume(
    config: InferenceConfig,
    box: Box | None,
    assembly_config: AssemblyConfig,
    pool: Pool,
    quiet: bool = False,
) -> tuple[Assembly, dict[str, Any]]:
    """Segments a volume and assembles it; does what is missing.

    Args:
      config: how subvolumes are segmented; with absolute paths.
      box: part of the image, None for all of it.
      assembly_config: how it is cut and put together.
      pool: runs the tasks.
      quiet: no progress bars.

    Returns:
      The assembly and the statistics of its reconciliation.

    Raises:
      UserError: something does not fit; see also `assemble`.
      SystemExit: stopped by a signal, after checkpoints.
    """
    assembly = segment_all(config, box, assembly_config, pool, quiet, check=claim_output)
    return assembly, assemble(assembly, pool, quiet)


def segment_all(
    config: InferenceConfig,
    box: Box | None,
    assembly_config: AssemblyConfig,
    pool: Pool,
    quiet: bool = False,
    check: Callable[[Assembly], None] = lambda assembly: None,
) -> Assembly:
    """Segments all subvolumes of a volume, as the first part of `segment_volume`; assembles nothing.

    Args:
      config: see `segment_volume`.
      box: likewise.
      assembly_config: likewise.
      pool: likewise.
      quiet: likewise.
      check: called with what is planned before anything is segmented.
    """
    folder = config.results_folder
    with exclusive_directory(folder):
        config = resolve(config, pool)
        with pool.share(NetworkFactory(config)) as workers:
            network = workers.call(describe_network)
            assembly = plan_assembly(config, network, box, assembly_config)
            _claim_folder(config, network, assembly, assembly_config.tiling.masks)
            check(assembly)
            (folder / storage.UNFINISHED).touch()
            subvolumes = find_unmasked_subvolumes(
                assembly.tiling, assembly.masks, assembly.overlaps, pool, quiet
            )
            _log_plan(assembly.tiling, subvolumes)
            _segment_missing(config, assembly, subvolumes, workers, quiet)
        (folder / storage.UNFINISHED).unlink(missing_ok=True)
        return assembly


def plan_assembly(
    config: InferenceConfig,
    network: NetworkInfo,
    box: Box | None,
    assembly_config: AssemblyConfig,
) -> Assembly:
    """Cuts the box into subvolumes that suit the network.

    Raises:
      UserError: a box outside the image, subvolumes that are too small for the network, or that share nothing
        that it predicts.
    """
    clipped = network.volume if box is None else box.intersection(network.volume)
    if clipped is None:
        raise UserError(f'--bounding_box {box} lies outside the image, {network.volume}')
    if box is not None and clipped != box:
        logging.warning('box %s leaves the image; clipped to %s', box, clipped)
    tiling = assembly_config.tiling.tile(clipped)
    tiling.check_network(network.fov, network.deltas)
    _check_overlap(tiling, network.edge)
    _warn_of_small_overlap(tiling, network)
    # Masks of the image's values need the image; they are left to the network's workers.
    own = tuple(m for m in config.masking.masks if not isinstance(m.source, ImageMask))
    masks = assembly_config.tiling.masks + own
    folder = config.results_folder
    return assembly_config.plan(folder, tiling, masks, config.voxel_size)


def _check_overlap(tiling: Tiling, edge: Xyz) -> None:
    """Checks that neighbours share voxels that the network predicts in both."""
    if any(
        count > 1 and overlap <= 2 * rim
        for count, overlap, rim in zip(tiling.grid, tiling.overlap, edge, strict=True)
    ):
        raise UserError(
            f'overlap is {tiling.overlap}; this network predicts nothing of the outermost {edge} voxels of a '
            f'subvolume: expected more than {Xyz(*(2 * n for n in edge))}'
        )


def _warn_of_small_overlap(tiling: Tiling, network: NetworkInfo) -> None:
    for axis in range(3):
        if tiling.grid[axis] > 1 and tiling.overlap[axis] < network.fov[axis] - 1:
            logging.warning(
                'overlap %s is smaller than the field of view, %s: voxels beside the borders '
                'between subvolumes are never in the middle of a field of view',
                tiling.overlap,
                network.fov,
            )
            return


def _claim_folder(
    config: InferenceConfig, network: NetworkInfo, assembly: Assembly, masks: Iterable[Mask]
) -> None:
    """Makes the folder of the subvolumes that of this configuration, or checks that it is."""
    request, inputs = request_identity.made_with(config, masks)
    _check_foreign_subvolumes(config, inputs, assembly)
    claim(
        assembly.directory,
        {**request, 'precision': network.precision, **assembly.tiled},
        inputs,
        'give another folder, or the same settings',
    )


def _check_foreign_subvolumes(
    config: InferenceConfig, inputs: dict[str, str], assembly: Assembly
) -> None:
    """Checks what run_inference.py has left in the folder, if it did."""
    folder = assembly.directory
    if (folder / provenance.MANIFEST).exists():
        return
    there, seen = {storage.corner_of(p): p for p in storage.subvolume_files(folder)}, set()
    if there:
        for box in map(assembly.tiling.subvolume, assembly.tiling.places()):
            if path := there.get(box.start.zyx):
                request_identity.check_size(path, box)
    doubts: dict[str, Path] = {}
    for path in there.values():
        stored = request_identity.read_stored(path)
        if stored in seen:
            continue
        seen.add(stored)
        changes = request_identity.compare(config, inputs, path)
        if changes.content:
            raise UserError(
                f'{folder} holds subvolumes of another request: {changes.content}; give '
                'another segmentation_output_dir'
            )
        if changes.written:
            doubts.setdefault(changes.written, path)
    for doubt, path in doubts.items():
        logging.warning('%s stays, but may be the result of other inputs: %s', path, doubt)


def _log_plan(tiling: Tiling, subvolumes: SubvolumeSet) -> None:
    logging.info('%s; %d are masked everywhere', tiling, len(tiling) - len(subvolumes))
    if not subvolumes:
        logging.warning('the masks leave nothing of %s', tiling.box)


def _segment_missing(
    config: InferenceConfig,
    assembly: Assembly,
    subvolumes: SubvolumeSet,
    workers: Pool,
    quiet: bool,
) -> None:
    """Segments the subvolumes that have no result, and writes the sums of what was counted."""

    def find_missing(check: bool = False) -> Iterator[Box]:
        for place in subvolumes:
            box = assembly.tiling.subvolume(place)
            if not storage.is_finished(assembly.directory, box.start.zyx):
                yield box
            elif check:
                request_identity.check_earlier_seeds(config, assembly.directory, box.start.zyx)

    count = sum(1 for _ in find_missing(check=True))
    logging.info('%d subvolumes to segment, %d are there', count, len(subvolumes) - count)
    if not count:
        return
    total = sum_counters(segment_subvolumes(workers, find_missing(), count, 'segmenting', quiet))
    if total.get('predict-calls'):
        write_json(assembly.directory / 'counters.json', dict(sorted(total.items())))
