"""A folder for Neuroglancer: an image and labels as precomputed volumes, segment properties, a viewer state.

Segment properties hold the size of every segment, by which Neuroglancer sorts and filters. state.json is
the state that the viewer opens once the folder is served. A stopped export resumes where it left off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ffn.distributed.pool import Pool
from ffn.export.pyramid import Pyramid
from ffn.export.scales import plan_scales
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.utils.locks import exclusive_directory
from ffn.utils.texts import parse_object
from ffn.volumes.missing import OnMissing
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.shards import Sharding
from ffn.volumes.specs import absolute_spec
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size, same_size
from ffn.volumes.unlabelled import tell_unlabelled
from ffn.volumes.volume import Volume, open_volume

PROPERTIES = 'segment_properties'
_TYPES = ('uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int16', 'int32', 'float32')


def _choose_type(volume: Volume, labels: bool) -> str:
    """Chooses the type to write, one that Neuroglancer can show."""
    if labels:
        return 'uint64'
    if volume.dtype.name not in _TYPES:
        raise UserError(
            f'{volume.name} is {volume.dtype.name}; an image for Neuroglancer has integers of up '
            'to 32 bits, or float32'
        )
    name: str = volume.dtype.name
    return name


def write_properties(folder: Path, sizes: dict[int, int]) -> None:
    """Writes the sizes of segments as Neuroglancer's segment properties and links them.

    Args:
      folder: of the precomputed volume.
      sizes: id → voxels.
    """
    ids = sorted(sizes, key=lambda label: (-sizes[label], label))
    (folder / PROPERTIES).mkdir(exist_ok=True)
    number = {
        'id': 'voxels',
        'type': 'number',
        'data_type': 'float32',
        'description': 'Size in voxels',
        'values': [sizes[label] for label in ids],
    }
    write_json(
        folder / PROPERTIES / 'info',
        {
            '@type': 'neuroglancer_segment_properties',
            'inline': {'ids': [str(label) for label in ids], 'properties': [number]},
        },
        indent=None,
    )
    info = parse_object((folder / 'info').read_bytes(), str(folder / 'info'))
    if info.get(PROPERTIES) != PROPERTIES:
        write_json(folder / 'info', {**info, PROPERTIES: PROPERTIES})


def write_state(folder: Path, layers: Sequence[str], box: Box, voxel_size: Sequence[float]) -> None:
    """Writes a viewer state for a folder that is served at localhost:9000.

    Args:
      folder: of the export.
      layers: 'image', 'labels' or both.
      box: shown at first, its middle at the centre of the view.
      voxel_size: x, y, z nanometres.
    """
    kinds = {'image': 'image', 'labels': 'segmentation'}
    host = 'precomputed://http://localhost:9000'
    state = {
        'dimensions': {axis: [nm * 1e-9, 'm'] for axis, nm in zip('xyz', voxel_size, strict=True)},
        'position': [s + n / 2 for s, n in zip(box.start, box.size, strict=True)],
        'layers': [
            {'type': kinds[name], 'name': name, 'source': f'{host}/{name}'} for name in layers
        ],
        'layout': '4panel',
    }
    write_json(folder / 'state.json', state)


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

    Raises:
      UserError: a volume that cannot be read or shown, an output that holds something else, or a voxel
        size that nothing says.
    """
    if not volumes:
        raise UserError('give --image, --labels, or both')
    size = _find_voxel_size(volumes, voxel_size)
    pyramids = []
    for name, spec in volumes.items():
        with open_volume(spec) as opened:
            labels = name == 'labels'
            volume = opened.require_labels() if labels else opened.single_channel()
            scales, dtype = (
                plan_scales(volume.box, size, max_scales),
                _choose_type(volume, labels),
            )
        folder, stamp = output.absolute() / name, read_input_stamp(spec)
        spec, none = absolute_spec(spec), unlabelled if labels else None
        shards = sharding or Sharding()
        pyramids.append(
            Pyramid(
                folder,
                spec,
                tuple(scales),
                labels,
                dtype,
                stamp,
                none,
                shards,
                write_empty,
                missing,
            )
        )
        pyramids[-1].check()
    for pyramid in pyramids:
        with exclusive_directory(pyramid.folder):
            pyramid.write(pool, quiet)
            if pyramid.labels:
                sizes, unlabelled_voxels = pyramid.sizes()
                whole = math.prod(pyramid.scales[0].box.size)
                tell_unlabelled(pyramid.spec, unlabelled_voxels, whole)
                write_properties(pyramid.folder, sizes)
    write_state(output, list(volumes), pyramids[-1].find_content(), size)


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
