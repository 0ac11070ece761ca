"""A line of text in a written volume that says what it was made from, so that nobody takes it for another.

In the folder of a Zarr, N5 or precomputed volume it is the file ffn.json, in HDF5 an attribute of the
dataset.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ffn.utils.errors import UserError
from ffn.volumes.tensorstores import context, spec_of_directory, spec_of_json, spec_of_url
from ffn.volumes.volume import MADE_FROM, MADE_FROM_FILE, open_hdf5, split_spec

NAME, ATTRIBUTE = MADE_FROM_FILE, MADE_FROM


def read_stamp(spec: str) -> str:
    """Reads the stamp of a volume.

    Args:
      spec: 'path:dataset' or a URL, see `ffn.volumes.volume`.

    Returns:
      The stamp, '' of a volume that is not ours, or not there.
    """
    return str(_read(spec).get('made_from', ''))


def stamp_of_input(source: Any) -> str:
    """Reads the stamp of a volume that something else is to be made from.

    Args:
      source: string, see `read_stamp`; or a DecoratedVolume.

    Raises:
      UserError: its writing has begun and not ended.
    """
    place: str | dict[str, Any]
    if isinstance(source, str):
        name = place = source
    elif source.tensorstore:
        name = source.tensorstore
        place = spec_of_json(source.tensorstore, 'tensorstore')
    else:
        name = place = source.hdf5
    found = _read(place)
    if not found.get('complete', True):
        raise UserError(f'{name} is not complete; run the command that writes it to its end')
    return str(found.get('made_from', ''))


def _read(spec: str | dict[str, Any]) -> dict[str, Any]:
    try:
        if isinstance(spec, dict):
            return _content(_folder(spec['kvstore']))
        path, dataset = split_spec(spec)
        if '://' not in spec and not Path(path).is_dir():
            with open_hdf5(path) as file:
                return {'made_from': file[dataset].attrs.get(ATTRIBUTE, '')}
        return _content(_store(spec))
    except (ValueError, OSError, KeyError, NotImplementedError):  # nor readable at all
        return {}


def write_stamp(spec: str, stamp: str, complete: bool) -> None:
    """Writes the stamp of a volume that is a folder; what is there already is not written again.

    Args:
      spec: URL; the volume need not exist yet.
      stamp: see `read_stamp`.
      complete: whether the volume is.

    Raises:
      UserError: it cannot be written there.
    """
    content = {'made_from': stamp, 'complete': complete}
    there = _read(spec)
    if there == content or (there == {**content, 'complete': True} and not complete):
        return
    try:
        _store(spec).write(NAME, json.dumps(content).encode()).result()
    except (ValueError, OSError, NotImplementedError) as error:
        raise UserError(f'{spec} cannot be made: {str(error).splitlines()[0]}') from error


def _content(store: Any) -> dict[str, Any]:
    found = store.read(NAME).result()
    content = json.loads(found.value) if found.state == 'value' else {}
    return content if isinstance(content, dict) else {}


def _store(spec: str) -> Any:
    find = spec_of_url if '://' in spec else spec_of_directory
    return _folder(find(*split_spec(spec))['kvstore'])


def _folder(place: str | dict[str, Any]) -> Any:
    import tensorstore as ts

    if isinstance(place, dict):
        place = {**place, 'path': place['path'].rstrip('/') + '/'}
    else:
        place = place.rstrip('/') + '/'
    return ts.KvStore.open(place, context=context()).result()
