"""A folder for Neuroglancer: image and labels as precomputed volumes, meshes, skeletons, properties, a viewer state.

state.json is the state that the viewer opens once the folder is served. A stopped export resumes where it left
off, and what an export lacks, such as meshes, can be added to it later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ffn.distributed.pool import Pool
from ffn.export import properties
from ffn.export.by_segment import make
from ffn.export.meshes import MeshConfig, Meshes
from ffn.export.properties import link_in_info
from ffn.export.pyramid import Pyramid
from ffn.export.scales import plan_scales
from ffn.export.server import SERVED_AT, STATE
from ffn.export.skeletons import (
    SOMA_RADIUS,
    SkeletonConfig,
    Skeletons,
    tell_without_line,
    tell_without_somata,
    write_swc,
)
from ffn.export.surfaces import check_libraries
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.locks import exclusive_directory
from ffn.volumes.input_states import foreign_state
from ffn.volumes.missing import OnMissing
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.shards import Sharding
from ffn.volumes.specs import absolute_spec
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size, same_size
from ffn.volumes.unlabelled import tell_unlabelled
from ffn.volumes.volume import Volume, open_volume

_TYPES = ('uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int16', 'int32', 'float32')


def _choose_type(volume: Volume, labels: bool) -> str:
    """Chooses the type to write, one that Neuroglancer can show."""
    if labels:
        return 'uint64'
    if volume.dtype.name not in _TYPES:
        raise UserError(
            f'{volume.name} is {volume.dtype.name}; an image for Neuroglancer is {", ".join(_TYPES[:-1])} or '
            f'{_TYPES[-1]}; ffn import-stack makes float32 of other floating point'
        )
    name: str = volume.dtype.name
    return name


def write_state(
    folder: Path,
    layers: Sequence[str],
    box: Box,
    voxel_size: Sequence[float],
    segments: Sequence[int] = (),
) -> None:
    """Writes a viewer state for a folder that is served, see `ffn.export.server`.

    Args:
      folder: of the export.
      layers: 'image', 'labels' or both.
      box: shown at first, its middle at the centre of the view.
      voxel_size: x, y, z nanometres.
      segments: chosen at first, so that the 3-d view shows them.
    """
    kinds = {'image': 'image', 'labels': 'segmentation'}
    shown: list[dict[str, Any]]
    host = f'precomputed://{SERVED_AT}'
    shown = [{'type': kinds[name], 'name': name, 'source': f'{host}/{name}'} for name in layers]
    for layer in shown if segments else []:
        if layer['type'] == 'segmentation':
            layer['segments'] = [str(segment) for segment in segments]
    state: dict[str, Any] = {
        'dimensions': {axis: [nm * 1e-9, 'm'] for axis, nm in zip('xyz', voxel_size, strict=True)},
        'position': [s + n / 2 for s, n in zip(box.start, box.size, strict=True)],
        'layers': shown,
        'layout': '4panel',
    }
    if segments:  # all of the box in the 3-d view
        state['projectionScale'] = 1.5 * max(box.size)
        state['showSlices'] = False
    write_json(folder / STATE, state)


def export(
    output: Path,
    volumes: dict[str, str],
    voxel_size: tuple[float, float, float] | None,
    pool: Pool,
    max_scales: int = 0,
    quiet: bool = False,
    unlabelled: int | None = None,
    sharding: Sharding | None = None,
    write_empty: bool = False,
    missing: OnMissing = 'tell',
    meshes: MeshConfig | None = None,
    skeletons: SkeletonConfig | None = None,
) -> None:
    """Writes volumes for Neuroglancer.

    Args:
      output: folder.
      volumes: 'image' or 'labels' → 'path:dataset'.
      voxel_size: x, y, z nanometres; None: what the volumes say.
      pool: runs the tasks.
      max_scales: number of scales at most; 0: until one chunk holds the volume.
      quiet: no progress bar.
      unlabelled: a label that means 'not labelled', see `ffn.volumes.unlabelled`.
      sharding: whether chunks are joined to shards.
      write_empty: whether chunks that are 0 everywhere are stored.
      missing: what is done about chunks of a volume that do not exist.
      meshes: whether labels get meshes, and how; None: they do not.
      skeletons: the same of skeletons.

    Raises:
      UserError: a volume that cannot be read or shown, an output that holds something else, a voxel
        size that nothing says, or a library that is not there.
    """
    meshes, skeletons = meshes or MeshConfig(), skeletons or SkeletonConfig()
    _check_wanted(volumes, meshes, skeletons)
    size = _find_voxel_size(volumes, voxel_size)
    how = (max_scales, unlabelled, sharding or Sharding(), write_empty, missing)
    pyramids = [_plan(output.absolute() / name, spec, size, *how) for name, spec in volumes.items()]
    for pyramid in pyramids:
        with exclusive_directory(pyramid.folder):
            pyramid.write(pool, quiet)
            if pyramid.labels:
                ids, voxels, unlabelled_voxels = pyramid.sizes()
                whole = math.prod(pyramid.scales[0].box.size)
                absent = None if unlabelled_voxels else unlabelled
                tell_unlabelled(pyramid.spec, unlabelled_voxels, whole, absent)
                add_shapes(pyramid, meshes, skeletons, pool, quiet)
                radius = skeletons.soma_radius
                if radius is None:
                    radius = properties.tagged_radius(pyramid.folder, SOMA_RADIUS)
                if skeletons.wanted:
                    tell_without_line(pyramid.folder / 'skeletons', ids, voxels)
                    tell_without_somata(Skeletons(pyramid, skeletons), radius)
                properties.write(pyramid.folder, ids, voxels, radius)
    there = [name for name in ('image', 'labels') if (output / name / 'info').is_file()]
    chosen = properties.largest_with_shape(output / 'labels') if 'labels' in there else []
    write_state(output, there, pyramids[-1].find_content(), size, chosen)


def _plan(
    folder: Path,
    spec: str,
    size: tuple[float, float, float],
    max_scales: int,
    unlabelled: int | None,
    sharding: Sharding,
    write_empty: bool,
    missing: OnMissing,
) -> Pyramid:
    """Plans one of the volumes, and checks that it can be written."""
    labels = folder.name == 'labels'
    with open_volume(spec) as opened:
        volume = opened.require_labels() if labels else opened.single_channel()
        scales, dtype = plan_scales(volume.box, size, max_scales), _choose_type(volume, labels)
    pyramid = Pyramid(
        folder,
        absolute_spec(spec),
        tuple(scales),
        labels,
        dtype,
        read_input_stamp(spec),
        foreign_state(spec),
        unlabelled if labels else None,
        sharding,
        write_empty,
        missing,
    )
    pyramid.check()
    return pyramid


def _check_wanted(volumes: dict[str, str], meshes: MeshConfig, skeletons: SkeletonConfig) -> None:
    if not volumes:
        raise UserError('give --image, --labels, or both')
    for wanted, flag in ((meshes.wanted, '--meshes'), (skeletons.wanted, '--skeletons')):
        if wanted and 'labels' not in volumes:
            raise UserError(f'{flag} are made of labels: give --labels')
    if meshes.wanted:
        check_libraries()


def add_shapes(
    pyramid: Pyramid, meshes: MeshConfig, skeletons: SkeletonConfig, pool: Pool, quiet: bool = False
) -> None:
    """Adds meshes and skeletons to labels that are written, as far as they are wanted and missing.

    Args:
      pyramid: the labels.
      meshes: how meshes are made.
      skeletons: how skeletons are made.
      pool: runs the tasks.
      quiet: no progress bar.

    Raises:
      UserError: there are some already, made with other settings.
    """
    if meshes.wanted:
        make(Meshes(pyramid, meshes), pool, quiet)
        link_in_info(pyramid.folder, 'mesh', 'mesh')
    if skeletons.wanted:
        make(Skeletons(pyramid, skeletons), pool, quiet)
        link_in_info(pyramid.folder, 'skeletons', 'skeletons')
        if skeletons.swc:
            write_swc(pyramid.folder / 'skeletons', pool, quiet)


def _find_voxel_size(
    volumes: dict[str, str], given: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    """The voxel size of an export, x, y, z nanometres; warns where what is given differs from a volume's."""
    known = []
    for spec in volumes.values():
        with open_volume(spec) as volume:
            if volume.voxel_size is not None:
                known.append(volume.voxel_size.of(spec))
    if given is not None:
        agreed_voxel_size([KnownVoxelSize(given, '--voxel_size'), *known])
        return given
    if not known:
        raise UserError(
            f'no voxel size is stored with {" and ".join(volumes.values())}: give --voxel_size X,Y,Z, in '
            'nanometres'
        )
    if not all(same_size(one.xyz, known[0].xyz) for one in known):
        raise UserError(
            f'the voxels of image and labels differ: {known[0]}, but {known[1]}; export them apart, or give '
            'the --voxel_size of both'
        )
    return known[0].xyz
