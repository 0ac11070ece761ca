"""A whole volume from coarse to fine: one network fills what is large at a coarser resolution, another one what is left.

The stages leave their files below `pyramid` in the folder of the segmentation, in the order in which they run:

    forward      subvolumes of the coarse image, which is a volume of its own or the fine one averaged as it is read
    reverse      the same from its seeds in reverse order
    consensus    what both have (these two only where that is asked for)
    labels.zarr  one coarse volume

The subvolumes of the fine network, in the folder itself, are filled with these labels beforehand; new objects grow in
what is left, and what continues a coarse object becomes part of it. Every stage is one that there is also as a command
of its own: killed at any time and started again, it does what is missing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import logging

from ffn.agglomeration import consensus_config
from ffn.agglomeration.consensus_run import run_consensus, segment_reversed
from ffn.assembly.assembly import assemble, describe
from ffn.assembly.config import Assembly, AssemblyConfig, OutputConfig, TilingConfig
from ffn.assembly.whole_volume import segment_all, segment_volume
from ffn.distributed.pool import Pool
from ffn.inference import consensus_pb2, inference_pb2
from ffn.inference.config import InferenceConfig
from ffn.inference.request import OF_INIT_SEGMENTATION, complete_request, parse_request
from ffn.inference.serialization import absolute_paths
from ffn.models.trained_settings import read_trained_settings
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz
from ffn.utils.settings import setting
from ffn.volumes.resampled import touched_box
from ffn.volumes.units import same_size

FOLDER = 'pyramid'
# Of what the fields of view of a new object saw of a coarse one, what it covers to become part of it.
_JOIN_FRACTION = 0.5
VoxelSize = tuple[float, float, float]


@dataclass(frozen=True)
class PyramidConfig:
    """What goes before the segmentation of a whole volume."""

    request: str = setting(
        'InferenceRequest of a network for larger voxels, text format or a file: it goes first, and the network of '
        '--inference_request continues in what it leaves. Its image is that of --inference_request, averaged, unless '
        'it names one; its results go to `pyramid` in the segmentation_output_dir of --inference_request',
        default='',
        flag='pyramid',
        metavar='REQUEST',
    )
    consensus: bool = setting(
        'of the coarse pass, keep only what it finds again from its seeds in reverse order',
        default=True,
        flag='pyramid_consensus',
    )


@dataclass(frozen=True)
class Pyramid:
    """Both passes.

    Attributes:
      coarse: the first one.
      fine: the second one, which fills its subvolumes with what the first has found.
      factors: x, y, z fine voxels that are one coarse voxel.
      labels: where the coarse volume is.
    """

    coarse: InferenceConfig
    fine: InferenceConfig
    factors: Xyz
    labels: str

    @property
    def folder(self) -> Path:
        """Where the coarse pass leaves its files."""
        return Path(self.fine.segmentation_output_dir, FOLDER)

    def refusing_missing(self) -> Pyramid:
        """The same, with an error where chunks of a volume that is read do not exist."""
        coarse, fine = self.coarse.refusing_missing(), self.fine.refusing_missing()
        return dataclasses.replace(self, coarse=coarse, fine=fine)


def read_pyramid(fine_text: str, coarse_text: str) -> Pyramid:
    """Reads the requests of both passes and sees that they fit together.

    Args:
      fine_text: InferenceRequest in text format, or the path of a file with it.
      coarse_text: likewise.

    Raises:
      UserError: one is incomplete, or voxel sizes or images do not fit.
    """
    fine, coarse = parse_request(fine_text), parse_request(coarse_text, flag='--pyramid')
    for request in (fine, coarse):
        absolute_paths(request)
    if fine.HasField('init_segmentation'):
        raise UserError(
            '--pyramid makes the init_segmentation of --inference_request; leave it out'
        )
    if not fine.segmentation_output_dir:
        raise UserError(
            'the inference request does not set segmentation_output_dir, which is needed'
        )
    unfilled = _copy(fine)
    for name in OF_INIT_SEGMENTATION:
        unfilled.inference_options.ClearField(name)
    alone = complete_request(unfilled)
    folder = Path(fine.segmentation_output_dir, FOLDER)
    coarse.segmentation_output_dir = str(folder / 'forward')
    if coarse.HasField('image'):
        config = complete_request(coarse)
        factors = _factors(config.voxel_size, alone.voxel_size)
        _check_image(config, alone, factors)
    else:
        factors = _factors(_known_voxel_size(coarse), alone.voxel_size)
        coarse.image.CopyFrom(fine.image)
        before = alone.image.downsample or Xyz(1, 1, 1)
        both = Xyz(*(a * b for a, b in zip(before, factors, strict=True)))
        coarse.image.downsample.CopyFrom(both.to_proto())
        config = complete_request(coarse)
    labels = f'zarr://{folder / "labels.zarr"}'
    _fill_from(fine, labels, factors)
    return Pyramid(config, complete_request(fine, quiet=True), factors, labels)


def _copy(request: inference_pb2.InferenceRequest) -> inference_pb2.InferenceRequest:
    return inference_pb2.InferenceRequest.FromString(request.SerializeToString())


def _known_voxel_size(request: inference_pb2.InferenceRequest) -> VoxelSize | None:
    """The voxel size of a request that names no image: its own, or that of the training."""
    if request.HasField('voxel_size'):
        return request.voxel_size.x, request.voxel_size.y, request.voxel_size.z
    trained = read_trained_settings(request.model_checkpoint_path)
    return None if trained is None else trained.voxel_size


def _factors(coarse: VoxelSize | None, fine: VoxelSize | None) -> Xyz:
    """How many fine voxels are one coarse voxel along each axis."""
    if coarse is None or fine is None:
        flag = '--pyramid' if coarse is None else '--inference_request'
        raise UserError(
            f'the voxel size of {flag} is not known, so that the two cannot be compared; set voxel_size in it'
        )
    factors = [c / f for c, f in zip(coarse, fine, strict=True)]
    whole = Xyz(*(round(f) for f in factors))
    if min(whole) < 1 or max(whole) < 2 or not same_size(factors, whole):
        raise UserError(
            f'voxels of --pyramid are x,y,z {_listed(coarse)}, those of --inference_request {_listed(fine)}; '
            'expected whole multiples, 2 or more along at least one axis'
        )
    return whole


def _listed(numbers: VoxelSize) -> str:
    return ','.join(f'{n:g}' for n in numbers)


def _check_image(coarse: InferenceConfig, fine: InferenceConfig, factors: Xyz) -> None:
    """Checks that an image of the coarse pass shows what the fine one does, at its scale."""
    with coarse.image.open() as image, fine.image.open() as finer:
        own = image.voxel_size
        if own is not None and not same_size(own.xyz, coarse.voxel_size or own.xyz):
            raise UserError(
                f'the image of --pyramid has voxels of {own}, its request says {_listed(coarse.voxel_size or own.xyz)}'
            )
        expected = touched_box(finer.box, factors)
        ends = zip(
            (*image.box.start, *image.box.end), (*expected.start, *expected.end), strict=True
        )
        if any(abs(a - b) > 1 for a, b in ends):
            raise UserError(
                f'the image of --pyramid covers {image.box}; that of --inference_request covers {expected} of its '
                'voxels: expected the same place'
            )


def _fill_from(request: inference_pb2.InferenceRequest, labels: str, factors: Xyz) -> None:
    """Makes a request continue what the coarse pass has found; what it says about that stays."""
    request.init_segmentation.hdf5 = labels
    request.init_segmentation.upsample.CopyFrom(factors.to_proto())
    options = request.inference_options
    if not options.HasField('prefilled_join_fraction'):
        options.prefilled_join_fraction = _JOIN_FRACTION
    if not options.HasField('prefilled_gap'):
        options.prefilled_gap = 2 * max(factors)


def segment_pyramid(
    pyramid: Pyramid,
    box: Box | None,
    assembly_config: AssemblyConfig,
    consensus: bool,
    pool: Pool,
    quiet: bool = False,
) -> tuple[Assembly, dict[str, Any]]:
    """Segments a volume in both passes; does what is missing.

    Args:
      pyramid: both passes.
      box: part of the fine image, None for all of it.
      assembly_config: how it is cut and put together; the coarse pass has subvolumes of as many voxels.
      consensus: keep of the coarse pass only what it finds in both orders of its seeds.
      pool: runs the tasks.
      quiet: no progress bars.

    Returns:
      The assembly of the fine pass and the statistics of its reconciliation.

    Raises:
      UserError: something does not fit; see `segment_volume`, `run_consensus` and `assemble`.
      SystemExit: stopped by a signal, after checkpoints.
    """
    _check_output(pyramid.fine, box, assembly_config)
    coarse = _segment_coarse(
        pyramid, _coarse_box(pyramid, box), assembly_config, consensus, pool, quiet
    )
    print(describe(assemble(coarse, pool, quiet), coarse))
    return segment_volume(pyramid.fine, box, assembly_config, pool, quiet)


def _check_output(
    config: InferenceConfig, box: Box | None, assembly_config: AssemblyConfig
) -> None:
    """Finds mistakes of the second pass before the first one begins."""
    with config.image.open() as image:
        clipped = image.box if box is None else box.intersection(image.box)
    if clipped is None:
        raise UserError(f'--bounding_box {box} lies outside the image, {image.box}')
    tiling = assembly_config.tiling.tile(clipped)
    folder = config.results_folder
    assembly_config.plan(folder, tiling, (), config.voxel_size).output.check()


def _coarse_box(pyramid: Pyramid, box: Box | None) -> Box | None:
    """The coarse voxels that a box of fine ones touches, as far as they exist."""
    if box is None:
        return None
    with pyramid.coarse.image.open() as image:
        return touched_box(box, pyramid.factors).intersection(image.box)


def _segment_coarse(
    pyramid: Pyramid,
    box: Box | None,
    assembly_config: AssemblyConfig,
    consensus: bool,
    pool: Pool,
    quiet: bool,
) -> Assembly:
    """Segments the subvolumes of the coarse pass; returns what becomes one volume."""
    folder = pyramid.folder
    cut = TilingConfig(assembly_config.tiling.size, assembly_config.tiling.overlap)
    config = AssemblyConfig(cut, OutputConfig(pyramid.labels), assembly_config.matching)
    logging.info('coarse pass: one voxel is %s of the image', pyramid.factors)
    planned = segment_all(pyramid.coarse, box, config, pool, quiet)
    if not consensus:
        return planned
    forward, reverse, both = (str(folder / name) for name in ('forward', 'reverse', 'consensus'))
    segment_reversed(pyramid.coarse, forward, reverse, pool, quiet)
    request = consensus_pb2.ConsensusRequest(
        segmentation_output_dir=both,
        type=consensus_pb2.ConsensusRequest.CONSENSUS_SPLIT,
        split_min_size=pyramid.coarse.options.min_segment_size,
    )
    request.segmentation1.directory, request.segmentation2.directory = forward, reverse
    run_consensus(consensus_config.make_config(request), pool, quiet)
    return dataclasses.replace(planned, directory=Path(both), folder=Path(both, 'assembly'))
