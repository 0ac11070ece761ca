"""The axes of HDF5 datasets, and what keeps their voxels from being read.

Axes are named by dimension labels, `axistags` of ilastik or `axis_names` of funlib.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

import h5py

from ffn.utils.errors import UserError
from ffn.volumes.attributes import texts
from ffn.volumes.axes import Arrangement, arrange, normalize_names

_FILTERS = {
    32000: 'LZF',
    32001: 'Blosc',
    32004: 'LZ4',
    32008: 'Bitshuffle',
    32013: 'ZFP',
    32015: 'Zstandard',
    32026: 'Blosc2',
}


def read_axes(dataset: h5py.Dataset, what: str) -> Arrangement:
    """Finds out which axis of a dataset is which.

    Raises:
      UserError: see `arrange`; also axis tags that cannot be read.
    """
    return arrange(_axis_names(dataset, what), dataset.shape, what)


def _axis_names(dataset: h5py.Dataset, what: str) -> Sequence[str]:
    labels = normalize_names([dimension.label for dimension in dataset.dims])
    if labels:
        return labels
    attrs = dataset.attrs
    if 'axistags' in attrs:
        try:
            return normalize_names([axis['key'] for axis in json.loads(attrs['axistags'])['axes']])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f'{what} has axistags that cannot be read: {error}') from error
    return normalize_names(texts(attrs.get('axis_names', ())))


def _is_available(filter_code: int) -> bool:
    if not h5py.h5z.filter_avail(filter_code):
        with contextlib.suppress(ImportError):
            importlib.import_module('hdf5plugin')  # registers what it has
    return bool(h5py.h5z.filter_avail(filter_code))


def check_readable(dataset: h5py.Dataset, path: str, what: str) -> None:
    """Checks that the voxels of a dataset are there and that this installation can read them.

    Raises:
      UserError: a compression that is not installed, sources of a virtual dataset that are missing, or a
        dataset that was created and never written.
    """
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(i)
        if not _is_available(code):
            known = _FILTERS.get(code) or name.decode(errors='replace') or 'unknown'
            raise UserError(
                f'{what} is compressed with {known} (HDF5 filter {code}), which is not installed; '
                'pip install hdf5plugin'
            )
    if dataset.is_virtual:
        folder = Path(path).parent
        missing = {
            source.file_name
            for source in dataset.virtual_sources()
            if source.file_name != '.' and not (folder / source.file_name).exists()
        }
        if missing:
            raise UserError(
                f'{what} is a virtual dataset; {len(missing)} of the files that it is made of are missing, '
                f'among them {min(missing)}'
            )
    elif dataset.size and not dataset.id.get_storage_size():
        raise UserError(f'{what} was created, but none of its voxels were written')
