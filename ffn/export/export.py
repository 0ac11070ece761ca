"""Writes image and segmentation for Neuroglancer: precomputed volumes of several resolutions.

    python -m ffn.export.export --output view --voxel_size 8,8,30 \
      --image volume.h5:raw --labels joined.h5:labels

makes view/image and view/labels. Each scale halves the axes along which voxels are smallest; the image is
averaged, of labels the most frequent counts. With labels come segment properties: the size of every
segment, by which Neuroglancer sorts and filters. view/state.json is what the viewer is given once the
folder is served. An export that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from ffn.distributed.pool import Pool, add_where, open_pool
from ffn.export.pyramid import Pyramid, scales_of
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, parse_voxel_size
from ffn.utils.locks import exclusive_directory
from ffn.utils.startup import show_log
from ffn.volumes.provenance import read_input_stamp
from ffn.volumes.specs import absolute_spec
from ffn.volumes.volume import Volume, open_volume

PROPERTIES = 'segment_properties'
_TYPES = ('uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int16', 'int32', 'float32')


def _type_of(volume: Volume, labels: bool) -> str:
    """The type that is written, of those that Neuroglancer shows."""
    if labels:
        return 'uint64'
    if volume.dtype.name not in _TYPES:
        raise UserError(
            f'{volume.name} is {volume.dtype.name}; an image for Neuroglancer has integers of up '
            'to 32 bits, or float32'
        )
    return volume.dtype.name


def write_properties(folder: Path, sizes: dict[int, int]) -> None:
    """Writes the sizes of segments as Neuroglancer's segment properties and links them.

    Args:
      folder: of the precomputed volume.
      sizes: id → voxels.
    """
    ids = sorted(sizes, key=lambda label: (-sizes[label], label))
    (folder / PROPERTIES).mkdir(exist_ok=True)
    number = {
        'id': 'voxels', 'type': 'number', 'data_type': 'float32', 'description': 'Size in voxels',
        'values': [sizes[label] for label in ids],
    }  # fmt: skip
    write_json(
        folder / PROPERTIES / 'info',
        {
            '@type': 'neuroglancer_segment_properties',
            'inline': {'ids': [str(label) for label in ids], 'properties': [number]},
        },
        indent=None,
    )
    info = json.loads((folder / 'info').read_text(encoding='utf-8'))
    if info.get(PROPERTIES) != PROPERTIES:
        write_json(folder / 'info', {**info, PROPERTIES: PROPERTIES})


def write_state(folder: Path, layers: Sequence[str], box: Box, voxel_size: Sequence[float]) -> None:
    """Writes a viewer state for a folder that is served at localhost:9000."""
    kinds = {'image': 'image', 'labels': 'segmentation'}
    write_json(
        folder / 'state.json',
        {
            'dimensions': {axis: [nm * 1e-9, 'm'] for axis, nm in zip('xyz', voxel_size, strict=True)},
            'position': [s + n / 2 for s, n in zip(box.start, box.size, strict=True)],
            'layers': [
                {'type': kinds[name], 'name': name, 'source': f'precomputed://http://localhost:9000/{name}'}
                for name in layers
            ],
            'layout': '4panel',
        },
    )  # fmt: skip


def export(
    output: Path, volumes: dict[str, str], voxel_size: Sequence[float], pool: Pool,
    at_most: int = 0, quiet: bool = False,
) -> None:  # fmt: skip
    """Writes volumes for Neuroglancer.

    Args:
      output: folder.
      volumes: 'image' or 'labels' → 'path:dataset'.
      voxel_size: x, y, z nanometres.
      pool: carries out the tasks.
      at_most: number of scales; 0: until one chunk holds the volume.
      quiet: no progress bar.

    Raises:
      UserError: a volume that cannot be read or shown, or an output that holds something else.
    """
    if not volumes:
        raise UserError('give --image, --labels, or both')
    pyramids = []
    for name, spec in volumes.items():
        with open_volume(spec) as opened:
            labels = name == 'labels'
            volume = opened.require_labels() if labels else opened.single_channel()
            scales, dtype = scales_of(volume.box, voxel_size, at_most), _type_of(volume, labels)
        folder, stamp = output.absolute() / name, read_input_stamp(spec)
        pyramids.append(Pyramid(folder, absolute_spec(spec), tuple(scales), labels, dtype, stamp))
    for pyramid in pyramids:
        with exclusive_directory(pyramid.folder):
            pyramid.write(pool, quiet)
            if pyramid.labels:
                write_properties(pyramid.folder, pyramid.sizes())
    write_state(output, list(volumes), pyramids[-1].filled(), voxel_size)


def main(argv: Sequence[str] | None = None) -> None:
    """Exports as the command line says.

    Raises:
      UserError: see `export`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.export.export', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--image', default='', metavar='PATH:DATASET', help='image volume')
    parser.add_argument('--labels', default='', metavar='PATH:DATASET', help='label volume')
    parser.add_argument('--output', required=True, type=Path, metavar='DIR', help='folder')
    parser.add_argument('--voxel_size', required=True, metavar='X,Y,Z', help='nanometres')
    parser.add_argument('--scales', type=int, default=0, metavar='N',
                        help='resolutions at the most (until one chunk holds the volume)')  # fmt: skip
    add_where(parser.add_argument, network=False)
    args = parser.parse_args(argv)
    voxel_size = parse_voxel_size(args.voxel_size, '--voxel_size')
    volumes = {name: spec for name in ('image', 'labels') if (spec := getattr(args, name))}
    with open_pool(args.scheduler, args.workers) as pool:
        export(args.output, volumes, voxel_size, pool, args.scales, args.quiet)
    print(f'written to {args.output}; serve it and open state.json, see doc/manual.md')


if __name__ == '__main__':
    show_log()
    run_tool(main)
