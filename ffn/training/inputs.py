"""Examples: patches around coordinates, read and changed ahead of time by a tf.data pipeline."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from absl import logging

from ffn.training import coordinate_stream
from ffn.training.augmentation import augment, permute_and_reflect
from ffn.training.config import SOFT_LABELS, DataConfig
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.volumes.volume import Volume, open_volume

# Volumes up to this size are kept in memory while training.
_CACHED_BYTES = 2**30
_GIVE_UP_AFTER = 2000
_LOADERS = 4


@dataclass(frozen=True)
class Example:
    """A patch to train on.

    Attributes:
      image: float32 [z, y, x], normalised.
      labels: float32 [z, y, x], soft labels of the object in the centre.
      weights: float32 [z, y, x], of each voxel in the loss.
      center: where it was taken.
      volume: from which volume.
      number: of its coordinate in the stream.
      walk_seed: of chance in the walk over it.
    """

    image: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    center: Xyz
    volume: str
    number: int = 0
    walk_seed: tuple[int, ...] = (0,)


class ExampleSource(contextlib.ExitStack):
    """Loads examples ahead of time, in threads; a context manager and an endless iterator.

    An example depends on the seed and on its number in the stream of coordinates alone, so that the
    stream can be taken up anywhere.

    Attributes:
      position: number of the coordinate that comes after the examples given out so far.
      skipped: coordinates left out because their patch leaves the volume.
    """

    def __init__(
        self, config: DataConfig, size: Zyx, seed: int, ahead: int, shard: tuple[int, int] = (0, 1)
    ):  # fmt: skip
        """Opens the volumes.

        Args:
          config: volumes, coordinates, augmentation.
          size: of the patches.
          seed: of order and augmentation; processes that train together share it.
          ahead: number of examples that are loaded before they are asked for.
          shard: (i, n): of every n coordinates, take the one after i.

        Raises:
          UserError: volumes that do not fit each other or the patches.
        """
        super().__init__()
        self._config, self._size, self._seed, self._ahead = config, size, seed, ahead
        self._shard = shard
        self._margin = config.augmentation.margin(size)
        self._images = {n: self._open(spec) for n, spec in config.data_volumes.items()}
        self._labels = {n: self._open(spec) for n, spec in config.label_volumes.items()}
        self._weights = {n: self._open(spec) for n, spec in config.loss_weight_volumes.items()}
        for name, labels in self._labels.items():
            labels.volume.require_labels()
            for what, volumes in (('image', self._images), ('loss weights', self._weights)):
                if name in volumes:
                    self._check(name, what, volumes[name].volume, labels.volume)
        self._check_types()
        self._files = coordinate_stream.coordinate_files(config.train_coords)
        self._usable = (
            coordinate_stream.usable_records(self._files) if config.skip_corrupt_records else {}
        )
        with self._stream_errors():
            coordinate_stream.check_not_empty(self._files, shard[1], self._usable)
            if config.volume_weights:
                named = [name for name, weight in config.volume_weights.items() if weight > 0]
                coordinate_stream.check_volumes(self._files, named, shard[1], self._usable)
        self._failure: Exception | None = None
        self._used = collections.Counter()
        self._iterator: Iterator | None = None
        self.position = 0
        self.skipped = 0
        self.callback(self._stop)

    def _stop(self) -> None:
        """Ends the threads, which would go on to read volumes that are closed."""
        self._iterator = None

    def _open(self, spec: str) -> _PatchReader:
        return _PatchReader(self.enter_context(open_volume(spec)).single_channel())

    def _check(self, name: str, what: str, volume: Volume, labels: Volume) -> None:
        if volume.box != labels.box:
            raise UserError(
                f'volume {name!r}: the {what} cover{"s" if what == "image" else ""} {volume.box}, its '
                f'labels cover {labels.box}; they must be equal'
            )
        if any(n < p for n, p in zip(labels.shape_zyx, self._size, strict=True)):
            raise UserError(
                f'volume {name!r} has shape {both_orders(labels.shape_zyx)}, smaller than the patch '
                f'{both_orders(self._size)} that the model needs'
            )

    def _check_types(self) -> None:
        """Images of different types rarely belong to one mean and standard deviation."""
        types = {
            name: str(image.volume.dtype)
            for name, image in self._images.items()
            if name not in self._config.offset_scale
        }
        if len(set(types.values())) > 1:
            raise UserError(
                f'images of different types share one mean and stddev: {types}; convert them to one '
                'type, or give --image_offset_scale_map for those that differ'
            )

    def seek(self, position: int) -> None:
        """Goes on from a position of an earlier run."""
        self.position = position
        self._iterator = None

    def _start(self) -> Iterator:
        dataset = coordinate_stream.coordinate_dataset(
            self._files, self._seed, self.position, self._config.volume_weights, self._usable,
            self._shard,
        )  # fmt: skip
        kinds = (tf.int64, tf.int64, tf.string, tf.float32, tf.float32, tf.float32)
        dataset = dataset.map(
            lambda *coordinate: tf.numpy_function(self._load_next, coordinate, kinds),
            num_parallel_calls=_LOADERS,
        )
        options = tf.data.Options()
        options.threading.private_threadpool_size = _LOADERS
        options.deterministic = True
        return dataset.prefetch(self._ahead).with_options(options).as_numpy_iterator()

    def __iter__(self) -> Iterator[Example]:
        return self

    def __next__(self) -> Example:
        if self._iterator is None:
            self._iterator = self._start()
        while True:
            with self._stream_errors():
                number, center, volume, *arrays = next(self._iterator)
            self.position = int(number) + 1
            center, name = Xyz(*center.tolist()), volume.decode()
            if self._failure is not None:
                raise self._failure
            if not arrays[0].size:
                self._count_skipped(center, name)
                continue
            self._used[name] += 1
            return self._example(int(number), center, name, arrays)

    @contextlib.contextmanager
    def _stream_errors(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise UserError(coordinate_stream.describe_damage(self._files, error)) from error

    def _count_skipped(self, center: Xyz, name: str) -> None:
        self.skipped += 1
        if self.skipped == 1:
            logging.warning(
                'the patch around %s of %r leaves the volume; such coordinates are skipped '
                '(build_coordinates --margin avoids them)', center, name,
            )  # fmt: skip
        if self.skipped >= _GIVE_UP_AFTER and not self._used:
            raise UserError(
                f'the first {self.skipped} coordinates are out of bounds for patches of '
                f'{both_orders(self._size)}; were they built for other volumes, or with too '
                'small a --margin?'
            )

    def _example(self, number: int, center: Xyz, name: str, arrays: list[np.ndarray]) -> Example:
        chance = (self._seed, number, 2 * self._shard[0] + 1)
        return Example(*arrays, center, name, number, chance)

    def _load_next(self, number: np.int64, center: np.ndarray, volume: bytes) -> tuple:
        """What the pipeline calls; arrays are empty where the patch leaves the volume."""
        try:
            name = volume.decode()
            if name not in self._labels:
                raise UserError(
                    f'the coordinates name volume {name!r}, which --data_volumes and '
                    f'--label_volumes lack; they have {", ".join(self._labels)}'
                )
            place = Xyz(*center.tolist())
            if self._labels[name].box.contains(self._patch(place)):
                arrays = self._load(int(number), place, name)
            else:
                arrays = (np.zeros((0, 0, 0), np.float32),) * 3
        except Exception as error:  # noqa: BLE001
            # TensorFlow would print it, and turn it into one of its own.
            self._failure = error
            arrays = (np.zeros((0, 0, 0), np.float32),) * 3
        return number, center, volume, *arrays

    def load(self, number: int, center: Xyz, volume: str) -> Example:
        """Loads an example again that was given out before.

        Args:
          number: of its coordinate.
          center: where it was taken.
          volume: from which volume.

        Raises:
          UserError: there is no such volume any more.
        """
        if volume not in self._labels:
            raise UserError(f'there is no volume {volume!r} any more')
        return self._example(number, center, volume, list(self._load(number, center, volume)))

    def _patch(self, center: Xyz) -> Box:
        start = [c - (n - 1) // 2 for c, n in zip(center, self._size.xyz, strict=True)]
        return Box(Xyz(*start), self._size.xyz)

    def _load(self, number: int, center: Xyz, name: str) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng((self._seed, number, 2 * self._shard[0]))
        config, margin = self._config, self._margin
        box = self._patch(center)
        labels, inside = self._labels[name].read_around(box, margin)
        image, _ = self._images[name].read_around(box, margin)
        image = image.astype(np.float32)
        if not np.isfinite(image).all():
            raise UserError(
                f'the image of volume {name!r} holds values that are no numbers around {center}'
            )
        mean, stddev = config.normalization(name)
        image = (image - np.float32(mean)) / np.float32(stddev)
        weights = inside.astype(np.float32)
        if name in self._weights:
            weights *= self._weights[name].read_around(box, margin)[0].astype(np.float32)
        image, labels, weights = augment(
            image, labels, weights, self._size, config.augmentation, rng
        )
        own = labels[tuple((n - 1) // 2 for n in self._size)]
        soft = np.where((labels == own) & (labels > 0), *map(np.float32, SOFT_LABELS))
        arrays = permute_and_reflect(
            [image, soft, weights], config.permutable_axes, config.reflectable_axes, rng
        )
        return tuple(np.ascontiguousarray(array) for array in arrays)

    def counts(self) -> dict[str, int]:
        """Number of examples taken from each volume so far."""
        return {name: self._used[name] for name in self._labels}

    def labelled_voxels(self) -> int | None:
        """Number of voxels with a label, None where volumes are too large to be counted."""
        counts = [labels.count_positive() for labels in self._labels.values()]
        return None if None in counts else sum(counts)

    def state(self) -> dict[str, np.ndarray]:
        """Where the stream is, and what was taken from it."""
        return {
            'seed': np.int64(self._seed),
            'position': np.int64(self.position),
            'skipped': np.int64(self.skipped),
            **{f'used/{name}': np.int64(count) for name, count in self._used.items()},
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Takes over what `state` gave.

        Raises:
          KeyError, ValueError: it is of another seed, so that the position means nothing.
        """
        if int(state['seed']) != self._seed:
            raise ValueError(f'--seed was {int(state["seed"])}')
        self.skipped = int(state['skipped'])
        prefix = 'used/'
        for name, count in state.items():
            if name.startswith(prefix):
                self._used[name.removeprefix(prefix)] = int(count)
        self.seek(int(state['position']))


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

    def read_around(self, box: Box, margin: Zyx) -> tuple[np.ndarray, np.ndarray]:
        """Reads a box and a margin around it.

        Returns:
          The voxels, the last ones repeated where the margin leaves the volume, and where they are
          inside, bool of the same shape.
        """
        grown = box.grow(margin.xyz)
        there = grown.intersection(self.box)
        voxels = self.read(there)
        before = [a - b for a, b in zip(there.start.zyx, grown.start.zyx, strict=True)]
        after = [b - a for a, b in zip(there.end.zyx, grown.end.zyx, strict=True)]
        if not any(before) and not any(after):
            return voxels, np.ones(voxels.shape, bool)
        widths = list(zip(before, after, strict=True))
        return np.pad(voxels, widths, 'edge'), np.pad(np.ones(voxels.shape, bool), widths)

    def count_positive(self) -> int | None:
        if self._whole is None:
            return None
        return int(np.count_nonzero(self._whole > 0))
