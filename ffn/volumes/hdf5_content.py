"""A digest of what an HDF5 dataset holds, stored with it: other content of the same name does not go unnoticed.

It belongs to the content, not to the file: a copy, a touched file, another dataset beside it, or the same import
once more leave it as it is.
"""

from __future__ import annotations

import hashlib
import itertools

import h5py
import numpy as np

from ffn.volumes.hdf5_links import find_dataset
from ffn.volumes.opened_array import CONTENT, MADE_FROM


def stamp_content(file: h5py.File, name: str) -> None:
    """Stores the digest of a dataset that has been written, unless it says what it was made from."""
    file.flush()
    dataset = find_dataset(file, name)
    if dataset is not None and dataset.dtype.kind in 'biuf' and MADE_FROM not in dataset.attrs:
        dataset.attrs[CONTENT] = content_digest(dataset)


def content_digest(dataset: h5py.Dataset) -> str:
    """SHA-256 of a dataset of numbers: its shape and type, and chunks as they are stored, not unpacked."""
    about = dataset.shape, dataset.dtype.str, dataset.chunks, str(dataset.fillvalue)
    hashed = hashlib.sha256(repr(about).encode())
    if dataset.chunks is None:
        for row in dataset if dataset.shape else [dataset[()]]:
            hashed.update(np.ascontiguousarray(row).tobytes())
        return hashed.hexdigest()
    sides = zip(dataset.shape, dataset.chunks, strict=True)
    for corner in itertools.product(*(range(0, n, chunk) for n, chunk in sides)):
        if dataset.id.get_chunk_info_by_coord(corner).byte_offset is not None:
            hashed.update(repr(corner).encode() + dataset.id.read_direct_chunk(corner)[1])
    return hashed.hexdigest()
