"""The errors that `ffn evaluate --json` and `ffn compare --json` list, as places in a viewer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffn.proofreading.viewing.annotations import Annotations, Property
from ffn.utils.errors import UserError
from ffn.utils.texts import parse_object

# Errors of each kind that are shown, the worst first.
MOST = 500
_LARGEST_FILE = 2**28


class _Kind(NamedTuple):
    """A list of errors: what it is called, and whose ids it has."""

    name: str
    text: str
    whose: str
    pieces: str


_EVALUATED = {
    'splits': _Kind('split', 'object {id} is split into {number} segments', 'truth', 'segments'),
    'mergers': _Kind('merger', 'segment {id} merges {number} objects', 'segments', 'truth'),
    'missing': _Kind('missing', 'object {id} is missing, {missing} voxels', 'truth', ''),
}
_COMPARED = {
    'cut_in_b': _Kind('cut in b', '{id} of a is {number} segments of b', 'a', 'b'),
    'joined_in_b': _Kind('joined in b', '{id} of b is {number} segments of a', 'b', 'a'),
    'missing_in_b': _Kind('missing in b', '{id} of a is missing in b, {missing} voxels', 'a', ''),
    'missing_in_a': _Kind('missing in a', '{id} of b is missing in a, {missing} voxels', 'b', ''),
}


def read_errors(path: str | Path) -> Annotations:
    """Reads the errors of an evaluation or a comparison.

    Args:
      path: what --json wrote.

    Raises:
      UserError: no such file, or another kind of file.
    """
    file = Path(path)
    if file.is_file() and file.stat().st_size > _LARGEST_FILE:
        raise UserError(f'{path} is larger than {_LARGEST_FILE >> 20} MiB; expected scores as JSON')
    content = parse_object(file.read_bytes(), str(path))
    kinds = next((k for k in (_EVALUATED, _COMPARED) if k.keys() & content.keys()), None)
    if kinds is None:
        raise UserError(f'{path} lists no errors; expected what ffn evaluate --json wrote')
    found = []
    for kind, (key, one) in enumerate(kinds.items()):
        try:
            found += [_place(case, kind, one) for case in content.get(key, [])[:MOST]]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise UserError(
                f'{path}: {key} holds an error that is not as ffn evaluate writes it'
            ) from error
    relations = [*dict.fromkeys(side for one in kinds.values() for side in (one.whose, one.pieces))]
    return Annotations(
        np.array([place.xyz for place in found], np.float64).reshape(-1, 3) + 0.5,
        {side: [p.ids.get(side, ()) for p in found] for side in relations if side},
        (
            Property(
                'kind',
                np.array([p.kind for p in found], np.uint8),
                tuple(k.name for k in kinds.values()),
            ),
            Property('voxels', np.array([p.voxels for p in found], np.float32)),
        ),
        tuple(place.text for place in found),
        '#ff4040',
    )


class _Place(NamedTuple):
    """An error."""

    xyz: tuple[int, int, int]
    kind: int
    ids: Mapping[str, tuple[int, ...]]
    voxels: int
    text: str


def _place(case: Mapping[str, Any], number: int, kind: _Kind) -> _Place:
    x, y, z = (int(n) for n in case['at_xyz'])
    id_, voxels = int(case['id']), int(case['voxels'])
    pieces = tuple(int(piece['id']) for piece in case['pieces']) if kind.pieces else ()
    if not all(0 <= i < 2**64 for i in (id_, *pieces)) or not math.isfinite(float(voxels)):
        raise ValueError('an id that is none')
    if max(map(abs, (x, y, z))) >= 2**53:
        raise ValueError('a position that is none')
    ids = {kind.whose: (id_,), kind.pieces: tuple(i for i in pieces if i)}
    values = {name: int(case[name]) for name in ('number', 'missing') if name in case}
    text = kind.text.format(id=id_, **values)
    return _Place((x, y, z), number, ids, voxels, f'{text} ({voxels:,} voxels)')
