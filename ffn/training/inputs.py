"""Examples: coordinates from TFRecords, and the patches around them."""

from __future__ import annotations

import collections
import contextlib
import glob
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError

from ffn.training.augmentation import permute_and_reflect
from ffn.training.config import SOFT_LABELS, DataConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.utils.volumes import Volume, open_volume

# Volumes up to this size are kept in memory while training.
_CACHED_BYTES = 2**30
_SHUFFLE_BUFFER = 2**14
_GIVE_UP_AFTER = 2000
_LOADERS = 4

Coordinate = tuple[Xyz, str]


@dataclass(frozen=True)
class Example:
    """A patch to train on.

    Attributes:
      image: float32 [z, y, x], normalised.
      labels: float32 [z, y, x], soft labels of the object in the centre.
      weights: float32 [z, y, x], of each voxel in the loss.
      center: where it was taken.
      volume: from which volume.
    """

    image: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    center: Xyz
    volume: str


def coordinate_files(spec: str) -> list[str]:
    """Finds coordinate files.

    Args:
      spec: a glob, a comma-separated list, or 'path@N' for path-00000-of-0000N and so on.

    Raises:
      UserError: one that is not there.
    """
    files: list[str] = []
    for part in spec.split(','):
        sharded = re.fullmatch(r'(.+)@(\d+)', part)
        if sharded and not Path(part).exists():
            path, count = sharded[1], int(sharded[2])
            files += [f'{path}-{i:05d}-of-{count:05d}' for i in range(count)]
        else:
            files += sorted(glob.glob(part)) or [part]
    for file in files:
        if not Path(file).is_file():
            raise UserError(f'no coordinate file {file} (--train_coords {spec!r})')
    return files


def read_coordinates(files: list[str], seed: int) -> Iterator[Coordinate]:
    """Yields coordinates without end, shuffled anew on every pass.

    Args:
      files: GZIP TFRecords of tf.train.Example.
      seed: of the order.

    Raises:
      UserError: a file that is damaged, of another kind, or all are empty.
    """
    features = {
        'center': tf.io.FixedLenFeature([3], tf.int64),
        'label_volume_name': tf.io.FixedLenFeature([1], tf.string),
    }
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    records = tf.data.Dataset.from_tensor_slices(files).shuffle(
        len(files), seed=seed, reshuffle_each_iteration=True
    )
    records = records.interleave(
        lambda file: tf.data.TFRecordDataset(file, compression_type='GZIP'),
        cycle_length=min(len(files), 16),
    )
    records = records.shuffle(_SHUFFLE_BUFFER, seed=seed).batch(256)
    parsed = records.map(lambda batch: tf.io.parse_example(batch, features)).with_options(options)
    try:
        while True:
            empty = True
            for batch in parsed.as_numpy_iterator():
                empty = False
                names = [name.decode() for name in batch['label_volume_name'][:, 0]]
                for center, name in zip(batch['center'].tolist(), names, strict=True):
                    yield Xyz(*center), name
            if empty:
                raise UserError(f'{", ".join(files)} hold no coordinates')
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
        raise UserError(
            f'{_damaged(files)} is no whole GZIP TFRecord of coordinates: {_one_line(error)}'
        ) from error


def _one_line(error: Exception) -> str:
    # TensorFlow puts the record itself into the message, which may be no text at all.
    if isinstance(error, UnicodeDecodeError):
        return 'a record is no tf.train.Example'
    return str(error).splitlines()[0][:200]


def _damaged(files: list[str]) -> str:
    """Names the file that cannot be read to its end."""
    for file in files:
        try:
            for record in tf.data.TFRecordDataset(
                file, compression_type='GZIP'
            ).as_numpy_iterator():
                example = tf.train.Example.FromString(record)
                if len(example.features.feature['center'].int64_list.value) != 3:
                    return file
        except (tf.errors.OpError, DecodeError):
            return file
    return ', '.join(files)


class ExampleSource(contextlib.ExitStack):
    """Loads examples ahead of time, in threads; a context manager and an endless iterator.

    The same seed gives the same examples in the same order.
    """

    def __init__(self, config: DataConfig, size: Zyx, seed: int, ahead: int):
        """Opens the volumes.

        Args:
          config: volumes, coordinates, augmentation.
          size: of the patches.
          seed: of order and augmentation.
          ahead: number of examples that are loaded before they are asked for.

        Raises:
          UserError: volumes that do not fit each other or the patches.
        """
        super().__init__()
        self._config, self._size, self._seed = config, size, seed
        self._images = {n: self._open(spec) for n, spec in config.data_volumes.items()}
        self._labels = {n: self._open(spec) for n, spec in config.label_volumes.items()}
        for name, labels in self._labels.items():
            self._check(name, self._images[name], labels.volume.require_labels())
        self._coordinates = read_coordinates(coordinate_files(config.train_coords), seed)
        self._ahead = ahead
        self._number = 0
        self._used = collections.Counter()
        self.skipped = 0
        self._pending: collections.deque[Future[Example]] = collections.deque()
        self._pool = self.enter_context(ThreadPoolExecutor(_LOADERS))
        self.callback(self._pool.shutdown, wait=False, cancel_futures=True)

    def _open(self, spec: str) -> _PatchReader:
        return _PatchReader(self.enter_context(open_volume(spec)).single_channel())

    def _check(self, name: str, image: _PatchReader, labels: Volume) -> None:
        if image.box != labels.box:
            raise UserError(
                f'volume {name!r}: the image covers {image.box}, its labels cover {labels.box}; they '
                'must be equal'
            )
        if any(n < p for n, p in zip(labels.shape_zyx, self._size, strict=True)):
            raise UserError(
                f'volume {name!r} has shape {both_orders(labels.shape_zyx)}, smaller than the patch '
                f'{both_orders(self._size)} that the model needs'
            )

    def __iter__(self) -> Iterator[Example]:
        return self

    def __next__(self) -> Example:
        while len(self._pending) < self._ahead:
            center, name = self._next_coordinate()
            rng = np.random.default_rng((self._seed, self._number))
            self._number += 1
            self._pending.append(self._pool.submit(self._load, center, name, rng))
        example = self._pending.popleft().result()
        self._used[example.volume] += 1
        return example

    def _next_coordinate(self) -> Coordinate:
        while True:
            center, name = next(self._coordinates)
            if name not in self._labels:
                raise UserError(
                    f'the coordinates name volume {name!r}, which --data_volumes and '
                    f'--label_volumes lack; they have {", ".join(self._labels)}'
                )
            if self._labels[name].box.contains(self._patch(center)):
                return center, name
            self.skipped += 1
            if self.skipped == 1:
                logging.warning(
                    'the patch around %s of %r leaves the volume; such coordinates are skipped '
                    '(build_coordinates --margin avoids them)', center, name,
                )  # fmt: skip
            if self.skipped >= _GIVE_UP_AFTER and not self._number:
                raise UserError(
                    f'the first {self.skipped} coordinates are out of bounds for patches of '
                    f'{both_orders(self._size)}; were they built for other volumes, or with too '
                    'small a --margin?'
                )

    def _patch(self, center: Xyz) -> Box:
        start = [c - (n - 1) // 2 for c, n in zip(center, self._size.xyz, strict=True)]
        return Box(Xyz(*start), self._size.xyz)

    def _load(self, center: Xyz, name: str, rng: np.random.Generator) -> Example:
        box = self._patch(center)
        labels = self._labels[name].read(box)
        own = labels[tuple((n - 1) // 2 for n in self._size)]
        mean, stddev = self._config.normalization(name)
        image = self._images[name].read(box).astype(np.float32)
        if not np.isfinite(image).all():
            raise UserError(
                f'the image of volume {name!r} holds values that are no numbers around {center}'
            )
        image = (image - mean) / np.float32(stddev)
        soft = np.where((labels == own) & (labels > 0), *map(np.float32, SOFT_LABELS))
        weights = np.ones(labels.shape, dtype=np.float32)
        image, soft, weights = permute_and_reflect(
            [image, soft, weights],
            self._config.permutable_axes,
            self._config.reflectable_axes,
            rng,
        )
        return Example(image, soft, weights, center, name)

    def counts(self) -> dict[str, int]:
        """Number of examples taken from each volume so far."""
        return dict(self._used)


class _PatchReader:
    """Reads boxes of a volume; small volumes are read once and kept."""

    def __init__(self, volume: Volume):
        self.volume = volume
        self.box = volume.box
        self._whole = None
        if np.prod(volume.shape_zyx, dtype=np.int64) * volume.dtype.itemsize <= _CACHED_BYTES:
            self._whole = volume.read(volume.box)

    def read(self, box: Box) -> np.ndarray:
        if self._whole is None:
            return self.volume.read(box)
        return self._whole[box.relative_to(self.box.start).slices_zyx]
