"""Reads Neuroglancer's multi-resolution meshes: independent of what writes them, shards by TensorStore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorstore as ts


class Fragment(NamedTuple):
    """A chunk of a mesh: where it is, its positions as stored and in nanometres, its triangles and its bytes."""

    place: tuple[int, ...]
    stored: np.ndarray
    points: np.ndarray
    triangles: np.ndarray
    size: int


class Mesh(NamedTuple):
    """A segment: for each level its fragments, and the level's scale."""

    levels: list[list[Fragment]]
    scales: list[float]

    def whole(self, level: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The fragments of a level as one: points that have the same position become one."""
        parts = self.levels[level]
        begins = np.cumsum([0, *(len(f.points) for f in parts)])
        points = np.concatenate([np.zeros((0, 3), np.float32), *(f.points for f in parts)])
        triangles = np.concatenate(
            [np.zeros((0, 3), int), *(f.triangles + b for f, b in zip(parts, begins))]
        )
        unique, number = np.unique(points, axis=0, return_inverse=True)
        return unique.astype(float), number.ravel()[triangles]


def open_shards(folder: Path, sharding: dict) -> ts.KvStore:
    spec = {
        'driver': 'neuroglancer_uint64_sharded',
        'base': {'driver': 'file', 'path': f'{folder}/'},
        'metadata': sharding,
    }
    return ts.KvStore.open(spec).result()


def key(segment: int) -> bytes:
    return int(segment).to_bytes(8, 'big')


def segment_ids(folder: Path) -> list[int]:
    sharding = json.loads((folder / 'info').read_text())['sharding']
    return sorted(int.from_bytes(k, 'big') for k in open_shards(folder, sharding).list().result())


def read_mesh(folder: Path, segment: int) -> Mesh:
    info = json.loads((folder / 'info').read_text())
    assert info['@type'] == 'neuroglancer_multilod_draco'
    manifest = open_shards(folder, info['sharding'])[key(segment)]
    file, end = find(folder, info['sharding'], segment)
    return parse(manifest, file, end, info['vertex_quantization_bits'])


def parse(manifest: bytes, file: bytes, end: int, bits: int) -> Mesh:
    import DracoPy

    at = 0

    def take(dtype: str, *shape: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(manifest, dtype, int(np.prod(shape)), at).reshape(shape)
        at += found.nbytes
        return found

    shape, origin = take('<f4', 3), take('<f4', 3)
    (levels,) = take('<u4', 1)
    scales, offsets = take('<f4', levels), take('<f4', levels, 3)
    counts = take('<u4', levels)
    tables = [(take('<u4', 3, n).T, take('<u4', n)) for n in counts]
    assert at == len(manifest)
    begin = end - sum(int(sizes.sum()) for _, sizes in tables)
    found = []
    for level, (places, sizes) in enumerate(tables):
        fragments = []
        for place, size in zip(places.tolist(), sizes.tolist()):
            data, begin = file[begin : begin + size], begin + size
            if not size:
                stored, triangles = np.zeros((0, 3), np.int32), np.zeros((0, 3), int)
            else:
                mesh = DracoPy.decode(data)
                stored, triangles = np.asarray(mesh.points), np.asarray(mesh.faces).astype(int)
            assert (stored >= 0).all()
            assert (stored < 2**bits).all()
            part = np.array(place) + stored / (2**bits - 1)
            points = (origin + offsets[level] + shape * 2.0**level * part).astype(np.float32)
            fragments.append(Fragment(tuple(place), stored, points, triangles, size))
        found.append(fragments)
    return Mesh(found, scales.tolist())


def find(folder: Path, sharding: dict, segment: int) -> tuple[bytes, int]:
    """The file of a segment, and where its manifest begins there."""
    import gzip

    for file in folder.glob('*.shard'):
        data = file.read_bytes()
        begin = 16 << sharding['minishard_bits']
        for start, end in np.frombuffer(data[:begin], '<u8').reshape(-1, 2).tolist():
            if start == end:
                continue
            index = gzip.decompress(data[begin + start : begin + end])
            ids, gaps, sizes = np.frombuffer(index, '<u8').reshape(3, -1)
            ids = np.cumsum(ids).tolist()
            if segment in ids:
                n = ids.index(segment)
                return data, begin + int(gaps[: n + 1].sum() + sizes[:n].sum())
    raise KeyError(segment)


def is_closed(triangles: np.ndarray) -> bool:
    """Whether every edge is passed as often in one direction as in the other."""
    edges = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    forward = edges[edges[:, 0] < edges[:, 1]]
    backward = edges[edges[:, 0] > edges[:, 1]][:, ::-1]
    order = lambda e: e[np.lexsort(e.T)]  # noqa: E731
    return np.array_equal(order(forward), order(backward))


def volume(points: np.ndarray, triangles: np.ndarray) -> float:
    a, b, c = (points[triangles] - points[:1]).transpose(1, 0, 2)
    return float(np.einsum('ij,ij->', a, np.cross(b, c)) / 6)
