"""The metadata of a new label volume, by format: shape, chunks, shards, compression, voxel size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ffn.utils.geometry import Box, Xyz
from ffn.volumes.shards import precomputed_sharding


@dataclass(frozen=True)
class Layout:
    """What the metadata of a uint64 volume say.

    Attributes:
      box: the voxels.
      chunk: x, y, z voxels of a chunk.
      shard: x, y, z voxels of a shard; None: each chunk is a file.
      voxel_size: x, y, z nanometres, () if it is not known.
    """

    box: Box
    chunk: Xyz
    shard: Xyz | None
    voxel_size: tuple[float, ...]

    def metadata(self, driver: str) -> dict[str, Any]:
        """The parts of a TensorStore spec that describe the volume, but for a voxel size in attributes."""
        return _SCHEMAS[driver](self)

    def resolution_zyx(self) -> dict[str, Any]:
        """The voxel size as attributes, as CREMI and funlib write it."""
        return {'resolution': list(self.voxel_size[::-1]), 'units': ['nm', 'nm', 'nm']}

    def resolution_xyz(self) -> dict[str, Any]:
        """The voxel size as attributes of N5, whose axes are x, y, z."""
        return {'resolution': list(self.voxel_size), 'units': ['nm', 'nm', 'nm']}


def _zarr_schema(layout: Layout) -> dict[str, Any]:
    return {
        'metadata': {
            'shape': list(layout.box.end.zyx),
            'chunks': list(layout.chunk.zyx),
            'dtype': '<u8',
            'dimension_separator': '/',
            'fill_value': 0,  # empty chunks are not stored; without it, they may hold anything
            'compressor': {'id': 'blosc', 'cname': 'zstd', 'clevel': 3, 'shuffle': 1},
        }
    }


def _zarr3_schema(layout: Layout) -> dict[str, Any]:
    codecs: list[dict[str, Any]] = [
        {'name': 'bytes', 'configuration': {'endian': 'little'}},
        {'name': 'zstd', 'configuration': {'level': 3}},
        {'name': 'crc32c'},
    ]
    if layout.shard is not None:
        inner = {'chunk_shape': list(layout.chunk.zyx), 'codecs': codecs}
        codecs = [{'name': 'sharding_indexed', 'configuration': inner}]
    return {
        'metadata': {
            'shape': list(layout.box.end.zyx),
            'data_type': 'uint64',
            'chunk_grid': {
                'name': 'regular',
                'configuration': {'chunk_shape': list((layout.shard or layout.chunk).zyx)},
            },
            'codecs': codecs,
            'dimension_names': ['z', 'y', 'x'],
        }
    }


def _n5_schema(layout: Layout) -> dict[str, Any]:
    return {
        'metadata': {
            'dimensions': list(layout.box.end),
            'blockSize': list(layout.chunk),
            'dataType': 'uint64',
            'axes': ['x', 'y', 'z'],
            'compression': {'type': 'gzip', 'level': 1},
        }
    }


def _precomputed_schema(layout: Layout) -> dict[str, Any]:
    sharding = {}
    if layout.shard is not None:
        sharding['sharding'] = precomputed_sharding(layout.box.size, layout.chunk, layout.shard)
    return {
        'multiscale_metadata': {'type': 'segmentation', 'data_type': 'uint64', 'num_channels': 1},
        'scale_metadata': {
            'size': list(layout.box.size),
            'voxel_offset': list(layout.box.start),
            'resolution': list(layout.voxel_size),
            'chunk_size': list(layout.chunk),
            'encoding': 'compressed_segmentation',
            'compressed_segmentation_block_size': [8, 8, 8],
            **sharding,
        },
    }


_SCHEMAS: dict[str, Callable[[Layout], dict[str, Any]]] = {
    'zarr': _zarr_schema,
    'zarr3': _zarr3_schema,
    'n5': _n5_schema,
    'neuroglancer_precomputed': _precomputed_schema,
}
