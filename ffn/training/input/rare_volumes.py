"""Records of volumes that few coordinates name, kept in memory instead of being looked for among all others."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf

# More records of a volume than this are read from the files in every pass.
_MOST = 2**14


class RareVolumes:
    """Collects while all files are read; gives the records of a pass in the order in which files are interleaved."""

    def __init__(self, names: Collection[str], files: int):
        """Keeps nothing yet.

        Args:
          names: of the volumes that may be asked for.
          files: number of files.
        """
        self._files = files
        self._lengths: Counter[int] = Counter()
        # Name → number of the file, number of the record in it, record.
        self._kept: dict[str, list[tuple[int, int, bytes]]] = {name: [] for name in names}

    def add(self, file: int, names: Sequence[str], which: np.ndarray, records: tf.Tensor) -> None:
        """Takes the next records of a file.

        Args:
          file: its number.
          names: of the volumes of these records, each once.
          which: number of the name for each record.
          records: serialized.
        """
        first = self._lengths[file]
        self._lengths[file] += len(which)
        for number, name in enumerate(names):
            if name not in self._kept:
                continue
            places = np.flatnonzero(which == number)
            if len(self._kept[name]) + len(places) > _MOST:
                del self._kept[name]
                continue
            found = tf.gather(records, places).numpy().tolist()
            self._kept[name] += [
                (file, first + place, record)
                for place, record in zip(places.tolist(), found, strict=True)
            ]

    def __contains__(self, name: str) -> bool:
        return bool(self._kept.get(name))

    def in_turn(self, name: str, files: tf.data.Dataset, at_once: int) -> tf.data.Dataset:
        """Records of a volume, as `Dataset.interleave` over the files would give them.

        Args:
          name: of a volume that is kept.
          files: numbers of all files, in the order of a pass.
          at_once: the cycle length.
        """
        places = np.array([place for *place, _ in self._kept[name]], np.int64)
        kept = tf.constant([record for *_, record in self._kept[name]])

        def order(files: np.ndarray) -> np.ndarray:
            lengths = [self._lengths[number] for number in files.tolist()]
            opened = np.empty((len(files), 2), np.int64)
            opened[files] = _opened(lengths, at_once)
            rounds, slots = opened[places[:, 0]].T
            return np.lexsort((slots, rounds + places[:, 1]))

        return (
            files.batch(self._files)
            .map(lambda numbers: tf.gather(kept, tf.numpy_function(order, [numbers], tf.int64)))
            .unbatch()
        )


def _opened(lengths: Sequence[int], at_once: int) -> list[tuple[int, int]]:
    """Round and slot in which each file is opened, if every open file gives a record in a round.

    A file whose end is found in a round, behind its last record, makes room in the round after it.
    """
    free = [(0, slot) for slot in range(at_once)]
    opened = []
    for length in lengths:
        start, slot = heapq.heappop(free)
        opened.append((start, slot))
        heapq.heappush(free, (start + length + 1, slot))
    return opened
