"""HDF5 datasets some of whose chunks were never written."""

from __future__ import annotations

import itertools
import math
from typing import Any

import h5py
import numpy as np

from ffn.volumes.missing import MissingChunks


def lacks_chunks(dataset: h5py.Dataset) -> bool:
    """Whether a dataset is chunked and some of its chunks do not exist."""
    if dataset.chunks is None or dataset.is_virtual:
        return False
    sides = zip(dataset.shape, dataset.chunks, strict=True)
    return bool(dataset.id.get_num_chunks() < math.prod(math.ceil(n / c) for n, c in sides))


class SparseDataset:
    """A dataset that tells of chunks that do not exist when it is read."""

    def __init__(self, dataset: h5py.Dataset, missing: MissingChunks):
        """Wraps a chunked dataset."""
        self.shape, self.dtype = dataset.shape, dataset.dtype
        self._dataset, self._missing = dataset, missing

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
        count = needed = 0
        for corner in itertools.product(*self._first_voxels(index)):
            needed += 1
            count += self._dataset.id.get_chunk_info_by_coord(corner).byte_offset is None
        self._missing.report(count, needed, self._dataset.fillvalue)
        data: np.ndarray = self._dataset[index]
        return data

    def _first_voxels(self, index: tuple[Any, ...]) -> list[range]:
        """Where the chunks begin that an index of slices and numbers lies in, by axis."""
        axes = []
        for part, length, chunk in zip(index, self.shape, self._dataset.chunks, strict=False):
            first, stop = (part, part + 1) if isinstance(part, int) else part.indices(length)[:2]
            axes.append(range(first // chunk * chunk, stop, chunk))
        return axes
