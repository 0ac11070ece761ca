"""Writing one dataset of an HDF5 file without endangering what the file holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError
from ffn.utils.volumes import open_hdf5, split_spec


def split_output(spec: str, what: str) -> tuple[str, str]:
    """Splits 'path:dataset' of an output.

    Raises:
      UserError: another form.
    """
    path, dataset = split_spec(spec)
    if not dataset or not path or '://' in spec:
        raise UserError(f'{what} is {spec!r}; expected path:dataset of an HDF5 file')
    if Path(path).is_dir():
        raise UserError(f'{what}: {path} is a directory; expected an HDF5 file')
    return path, dataset


@contextlib.contextmanager
def replaced_dataset(spec: str, what: str = 'output') -> Iterator[tuple[h5py.File, str]]:
    """Opens a copy of an HDF5 file, without the dataset to be written, that replaces the file.

    All other datasets and attributes are kept; when the block raises, the old file stays as it was.

    Args:
      spec: 'path:dataset'.
      what: flag it comes from, for errors.

    Yields:
      The open file and the dataset's name, to be created by the caller.

    Raises:
      UserError: wrong form, or a file there that is not HDF5.
    """
    path, dataset = split_output(spec, what)
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(open_hdf5(path)) if Path(path).exists() else None
        if old is not None and isinstance(old.get(dataset), h5py.Group):
            raise UserError(f'{what}: {dataset!r} is a group of {path}; expected a dataset name')
        temporary = stack.enter_context(atomic_path(path))
        with h5py.File(temporary, 'w') as new:
            if old is not None:
                _copy_except(old, new, '/' + dataset.strip('/'))
            yield new, dataset


def _copy_except(old: h5py.Group, new: h5py.Group, left_out: str) -> None:
    for key, value in old.attrs.items():
        new.attrs[key] = value
    for key, item in old.items():
        if item.name == left_out:
            continue
        if left_out.startswith(f'{item.name}/'):
            _copy_except(item, new.create_group(key), left_out)
        else:
            old.copy(item, new, name=key)
