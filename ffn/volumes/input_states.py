"""Have volumes of other programs been written anew since a run made something of them?

They have no stamp, and size and time of a file change without need where it is touched or copied. So they are kept
in a record of the run, which only decides whether it makes its results again, and are no part of any stamp: what is
known by a stamp, such as a journal of proofreading, outlives a touched file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py

from ffn.utils.atomic import write_json
from ffn.utils.checksums import sealed, unsealed
from ffn.utils.errors import UserError
from ffn.volumes import tensorstores, wkw_datasets
from ffn.volumes.hdf5 import open_hdf5
from ffn.volumes.opened_array import CONTENT, MADE_FROM
from ffn.volumes.provenance import name_and_place, read_input_stamp
from ffn.volumes.specs import split_channel, split_spec
from ffn.volumes.tensorstores import find_store, is_remote, plain_kvstore
from ffn.volumes.volume import VolumeSource

RECORD = 'input_states.json'
# Files that say what a volume in a folder is.
_METADATA = '.zarray', 'zarr.json', 'attributes.json', 'info'


def foreign_state(source: str | VolumeSource) -> str:
    """What tells that a volume of another program has been written anew, as nothing in the volume does.

    Args:
      source: see `provenance.read_input_stamp`.

    Returns:
      Size and time of the file, or of the metadata in its folder; '' on a server, if it is put together from other
      volumes, if it has a stamp, or if its HDF5 file also holds datasets of ours: writing them changes it.
    """
    name, place = name_and_place(source)
    if (isinstance(place, str) and is_remote(name)) or read_input_stamp(source):
        return ''
    files = _files_of_store(place.get('kvstore')) if isinstance(place, dict) else _files_of(place)
    if any(map(_holds_ours, files)):
        return ''
    states = [
        f'{one.name} of {at.st_size} bytes, written {datetime.fromtimestamp(at.st_mtime, UTC):%Y-%m-%dT%H:%M:%S.%fZ}'
        for one in files
        for at in [one.stat()]
    ]
    return ', '.join(states)


def _files_of(spec: str) -> list[Path]:
    """The file that holds a volume, or those of its metadata; found as `formats.open_array` finds the volume."""
    spec, _ = split_channel(spec)
    with contextlib.suppress(UserError):  # told where it is opened
        if wkw_datasets.recognizes(spec):
            return [wkw_datasets.find_header(spec)]
        if tensorstores.recognizes(spec):
            return _files_of_store(plain_kvstore(find_store(spec)['kvstore']))
    file = Path(split_spec(spec)[0])
    return [file] if file.is_file() else []


def _files_of_store(kvstore: Any) -> list[Path]:
    """The same of a TensorStore key-value store; none if that is not on this machine."""
    match kvstore:
        case {'driver': 'zip', 'base': {'driver': 'file', 'path': str(archive)}}:
            return [Path(archive)] if Path(archive).is_file() else []
        case {'driver': 'file', 'path': str(folder)} if folder:
            return [file for name in _METADATA if (file := Path(folder, name)).is_file()]
    return []


def _holds_ours(path: Path) -> bool:
    """Whether a file is HDF5 with a dataset of ours; not as far as it is damaged, which is told where that is read."""

    def is_ours(_: str, item: h5py.Group | h5py.Dataset) -> bool | None:
        return MADE_FROM in item.attrs or CONTENT in item.attrs or None

    if not h5py.is_hdf5(path):
        return False
    try:
        with open_hdf5(path) as file:
            return bool(file.visititems(is_ours))
    except (RuntimeError, KeyError, ValueError, OSError):
        return False


def state_of(source: VolumeSource) -> dict[str, str]:
    """The name of a volume and its state, see `foreign_state`; nothing where that is not known."""
    state = foreign_state(source)
    return {source.name: state} if state else {}


def were_written_anew(folder: Path, result: str, states: Mapping[str, str]) -> bool:
    """Whether inputs are not those that a result was made of, as far as is known.

    Args:
      folder: of the run; see `record_states`.
      result: what was made of them.
      states: of the inputs now.

    Raises:
      UserError: the record is damaged.
    """
    known = _read(folder).get(result, {})
    return any(known.get(name, state) != state for name, state in states.items())


def record_states(folder: Path, result: str, states: Mapping[str, str]) -> None:
    """Records what a result is made of; inputs of which nothing is known now stay as they were.

    Args:
      folder: of the run.
      result: what is made of them.
      states: of the inputs.
    """
    known = _read(folder)
    now = {**known.get(result, {}), **states}
    if now != known.get(result, {}):
        write_json(folder / RECORD, sealed({**known, result: now}))


def _read(folder: Path) -> dict[str, dict[str, str]]:
    record = folder / RECORD
    if not record.exists():
        return {}
    return unsealed(record.read_bytes(), record, 'remove it, and run again')
