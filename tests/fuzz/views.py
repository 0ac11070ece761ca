"""Loaders of what the viewer reads: state files, tables of places, errors of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ffn.proofreading.viewing.annotation_source import AnnotationSource
from ffn.proofreading.viewing.annotations import Annotations, read_table
from ffn.proofreading.viewing.error_places import read_errors
from ffn.proofreading.viewing.states import read_view, with_sources
from tests.fuzz.case import Loader
from tests.fuzz.mutations import edit_csv_file, edit_json_file, edit_text_file

_FLAGS = ('things', 'image', 'labels')
_LAYERS = [
    {'name': 'raw', 'type': 'image', 'shader': 'void main() {}'},
    {'name': 'mine', 'type': 'annotation', 'source': {'url': 'local://annotations'}},
]
_STATE = {
    'ffn_view': 1,
    'shown': {'image': ['volume.h5:raw'], 'labels': ['zarr://labels.zarr', '/data/x.h5:labels']},
    'voxel_size': '4,4,40',
    'state': {'position': [10.5, 20.5, 3.5], 'layers': _LAYERS, 'layout': '4panel'},
}
_SERVED = {'layers': [{'name': 'raw', 'type': 'image', 'source': 'python://volume/1'}]}
_TABLE = """id_a,id_b,distance,x,y,z,accepted,note
1,2,0,10,11,12,1,
2,3,1.5,20,21,22,0,not found
3,18446744073709551614,0,30,31,32,1,
"""
_CASE = {'id': 7, 'voxels': 900, 'bits': 0.25, 'number': 2, 'at_xyz': [1, 2, 3]}
_PIECES = [{'id': n, 'voxels': 400, 'at_xyz': [1, 2, n]} for n in (3, 2**63)]
_SCORES = {
    'splits': [{**_CASE, 'pieces': _PIECES}],
    'mergers': [{**_CASE, 'pieces': _PIECES[:1]}],
    'missing': [{'id': 2**64 - 2, 'voxels': 30, 'missing': 20, 'at_xyz': [4, 5, 6]}],
}


def _writer(name: str, content: Any) -> Any:
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    return lambda folder: (folder / name).write_text(text)


def _read_view(folder: Path) -> Any:
    view = read_view(folder / 'view.json', _FLAGS)
    shown = {
        flag: [name.replace(str(folder), '') for name in names]
        for flag, names in view.shown.items()
    }
    return shown, view.voxel_size, with_sources(view.state, _SERVED)


def _good_places(places: Annotations) -> bool:
    """Whether the viewer can be given them."""
    source = AnnotationSource(places, (4, 4, 40))
    count = len(places.points)
    return (
        bool(np.isfinite(places.points).all())
        and all(len(rows) == count for rows in places.relations.values())
        and all(0 <= i < 2**64 for rows in places.relations.values() for row in rows for i in row)
        and all(len(p.values) == count for p in places.properties)
        and all(source.read(f'by_id/{n}') for n in range(count))
        and bool(json.loads(source.read('info') or b''))
    )


LOADERS = (
    Loader(
        'state of a view (JSON)',
        _writer('view.json', _STATE),
        _read_view,
        ('*.json',),
        (('*.json', edit_json_file),),
        check=lambda value: all(flag in _FLAGS for flag in value[0]),
        names_file=False,
    ),
    Loader(
        'table of places (CSV)',
        _writer('places.csv', _TABLE),
        lambda folder: read_table(folder / 'places.csv'),
        ('*.csv',),
        (('*.csv', edit_csv_file), ('*.csv', edit_text_file)),
        check=_good_places,
    ),
    Loader(
        'errors of an evaluation (JSON)',
        _writer('scores.json', _SCORES),
        lambda folder: read_errors(folder / 'scores.json'),
        ('*.json',),
        (('*.json', edit_json_file),),
        check=_good_places,
    ),
)
