"""Annotations as Neuroglancer reads them: its precomputed format, made in memory.

One cell of the spatial index holds all of them. The files of single annotations and of those of a segment are made
when they are asked for: written to disk, there would be one for each.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ffn.proofreading.viewing.annotations import ANSWERS, Annotations, Property


class AnnotationSource:
    """The files of annotations."""

    def __init__(self, annotations: Annotations, voxel_size: Sequence[float]):
        """Takes the annotations.

        Args:
          annotations: the places.
          voxel_size: x, y, z nanometres.
        """
        self._annotations = annotations
        # Larger types come first, and each record ends at a multiple of four bytes.
        self._properties = sorted(annotations.properties, key=lambda p: -p.values.dtype.itemsize)
        self._records = _encode(annotations.points, self._properties)
        self._info = json.dumps(self._describe(voxel_size)).encode()
        self._of: dict[str, dict[int, list[int]]] = {}
        for name, rows in annotations.relations.items():
            of = self._of.setdefault(name, {})
            for number, ids in enumerate(rows):
                for id_ in ids:
                    of.setdefault(int(id_), []).append(number)

    def _describe(self, voxel_size: Sequence[float]) -> dict:
        points = self._annotations.points
        low, high = points.min(axis=0, initial=np.inf), points.max(axis=0, initial=-np.inf)
        if not len(points):
            low, high = np.zeros(3), np.ones(3)
        return {
            '@type': 'neuroglancer_annotations_v1',
            'dimensions': {a: [n * 1e-9, 'm'] for a, n in zip('xyz', voxel_size, strict=True)},
            'lower_bound': low.tolist(),
            'upper_bound': (high + 1).tolist(),
            'annotation_type': 'point',
            'properties': [_describe_property(p) for p in self._properties],
            'relationships': [{'id': n, 'key': f'of_{n}'} for n in self._annotations.relations],
            'by_id': {'key': 'by_id'},
            'spatial': [
                {
                    'key': 'spatial0',
                    'grid_shape': [1, 1, 1],
                    'chunk_size': (high + 1 - low).tolist(),
                    'limit': max(len(points), 1),
                }
            ],
        }

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none of that name."""
        if path == 'info':
            return self._info
        folder, _, name = path.partition('/')
        if folder == 'spatial0' and name == '0_0_0':
            return self._list(range(len(self._records)))
        if not name.isdecimal() or len(name) > 20:
            return None
        if folder == 'by_id' and int(name) < len(self._records):
            return self._one(int(name))
        if folder.removeprefix('of_') in self._of:
            return self._list(self._of[folder.removeprefix('of_')].get(int(name), []))
        return None

    def _list(self, numbers: Sequence[int]) -> bytes:
        ids = np.array(numbers, '<u8')
        return struct.pack('<Q', len(ids)) + self._records[ids].tobytes() + ids.tobytes()

    def _one(self, number: int) -> bytes:
        parts = [self._records[number].tobytes()]
        for rows in self._annotations.relations.values():
            ids = np.array(rows[number], '<u8')
            parts.append(struct.pack('<I', len(ids)) + ids.tobytes())
        return b''.join(parts)


def _encode(points: np.ndarray, properties: Sequence[Property]) -> np.ndarray:
    size = sum(p.values.dtype.itemsize for p in properties)
    fields: list[Any] = [('geometry', '<f4', (3,))]
    fields += [(f'p{i}', p.values.dtype.newbyteorder('<')) for i, p in enumerate(properties)]
    records = np.zeros(len(points), [*fields, ('padding', 'u1', (-size % 4,))])
    records['geometry'] = points
    for i, one in enumerate(properties):
        records[f'p{i}'] = one.values
    return records


def _describe_property(one: Property) -> dict:
    described: dict = {'id': one.name, 'type': one.values.dtype.name}
    if one.names:
        described |= {'enum_values': list(range(len(one.names))), 'enum_labels': list(one.names)}
    return described


def shader(annotations: Annotations) -> str:
    """How Neuroglancer draws them."""
    color = 'defaultColor()'
    if any(p.name == 'accepted' and p.names[:2] == ANSWERS for p in annotations.properties):
        color = (
            'prop_accepted() == 1u ? vec3(0.1, 0.9, 0.2) : '
            'prop_accepted() == 0u ? vec3(1.0, 0.2, 0.2) : defaultColor()'
        )
    return (
        '#uicontrol float size slider(min=1, max=30, default=8)\n'
        f'void main() {{ setColor({color}); setPointMarkerSize(size); }}'
    )
