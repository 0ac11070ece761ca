"""Writes image and segmentation for Neuroglancer: precomputed volumes of several resolutions.

    python -m ffn.assembly.export --output view --voxel_size 8,8,30 \
      --image volume.h5:raw --labels joined.h5:labels

makes view/image and view/labels. Each scale halves the axes along which voxels are smallest; the image is
averaged, of labels the most frequent counts. With labels come segment properties: the size of every
segment, by which Neuroglancer sorts and filters. view/state.json is what the viewer is given once the
folder is served. An export that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastremap
import numpy as np

from ffn.assembly.tiling import blocks
from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, run_tool
from ffn.utils.geometry import Box, Xyz
from ffn.utils.progress import progress
from ffn.utils.volumes import Volume, open_volume

CHUNK = Xyz(64, 64, 64)
# Chunks that are read and written in one go, along each axis.
BLOCK_CHUNKS = 4
# How often it is written down how far the export is.
SAVE_SECONDS = 30
PROPERTIES = 'segment_properties'


@dataclass(frozen=True)
class Scale:
    """One resolution.

    Attributes:
      box: the voxels.
      voxel_size: x, y, z nanometres.
      factors: x, y, z voxels of the scale before that become one.
    """

    box: Box
    voxel_size: tuple[float, float, float]
    factors: Xyz

    @property
    def key(self) -> str:
        """Name of the folder."""
        return '_'.join(f'{size:g}' for size in self.voxel_size)

    def next(self) -> Scale:
        """The next coarser one."""
        least = min(self.voxel_size)
        factors = Xyz(*(2 if size < 2 * least else 1 for size in self.voxel_size))
        start, end = (
            Xyz(*(rounded(v / f) for v, f in zip(corner, factors, strict=True)))
            for rounded, corner in ((math.floor, self.box.start), (math.ceil, self.box.end))
        )
        size = Xyz(*(b - a for a, b in zip(start, end, strict=True)))
        x, y, z = (s * f for s, f in zip(self.voxel_size, factors, strict=True))
        return Scale(Box(start, size), (x, y, z), factors)


def scales_of(box: Box, voxel_size: Sequence[float], at_most: int = 0) -> list[Scale]:
    """The scales of a volume, until one chunk holds it.

    Args:
      box: the voxels.
      voxel_size: x, y, z nanometres.
      at_most: number of scales; 0: no limit.
    """
    x, y, z = map(float, voxel_size)
    scales = [Scale(box, (x, y, z), Xyz(1, 1, 1))]
    while any(n > c for n, c in zip(scales[-1].box.size, CHUNK, strict=True)):
        if len(scales) == at_most:
            break
        scales.append(scales[-1].next())
    return scales


class Pyramid:
    """A precomputed volume of several scales on disk."""

    def __init__(self, folder: Path, volume: Volume, scales: Sequence[Scale], labels: bool):
        """Says what is written where.

        Args:
          folder: of the volume.
          volume: what is exported.
          scales: of `scales_of`.
          labels: whether these are labels and no image.

        Raises:
          UserError: a type that Neuroglancer does not show.
        """
        self._folder, self._volume, self._scales, self._labels = folder, volume, scales, labels
        self._dtype = np.dtype(np.uint64) if labels else volume.dtype
        if self._dtype.name not in ('uint8', 'uint16', 'uint32', 'uint64', 'int8', 'int16', 'int32',
                                    'float32'):  # fmt: skip
            raise UserError(
                f'{volume.name} is {self._dtype.name}; an image for Neuroglancer has integers of up '
                'to 32 bits, or float32'
            )

    def write(self, quiet: bool = False) -> None:
        """Writes all scales, what is missing of them.

        Raises:
          UserError: the folder holds the export of something else.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        settings, path = self._settings(), self._folder / 'export.json'
        todo = [
            (level, block)
            for level, scale in enumerate(self._scales)
            for block in blocks(scale.box, Xyz(*(n * BLOCK_CHUNKS for n in CHUNK)))
        ]
        first, sizes = _read_progress(path, settings)
        stores = [self._open(scale) for scale in self._scales]
        saved = time.monotonic()
        with progress(
            total=len(todo), initial=first, desc=self._folder.name, unit='block', quiet=quiet
        ) as bar:
            for done, (level, block) in enumerate(todo[first:], first + 1):
                data = self._read(stores, level, block)
                stores[level][block.slices_zyx].write(data).result()
                if self._labels and level == 0:
                    ids, voxels = fastremap.unique(data, return_counts=True)
                    for label, count in zip(ids.tolist(), voxels.tolist(), strict=True):
                        sizes[label] = sizes.get(label, 0) + count
                if done == len(todo) or time.monotonic() - saved > SAVE_SECONDS:
                    _write_json(path, {'settings': settings, 'blocks': done, 'sizes': sizes})
                    saved = time.monotonic()
                bar.update()
        if self._labels:
            write_properties(self._folder, {i: n for i, n in sizes.items() if i > 0})

    def _read(self, stores: Sequence[Any], level: int, block: Box) -> np.ndarray:
        import tensorstore as ts

        if level == 0:
            data = self._volume.read(block)
            return np.where(data > 0, data, 0).astype(self._dtype) if self._labels else data
        factors = list(self._scales[level].factors.zyx)
        method = 'mode' if self._labels else 'mean'
        return ts.downsample(stores[level - 1], factors, method)[block.slices_zyx].read().result()

    def _settings(self) -> dict[str, Any]:
        scales = [
            {'start': list(s.box.start), 'size': list(s.box.size), 'voxel_size': list(s.voxel_size)}
            for s in self._scales
        ]
        return {'volume': self._volume.name, 'labels': self._labels, 'scales': scales}

    def _open(self, scale: Scale) -> Any:
        """Opens a scale as [z, y, x], and makes it where it is missing."""
        import tensorstore as ts

        metadata: dict[str, Any] = {
            'key': scale.key, 'size': list(scale.box.size), 'voxel_offset': list(scale.box.start),
            'resolution': list(scale.voxel_size), 'chunk_size': list(CHUNK), 'encoding': 'raw',
        }  # fmt: skip
        if self._labels:
            metadata |= {
                'encoding': 'compressed_segmentation',
                'compressed_segmentation_block_size': [8, 8, 8],
            }
        spec = {
            'driver': 'neuroglancer_precomputed',
            'kvstore': {'driver': 'file', 'path': str(self._folder.absolute())},
            'multiscale_metadata': {
                'type': 'segmentation' if self._labels else 'image',
                'data_type': self._dtype.name, 'num_channels': 1,
            },
            'scale_metadata': metadata,
        }  # fmt: skip
        store = ts.open(spec, create=True, open=True).result()
        return store[..., 0].transpose([2, 1, 0])


def _read_progress(path: Path, settings: dict[str, Any]) -> tuple[int, dict[int, int]]:
    """Blocks that are written, and voxels of the segments in those of the first scale."""
    if not path.exists():
        return 0, {}
    try:
        stored = json.loads(path.read_text(encoding='utf-8'))
        same = stored['settings'] == settings
        known = int(stored['blocks']), {int(i): int(n) for i, n in stored['sizes'].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f'{path} is damaged ({error}); remove the folder to begin anew') from error
    if not same:
        raise UserError(f'{path.parent} holds the export of something else; give another --output')
    return known


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content) + '\n', encoding='utf-8')


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
    _write_json(
        folder / PROPERTIES / 'info',
        {
            '@type': 'neuroglancer_segment_properties',
            'inline': {'ids': [str(label) for label in ids], 'properties': [number]},
        },
    )
    info = json.loads((folder / 'info').read_text(encoding='utf-8'))
    if info.get(PROPERTIES) != PROPERTIES:
        _write_json(folder / 'info', {**info, PROPERTIES: PROPERTIES})


def write_state(folder: Path, layers: Sequence[str], box: Box, voxel_size: Sequence[float]) -> None:
    """Writes a viewer state for a folder that is served at localhost:9000."""
    kinds = {'image': 'image', 'labels': 'segmentation'}
    _write_json(
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
    output: Path, volumes: dict[str, str], voxel_size: Sequence[float], at_most: int = 0,
    quiet: bool = False,
) -> None:  # fmt: skip
    """Writes volumes for Neuroglancer.

    Args:
      output: folder.
      volumes: 'image' or 'labels' → 'path:dataset'.
      voxel_size: x, y, z nanometres.
      at_most: number of scales; 0: until one chunk holds the volume.
      quiet: no progress bar.

    Raises:
      UserError: a volume that cannot be read or shown, or an output that holds something else.
    """
    if not volumes:
        raise UserError('give --image, --labels, or both')
    if not all(0 < size < math.inf for size in voxel_size):
        raise UserError(f'--voxel_size is {tuple(voxel_size)}; expected positive nanometres')
    box = None
    for name, spec in volumes.items():
        with open_volume(spec) as opened:
            labels = name == 'labels'
            volume = opened.require_labels() if labels else opened.single_channel()
            scales = scales_of(volume.box, voxel_size, at_most)
            Pyramid(output / name, volume, scales, labels).write(quiet)
            box = box or volume.box
    write_state(output, list(volumes), box, voxel_size)


def main(argv: Sequence[str] | None = None) -> None:
    """Exports as the command line says.

    Raises:
      UserError: see `export`.
    """
    parser = argparse.ArgumentParser(
        prog='python -m ffn.assembly.export', description=__doc__.splitlines()[0]
    )
    parser.add_argument('--image', default='', metavar='PATH:DATASET', help='image volume')
    parser.add_argument('--labels', default='', metavar='PATH:DATASET', help='label volume')
    parser.add_argument('--output', required=True, type=Path, metavar='DIR', help='folder')
    parser.add_argument('--voxel_size', required=True, metavar='X,Y,Z', help='nanometres')
    parser.add_argument('--scales', type=int, default=0, metavar='N',
                        help='resolutions at the most (until one chunk holds the volume)')  # fmt: skip
    parser.add_argument('--quiet', action='store_true', help='no progress bar')
    args = parser.parse_args(argv)
    try:
        x, y, z = map(float, args.voxel_size.split(','))
    except ValueError as error:
        raise UserError(f'--voxel_size {args.voxel_size!r}; expected x,y,z nanometres') from error
    volumes = {name: spec for name in ('image', 'labels') if (spec := getattr(args, name))}
    export(args.output, volumes, (x, y, z), args.scales, args.quiet)
    print(f'written to {args.output}; serve it and open state.json, see doc/manual.md')


if __name__ == '__main__':
    run_tool(main)
