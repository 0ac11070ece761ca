"""Neuroglancer's multi-resolution meshes: a manifest for each segment, and chunks compressed with Draco.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/meshes.md
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ffn.export.mesh_chunks import Chunk
from ffn.utils.geometry import Xyz

# Draco's effort, 0 … 10; beyond this the time grows and the size hardly falls.
_EFFORT = 7


def encode_chunk(chunk: Chunk) -> bytes:
    """Compresses a chunk; its positions, integers, stay what they are."""
    import DracoPy

    data: bytes = DracoPy.encode(chunk.points, chunk.triangles, compression_level=_EFFORT)
    return data


def encode_segment(
    levels: Sequence[dict[Xyz, bytes]],
    chunk_shape: Sequence[float],
    origin: Sequence[float],
    scales: Sequence[float],
) -> tuple[bytes, bytes]:
    """Puts a segment together.

    Args:
      levels: for each level of detail, beginning with the finest, place of a chunk → compressed chunk.
      chunk_shape: x, y, z of a chunk of level 0, nanometres.
      origin: x, y, z of the grid, nanometres.
      scales: of each level, the size of its details in nanometres.

    Returns:
      The manifest, and the chunks that lie before it.
    """
    levels = _with_parents(levels)
    count = len(levels)
    head = [
        np.array([*chunk_shape, *origin], '<f4'),
        np.array([count], '<u4'),
        np.array(scales[:count], '<f4'),
        np.zeros((count, 3), '<f4'),  # offsets of positions
        np.array([len(chunks) for chunks in levels], '<u4'),
    ]
    data = []
    for chunks in levels:
        places = sorted(chunks, key=_z_key)
        head.append(np.array(places, '<u4').reshape(-1, 3).T)
        head.append(np.array([len(chunks[place]) for place in places], '<u4'))
        data += [chunks[place] for place in places]
    return b''.join(part.tobytes() for part in head), b''.join(data)


def _with_parents(levels: Sequence[dict[Xyz, bytes]]) -> list[dict[Xyz, bytes]]:
    """Adds empty chunks where a coarser level lacks one: the viewer reaches a chunk through those above it."""
    found = [dict(levels[0])]
    for chunks in levels[1:]:
        if not chunks:
            break  # all that there was has become too small
        parents = {Xyz(*(n // 2 for n in place)): b'' for place in found[-1]}
        found.append({**parents, **chunks})
    return found


def _z_key(place: Xyz) -> int:
    return sum(
        (n >> bit & 1) << (3 * bit + axis)
        for axis, n in enumerate(place)
        for bit in range(n.bit_length())
    )
