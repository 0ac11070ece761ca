"""Have volumes of other programs been written anew since a run made something of them?

They have no stamp, and size and time of a file change without need where it is touched or copied. So they are kept
in a record of the run, which only decides whether it makes its results again, and are no part of any stamp: what is
known by a stamp, such as a journal of proofreading, outlives a touched file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py

from ffn.utils.atomic import write_json
from ffn.utils.checksums import sealed, unsealed
from ffn.volumes.hdf5 import open_hdf5
from ffn.volumes.opened_array import CONTENT, MADE_FROM
from ffn.volumes.provenance import foreign_state, own_files
from ffn.volumes.volume import VolumeSource

RECORD = 'input_states.json'


def state_of(source: VolumeSource) -> dict[str, str]:
    """The name of a volume and its state, see `provenance.foreign_state`.

    Returns:
      Nothing where that is not known, or where an HDF5 file also holds datasets of ours: writing them changes it.
    """
    state = foreign_state(source)
    if not state or (not source.tensorstore and any(map(_holds_ours, own_files(source.spec)))):
        return {}
    return {source.name: state}


def _holds_ours(path: Path) -> bool:
    def is_ours(_: str, item: h5py.Group | h5py.Dataset) -> bool | None:
        return MADE_FROM in item.attrs or CONTENT in item.attrs or None

    if not h5py.is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return bool(file.visititems(is_ours))


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
