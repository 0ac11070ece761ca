"""Strings that name volumes: 'path:dataset' for HDF5, and Zarr, N5 and precomputed by URL."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ffn.utils.errors import UserError

FORM = 'path:dataset (HDF5), or zarr://, zarr3://, n5:// or precomputed:// before a path or URL'

_T = TypeVar('_T', int, str)


def split_spec(spec: str) -> tuple[str, str]:
    """Splits 'path:dataset' at its last colon that is not part of a URL scheme.

    Returns:
      Path and dataset; the dataset is '' if none is given.
    """
    path, colon, dataset = spec.rpartition(':')
    port = (
        re.search(r'://[^/]*$', path) and re.match(r'\d+(/|$)', dataset) and path.count('://') > 1
    )
    if not colon or dataset.startswith('//') or port:
        return spec, ''
    return path, dataset


def split_scale(place: str) -> tuple[str, str]:
    """Splits 'FOLDER@SCALE', one scale of several, unless there is a folder of the whole name.

    Returns:
      Folder or URL, and scale; the scale is '' if none is given.
    """
    folder, at, scale = place.rpartition('@')
    if not at or not folder or '/' in scale or Path(place).exists():
        return place, ''
    return folder, scale


def is_zip(path: str | Path) -> bool:
    """Whether this is a zip file, which may hold volumes as a folder does."""
    return Path(path).suffix == '.zip' and Path(path).is_file()


def split_channel(spec: str) -> tuple[str, int | None]:
    """Splits 'VOLUME#N', one channel of several, unless there is a file or folder of the whole name.

    Returns:
      The volume and the number of the channel, from 0; None if none is given.
    """
    volume, mark, number = spec.rpartition('#')
    if not mark or not volume or not re.fullmatch('[0-9]+', number) or Path(spec).exists():
        return spec, None
    return volume, int(number)


def agreed(
    named: _T | None, flag: _T | None, source: str, source_flag: str, what: str
) -> _T | None:
    """What a string names, or else a flag.

    Args:
      named: of the string; None: nothing.
      flag: of the flag; None: nothing.
      source: the string without it, for errors.
      source_flag: the flag that holds the string, for errors.
      what: the flag, for errors.

    Raises:
      UserError: they differ.
    """
    if flag is None or named is None:
        return named if flag is None else flag
    if flag != named:
        raise UserError(f'{what} {flag} contradicts {source_flag}, which names {named} of {source}')
    return named


def absolute_spec(spec: str) -> str:
    """Makes the path in the string of a volume absolute; URLs of servers stay as they are."""
    scheme, mark, path = spec.partition('://')
    if not mark:
        return os.path.abspath(spec)
    return spec if '://' in path else f'{scheme}://{os.path.abspath(path)}'


def without_place(spec: str) -> str:
    """What the string of a volume says besides where it is: its format, and which of the volumes there it is."""
    volume, channel = split_channel(spec)
    scheme, mark, _ = volume.partition('://')
    path, dataset = split_spec(volume)
    return f'{scheme if mark else ""}:{dataset}@{split_scale(path)[1]}#{channel}'


def split_named(specs: Sequence[str], what: str = 'volumes') -> dict[str, str]:
    """Splits 'name:path:dataset' entries.

    Args:
      specs: the entries.
      what: the flag that errors name.

    Returns:
      {name: 'path:dataset'} in the order given.

    Raises:
      UserError: an entry has another form, or a name is given twice.
    """
    named: dict[str, str] = {}
    for spec in specs:
        name, _, rest = spec.partition(':')
        is_url = rest.startswith('//')
        volume, _ = split_channel(rest)
        path, dataset = split_spec(volume)
        place = Path(split_scale(path)[0])
        names_volume = dataset or '://' in path or place.is_dir() or is_zip(place)
        if not name or not rest or is_url or not names_volume:
            is_named = name and rest and not is_url and not Path(name).exists()
            is_absent = is_named and not place.exists()
            raise UserError(
                f'{what}: {spec!r} is not of the form name:path:dataset'
                + (f', and there is no file or folder {place}' if is_absent else '')
            )
        if name in named:
            raise UserError(f'{what}: the name {name!r} is given twice')
        named[name] = rest
    if not named:
        raise UserError(f'{what}: no volume is given; expected name:path:dataset')
    return named
