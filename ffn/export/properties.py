"""Properties of segments, by which Neuroglancer lists, sorts and filters them.

`voxels`, the size; where there are skeletons also `run_length_um`, their length, `radius_nm`, the greatest distance
from a place inside to the surface, and the tag `soma` where that is great enough for a cell body.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/segment_properties.md
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ffn.export.by_segment import read_measures
from ffn.utils.atomic import write_json
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_object

FOLDER = 'segment_properties'
# Segments whose properties are written: viewers load all at once, up to 60 bytes each.
LISTED = 1_000_000
# Segments that a 3-d view shows at first.
_SHOWN = 30
# What says of the tag `soma` by which radius it was given; read again by `tagged_radius`.
_RADIUS = re.compile(r'A radius of (\S+) nm or more')


def write(folder: Path, ids: np.ndarray, voxels: np.ndarray, soma_radius: float) -> None:
    """Writes the properties of segments and links them; of very many, those of the largest, which is told.

    Args:
      folder: of the precomputed volume; its skeletons, if it has any, were made before.
      ids: of all segments.
      voxels: of each.
      soma_radius: nanometres from which on the middle of a segment is taken for a cell body.
    """
    if len(ids) > LISTED:
        logging.warning(
            '%s/%s lists the %d largest of %d segments, as viewers load all of it at once',
            folder,
            FOLDER,
            LISTED,
            len(ids),
        )
    order = np.lexsort((ids, -voxels))[:LISTED]
    ids = ids[order]
    found = [_number('voxels', 'Size in voxels', voxels[order].tolist())]
    measured, measures = read_measures(folder / 'skeletons')
    if len(measured):
        place = np.minimum(np.searchsorted(measured, ids), len(measured) - 1)
        is_measured = (measured[place] == ids)[:, np.newaxis]
        lengths, radii = np.where(is_measured, measures[place], 0.0).T.tolist()
        found += [
            _number(
                'run_length_um',
                'Length of the skeleton in micrometres',
                [n / 1000 for n in lengths],
            ),
            _number('radius_nm', 'Greatest radius in nanometres', radii),
            {
                'id': 'tags',
                'type': 'tags',
                'tags': ['soma'],
                'tag_descriptions': [f'A radius of {soma_radius:.15g} nm or more'],
                'values': [[0] if radius >= soma_radius else [] for radius in radii],
            },
        ]
    (folder / FOLDER).mkdir(exist_ok=True)
    write_json(
        folder / FOLDER / 'info',
        {
            '@type': 'neuroglancer_segment_properties',
            'inline': {'ids': [str(label) for label in ids.tolist()], 'properties': found},
        },
        indent=None,
    )
    link_in_info(folder, FOLDER, FOLDER)


def tagged_radius(folder: Path, default: float) -> float:
    """The radius by which somata of a precomputed volume have been tagged, in nanometres.

    Args:
      folder: of the volume.
      default: returned where there are no tags.

    Raises:
      UserError: the properties are damaged.
    """
    path = folder / FOLDER / 'info'
    if not path.is_file():
        return default
    inline: Any = parse_object(path.read_bytes(), str(path)).get('inline')
    try:
        [tags] = [one for one in inline['properties'] if one['id'] == 'tags']
        found = _RADIUS.fullmatch(tags['tag_descriptions'][0])
        return float(found[1]) if found else default
    except (LookupError, TypeError, ValueError):  # no tags, or other ones
        return default


def largest_with_shape(folder: Path) -> list[int]:
    """Returns the ids of the 30 largest segments of a precomputed volume, if these have meshes or skeletons.

    Args:
      folder: of the volume.

    Returns:
      Ids by falling size; [] without meshes and skeletons, or without properties that name the segments.

    Raises:
      UserError: the files are damaged.
    """
    info = parse_object((folder / 'info').read_bytes(), str(folder / 'info'))
    path = folder / FOLDER / 'info'
    if not {'mesh', 'skeletons'} & info.keys() or info.get(FOLDER) != FOLDER or not path.is_file():
        return []
    inline = parse_object(path.read_bytes(), str(path)).get('inline')
    ids = inline.get('ids') if isinstance(inline, dict) else None
    if not isinstance(ids, list) or not all(
        isinstance(i, str) and i.isascii() and i.isdecimal() and int(i) < 2**64
        for i in ids[:_SHOWN]
    ):
        raise UserError(f'{path} does not list the ids of segments as texts; export them again')
    return [int(i) for i in ids[:_SHOWN]]


def link_in_info(folder: Path, key: str, name: str) -> None:
    """Names a folder in the info file of a precomputed volume.

    Args:
      folder: of the volume.
      key: what is in the folder.
      name: of the folder, within that of the volume.

    Raises:
      UserError: the info file is damaged.
    """
    info = parse_object((folder / 'info').read_bytes(), str(folder / 'info'))
    if info.get(key) != name:
        write_json(folder / 'info', {**info, key: name})


def _number(name: str, description: str, values: list[Any]) -> dict[str, Any]:
    return {
        'id': name,
        'type': 'number',
        'data_type': 'float32',
        'description': description,
        'values': values,
    }
