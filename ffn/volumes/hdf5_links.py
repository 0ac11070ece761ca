"""What an HDF5 file takes from other files: links, raw storage and sources of virtual datasets elsewhere.

A file of somebody else's could so name any file that this process may read. Nothing of the kind is opened without
--allow_remote, but sources of virtual datasets in the folder of the file or below it, which belong to it.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from ffn.utils import trust
from ffn.utils.errors import UserError

# How many soft links may lead to each other.
_SOFT_LINKS = 16


def plain_name(name: str) -> str:
    """The name of a dataset without empty parts and dots, by which HDF5 finds it and makes it alike."""
    return '/'.join(_parts(name))


def find_item(file: h5py.File, name: str) -> h5py.Group | h5py.Dataset | None:
    """Finds what a name in a file leads to, None where there is nothing.

    Raises:
      UserError: it leads to another file.
    """
    item, rest, soft = file, _parts(name), 0
    while rest:
        if (
            not isinstance(item, h5py.Group)
            or (link := item.get(part := rest.pop(0), getlink=True)) is None
        ):
            return None
        if isinstance(link, h5py.ExternalLink):
            _refuse(file, f'{item.name.rstrip("/")}/{part}', link.filename)
        if isinstance(link, h5py.SoftLink):
            soft += 1
            if soft > _SOFT_LINKS:
                return None
            if link.path.startswith('/'):
                item = file
            rest = _parts(link.path) + rest
        elif (item := item.get(part)) is None:
            return None
    return item


def find_dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """Finds the dataset that a name in a file leads to, None where there is none.

    Raises:
      UserError: it, or its data, is in another file.
    """
    item = find_item(file, name)
    if not isinstance(item, h5py.Dataset):
        return None
    refuse_external_storage(item)
    return item


def refuse_external(file: h5py.File) -> None:
    """Refuses a file in which anything comes from another one.

    Raises:
      UserError: it does.
    """
    groups: list[h5py.Group] = [file]
    seen = set()
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                _refuse(file, f'{group.name.rstrip("/")}/{name}', link.filename)
            if not isinstance(link, h5py.HardLink):
                continue
            item = group.get(name)
            if isinstance(item, h5py.Dataset):
                refuse_external_storage(item)
            elif isinstance(item, h5py.Group) and item.id not in seen:
                seen.add(item.id)
                groups.append(item)


def refuse_external_storage(dataset: h5py.Dataset) -> None:
    """Refuses a dataset whose voxels are in other files.

    Raises:
      UserError: it is one.
    """
    for name, *_ in dataset.external or ():
        _refuse(dataset.file, dataset.name, name)
    if dataset.is_virtual:
        folder = Path(dataset.file.filename).resolve().parent
        for source in dataset.virtual_sources():
            other = (folder / source.file_name).resolve()
            if source.file_name != '.' and not other.is_relative_to(folder):
                _refuse(dataset.file, dataset.name, source.file_name)


def _parts(name: str) -> list[str]:
    return [part for part in name.split('/') if part not in ('', '.')]


def _refuse(file: h5py.File, name: str, other: str) -> None:
    if not trust.current().remote:
        raise UserError(
            f'{file.filename}: {name} is in another file, {other}, which is not opened because a file says '
            'so; if you trust it, give --allow_remote'
        )
