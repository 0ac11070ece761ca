"""Volumes that are open for writing."""

from __future__ import annotations

from typing import Any, Protocol

import h5py
import numpy as np

from ffn.utils.errors import UserError
from ffn.utils.geometry import Box
from ffn.volumes.shards import Shards


class Target(Protocol):
    """A volume that is open for writing."""

    def write(self, box: Box, labels: np.ndarray) -> None:
        """Writes uint64 [z, y, x] labels of a box."""


class Dataset:
    """An HDF5 dataset as a `Target`."""

    def __init__(self, dataset: h5py.Dataset):
        """Takes an open dataset [z, y, x]."""
        self._dataset = dataset

    def write(self, box: Box, labels: np.ndarray) -> None:
        """See `Target`."""
        self._dataset[box.slices_zyx] = labels


class Store:
    """A TensorStore as a `Target`, with axes transposed to [z, y, x]."""

    def __init__(self, store: Any, shards: Shards | None = None):
        """Takes an open store with axes named x, y, z, or in the order z, y, x.

        Args:
          store: the TensorStore.
          shards: written as wholes.
        """
        import tensorstore as ts

        labels = list(store.domain.labels)
        order = [labels.index(axis) for axis in 'zyx'] if 'x' in labels else [0, 1, 2]
        if store.rank == 4:
            store = store[..., 0]
        self._store, self._shards = store[ts.d[order].transpose[:]], shards

    def write(self, box: Box, labels: np.ndarray) -> None:
        """See `Target`."""
        try:
            write_array(self._store, box, labels, self._shards)
        except ValueError as error:  # TensorStore's for a disk that is full, and all else
            raise UserError(f'{box} cannot be written: {first_line(error)}') from error


def write_array(store: Any, box: Box, array: np.ndarray, shards: Shards | None) -> None:
    """Writes to a TensorStore, each shard as a whole and at once.

    Args:
      store: a TensorStore [z, y, x].
      box: where; with shards, nothing of a shard that other tasks write.
      array: [z, y, x].
      shards: None if there are none.

    Raises:
      ValueError: TensorStore's for all that goes wrong.
    """
    if shards is None:
        store[box.slices_zyx].write(array).result()
        return
    import tensorstore as ts

    for part in shards.cut(box):
        # Without a transaction, the shard would be written anew for every chunk.
        with ts.Transaction() as transaction:
            target = store.with_transaction(transaction)[part.slices_zyx]
            target.write(array[part.relative_to(box.start).slices_zyx]).result()


def first_line(error: Exception) -> str:
    """A TensorStore error without its details."""
    return str(error).splitlines()[0].partition(' [tensorstore_spec')[0]
