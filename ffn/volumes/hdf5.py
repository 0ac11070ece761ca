"""HDF5: reading a dataset, and writing one without endangering what else the file holds."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from ffn.utils.atomic import atomic_path
from ffn.utils.errors import UserError, damage_told
from ffn.utils.locks import one_writer
from ffn.volumes.attributes import read_voxels
from ffn.volumes.chunks import check_chunk_size
from ffn.volumes.hdf5_chunks import SparseDataset, lacks_chunks
from ffn.volumes.hdf5_content import stamp_content
from ffn.volumes.hdf5_links import find_dataset, find_item, plain_name
from ffn.volumes.hdf5_metadata import check_readable, read_axes
from ffn.volumes.missing import MissingChunks
from ffn.volumes.opened_array import FILL_VALUE, MADE_FROM, ArrangedArray, OpenedArray
from ffn.volumes.specs import FORM, split_spec

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


DAMAGE_ADVICE = 'copy it again from where it comes from, or write it anew'
# Attributes of datasets that are written here or by existing installations, in which empty chunks are left out.
_SPARSE = {MADE_FROM, 'partition_counts'}


def recognizes(spec: str) -> bool:
    """Whether a string has the form 'path:dataset'."""
    return all(split_spec(spec))


def open_array(spec: str) -> OpenedArray:
    """Opens a dataset for reading, without locking the file.

    Raises:
      UserError: no such file or dataset.
    """
    path, dataset = split_spec(spec)
    file = open_hdf5(path)
    try:
        with damage_told(path, DAMAGE_ADVICE):
            item = find_dataset(file, dataset)
            if item is None:
                there = describe_datasets(file)
                raise UserError(f'{path} holds no dataset {dataset!r}; it holds {there}')
            return _describe(item, spec, path, file.close)
    except BaseException:
        file.close()
        raise


def _describe(
    dataset: h5py.Dataset, spec: str, path: str, close: Callable[[], None]
) -> OpenedArray:
    check_readable(dataset, path, spec)
    check_chunk_size(dataset.chunks or (), dataset.shape, dataset.dtype, spec)
    arrangement = read_axes(dataset, spec)
    voxel_size, origin_zyx, origin_from = read_voxels(dataset.attrs, arrangement, spec)
    missing = MissingChunks(spec, is_sparse=not _SPARSE.isdisjoint(dataset.attrs))
    array = SparseDataset(dataset, missing) if lacks_chunks(dataset) else dataset
    array = array if arrangement.as_stored else ArrangedArray(array, arrangement)
    attrs = dict(dataset.attrs)
    if dataset.dtype.kind in 'iu':
        attrs.setdefault(FILL_VALUE, dataset.fillvalue)
    return OpenedArray(array, attrs, origin_zyx, close, voxel_size, origin_from, missing)


def open_hdf5(path: str | Path) -> h5py.File:
    """Opens an HDF5 file for reading, without locking it.

    Raises:
      UserError: there is none, or it is damaged or not HDF5.
    """
    if not Path(path).exists():
        _, _, behind = str(path).partition(':')
        named = f'; expected {FORM}, without a name before it' if Path(behind).is_file() else ''
        raise UserError(f'no such file: {path}{named}')
    try:
        try:
            return h5py.File(path, 'r', locking=False)
        except OSError as error:
            # Within one process, HDF5 demands the same locking from everyone who opens a file.
            if 'locking flag' not in str(error):
                raise
            return h5py.File(path, 'r')
    except OSError as error:
        raise UserError(
            f'{path} is not a readable HDF5 file ({error}); if its writing or copying was broken off, {DAMAGE_ADVICE}'
        ) from error


def describe_datasets(file: h5py.File, at_most: int = 20) -> str:
    """Lists the datasets of a file with their shapes, for messages."""
    found: list[str] = []
    file.visititems(
        lambda name, item: (
            found.append(f'{name} {item.shape}') if isinstance(item, h5py.Dataset) else None
        )
    )
    more = f' and {len(found) - at_most} more' if len(found) > at_most else ''
    return ', '.join(itertools.islice(found, at_most)) + more if found else 'no dataset'


def split_output(spec: str, what: str) -> tuple[str, str]:
    """Splits the 'path:dataset' of an output, whose name is made plain; `what` names the flag in errors.

    Raises:
      UserError: it has another form.
    """
    path, dataset = split_spec(spec)
    if not dataset or not path or '://' in spec:
        raise UserError(f'{what} is {spec!r}; expected path:dataset of an HDF5 file')
    if Path(path).is_dir():
        raise UserError(f'{what}: {path} is a directory; expected an HDF5 file')
    if not plain_name(dataset):
        raise UserError(f'{what}: {dataset!r} is a group of {path}; expected a dataset name')
    return path, plain_name(dataset)


@contextlib.contextmanager
def replaced_dataset(spec: str, what: str = 'output') -> Iterator[tuple[h5py.File, str]]:
    """Opens a copy of an HDF5 file, without the dataset to be written, that will replace the file.

    All other datasets and attributes are kept; if the block raises, the old file stays as it was. A second
    process that writes to the file waits.

    Args:
      spec: 'path:dataset'.
      what: the flag that errors name.

    Yields:
      The open file and the dataset's name, to be created by the caller.

    Raises:
      UserError: wrong form, or an existing file that is not HDF5.
    """
    path, dataset = split_output(spec, what)
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_writer(path))
        old = stack.enter_context(open_hdf5(path)) if Path(path).exists() else None
        if old is not None and isinstance(find_item(old, dataset), h5py.Group):
            raise UserError(f'{what}: {dataset!r} is a group of {path}; expected a dataset name')
        for above in itertools.accumulate(dataset.split('/')[:-1], '{}/{}'.format):
            if old is not None and isinstance(find_item(old, above), h5py.Dataset):
                raise UserError(f'{what}: {above!r} is a dataset of {path}; expected a group')
        raw = stack.enter_context(_OutputFile(stack.enter_context(atomic_path(path)), 'wb+'))
        try:
            with h5py.File(raw, 'w') as new:
                if old is not None:
                    _copy_except(old, new, f'/{dataset}')
                yield new, dataset
                if raw.error is None:
                    stamp_content(new, dataset)
        finally:
            if raw.error is not None:
                raise OSError(raw.error.errno, raw.error.strerror, path)


def _copy_except(old: h5py.Group, new: h5py.Group, excluded: str) -> None:
    """Copies attributes and members of a group, but for the dataset of this absolute name."""
    for key, value in old.attrs.items():
        new.attrs[key] = value
    for key in old:
        link, name = old.get(key, getlink=True), f'{old.name.rstrip("/")}/{key}'
        if name == excluded:
            continue
        if not isinstance(link, h5py.HardLink):
            new[key] = link
        elif excluded.startswith(f'{name}/'):
            _copy_except(old[key], new.create_group(key), excluded)
        else:
            old.copy(key, new, name=key)


class _OutputFile(io.FileIO):
    """A file for HDF5 whose writes never fail; the first error is kept.

    HDF5 crashes the process with a segmentation fault when it cannot close a file because the disk is full.
    What it writes after an error is dropped, since the file is discarded.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Writes all of the data, unless an earlier write failed."""
        rest = memoryview(data).cast('B')
        while len(rest) and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Sets the size."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return size or 0
