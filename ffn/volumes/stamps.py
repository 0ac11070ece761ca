"""The file that says of a volume in a folder, written here, what it is made from: see `ffn.volumes.provenance`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffn.utils.checksums import unsealed
from ffn.utils.errors import UserError
from ffn.volumes.opened_array import MADE_FROM_FILE

_ADVICE = 'remove the volume and run again what writes it'


def parse_stamp(data: bytes, name: str) -> dict[str, Any]:
    """Parses the content of the file.

    Args:
      data: JSON.
      name: the volume, for messages.

    Returns:
      `made_from`, `complete`, and of exports `sparse`, see `is_sparse`.

    Raises:
      UserError: it is damaged.
    """
    stamp = unsealed(data, f'{MADE_FROM_FILE} of {name}', _ADVICE)
    if not all(isinstance(stamp.get(key, True), bool) for key in ('complete', 'sparse')):
        raise UserError(f'{MADE_FROM_FILE} of {name} is damaged; {_ADVICE}')
    return stamp


def read_local_stamp(kvstore: Any, name: str) -> dict[str, Any]:
    """Reads the stamp of a volume on this machine; {} where there is none, or the volume is elsewhere.

    Args:
      kvstore: TensorStore spec of the folder.
      name: the volume, for messages.

    Raises:
      UserError: it is damaged.
    """
    match kvstore:
        case {'driver': 'file', 'path': str(folder)} if folder:
            file = Path(folder, MADE_FROM_FILE)
            return parse_stamp(file.read_bytes(), name) if file.is_file() else {}
    return {}


def is_sparse(stamp: Mapping[str, Any]) -> bool:
    """Whether chunks that a volume lacks are empty, and were left out by intention.

    Exports say so. What is made from other volumes says nothing, and leaves out what is empty, as did exports before
    they said so.
    """
    return bool(stamp) and bool(stamp.get('sparse', True))
