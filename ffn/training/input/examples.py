"""A stream of examples: patches around coordinates, read and augmented ahead of time by tf.data."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from ffn.training.augmentation.augment import augment, permute_and_reflect
from ffn.training.augmentation.margin import required_margin
from ffn.training.config import SOFT_LABELS, DataConfig
from ffn.training.input import coordinate_files
from ffn.training.input.coordinate_stream import coordinate_dataset
from ffn.training.input.example import Example
from ffn.training.input.patches import PatchReader
from ffn.training.input.rare_volumes import RareVolumes
from ffn.training.input.skipped import SkippedCoordinates
from ffn.training.input.untuned import untuned
from ffn.utils.errors import UserError
from ffn.utils.geometry import Box, Xyz, Zyx, both_orders
from ffn.utils.progress import progress
from ffn.volumes.provenance import open_complete
from ffn.volumes.units import KnownVoxelSize, agreed_voxel_size
from ffn.volumes.unlabelled import counted
from ffn.volumes.volume import Volume, check_place

_LOADERS = 4

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Image, labels and weights of an example."""


class Stopped(Exception):  # noqa: N818 - not a failure
    """The training was asked to stop while an example was looked for."""


class ExampleSource(contextlib.ExitStack):
    """Loads examples ahead of time, in threads; a context manager and an endless iterator.

    An example depends only on the seed and on its number in the stream of coordinates, so the stream
    can be resumed anywhere.

    Attributes:
      position: number of the coordinate that follows the examples returned so far.
      skipped: number of coordinates skipped because their patch leaves the volume.
      unlabelled: number of coordinates skipped because their centre is not labelled.
    """

    def __init__(
        self,
        config: DataConfig,
        size: Zyx,
        seed: int,
        ahead: int,
        shard: tuple[int, int] = (0, 1),
        stop: threading.Event | None = None,
        quiet: bool = True,
    ):
        """Opens the volumes.

        Args:
          config: volumes, coordinates, augmentation.
          size: of the patches.
          seed: of order and augmentation; processes that train together share it.
          ahead: number of examples to load before they are asked for.
          shard: (i, n): of every n coordinates, take the one after i.
          stop: when set, a long search for the next example ends with `Stopped`.
          quiet: no progress bars.

        Raises:
          UserError: volumes that do not fit each other, the patches or the coordinates.
        """
        super().__init__()
        self._config, self._size, self._seed, self._ahead = config, size, seed, ahead
        self._shard, self._stop, self._quiet = shard, stop or threading.Event(), quiet
        self._margin = required_margin(config.augmentation, size)
        self._images = self._open(config.data_volumes)
        self._labels = self._open(config.label_volumes)
        self._weights = self._open(config.loss_weight_volumes)
        self._rules = {
            name: labels.volume.label_rule(config.unlabelled)
            for name, labels in self._labels.items()
        }
        for name, labels in self._labels.items():
            labels.volume.require_labels()
            for what, volumes in (
                ('the image covers', self._images),
                ('the loss weights cover', self._weights),
            ):
                if name in volumes:
                    self._check(name, what, volumes[name].volume, labels.volume)
        self._check_types()
        self._files = coordinate_files.find_files(config.train_coords)
        self._usable = (
            coordinate_files.usable_records(self._files) if config.skip_corrupt_records else {}
        )
        known, weights = list(config.label_volumes), config.volume_weights
        self._rare = RareVolumes(
            [n for n, weight in weights.items() if weight > 0], len(self._files)
        )
        found = coordinate_files.count_by_volume(self._files, self._usable, quiet, self._rare)
        coordinate_files.check_volumes(config.train_coords, found, known, weights, shard[1])
        self._failure: Exception | None = None
        self._used: collections.Counter[str] = collections.Counter()
        self._iterator: Iterator[Any] | None = None
        self.position = 0
        self.skipped = self.unlabelled = 0
        self._skips = SkippedCoordinates(
            {name: labels.box for name, labels in self._labels.items()},
            found,
            size,
            bool(weights),
            shard[1],
        )
        self.callback(self._end)

    def _end(self) -> None:
        """Ends the threads, which would go on to read volumes that are closed."""
        self._iterator = None

    def _open(self, volumes: Mapping[str, str]) -> dict[str, PatchReader]:
        """Opens those of some volumes, name → string, that examples are drawn from."""
        missing = self._config.missing
        return {
            name: PatchReader(
                self.enter_context(open_complete(volumes[name], missing)).single_channel()
            )
            for name in self._config.used_volumes
            if name in volumes
        }

    def _check(self, name: str, what: str, volume: Volume, labels: Volume) -> None:
        check_place(labels, volume, f'volume {name!r}: ', what)
        if any(n < p for n, p in zip(labels.shape_zyx, self._size, strict=True)):
            raise UserError(
                f'volume {name!r} has shape {both_orders(labels.shape_zyx)}, smaller than the patch '
                f'{both_orders(self._size)} that the model needs'
            )

    def _check_types(self) -> None:
        """Images of different types rarely share one mean and standard deviation."""
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
        """Continues from a position of an earlier run."""
        self.position = position
        self._iterator = None

    def _start(self) -> Iterator[Any]:
        if self.position:
            logging.info('skipping the first %d coordinates', self.position)
        with progress(
            total=self.position, desc='skipping coordinates', unit_scale=True, quiet=self._quiet
        ) as bar:

            def skipped(count: int) -> None:
                bar.update(count)
                self._check_stop()

            dataset = coordinate_dataset(
                self._files,
                self._seed,
                self.position,
                self._config.volume_weights,
                self._usable,
                self._shard,
                skipped,
                self._rare,
            )
        kinds = (tf.int64, tf.int64, tf.string, tf.float32, tf.float32, tf.float32)
        dataset = dataset.map(
            lambda *coordinate: tf.numpy_function(self._load_next, coordinate, kinds),
            num_parallel_calls=_LOADERS,
        )
        options = tf.data.Options()
        options.threading.private_threadpool_size = _LOADERS
        options.deterministic = True
        iterator: Iterator[Any] = untuned(
            dataset.prefetch(self._ahead).with_options(options)
        ).as_numpy_iterator()
        return iterator

    def __iter__(self) -> Iterator[Example]:
        return self

    def __next__(self) -> Example:
        if self._iterator is None:
            with self._stream_errors():
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
            self._skips.use(name)
            image, labels, weights = arrays
            return self._make_example(int(number), center, name, (image, labels, weights))

    @contextlib.contextmanager
    def _stream_errors(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise UserError(coordinate_files.describe_damage(self._files, error)) from error

    def _count_skipped(self, center: Xyz, name: str) -> None:
        leaves = not self._labels[name].box.contains(self._patch_box(center))
        self.skipped += leaves
        self.unlabelled += not leaves
        self._skips.skip(center, name, leaves, self.position)
        if self._skips.search_is_long:
            self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _make_example(self, number: int, center: Xyz, name: str, arrays: Arrays) -> Example:
        walk_seed = (self._seed, number, 2 * self._shard[0] + 1)
        return Example(*arrays, center=center, volume=name, number=number, walk_seed=walk_seed)

    def _load_next(
        self, number: np.int64, center: np.ndarray, volume: bytes
    ) -> tuple[np.int64, np.ndarray, bytes, np.ndarray, np.ndarray, np.ndarray]:
        """Called by the pipeline; arrays are empty where the patch leaves the volume, or has no label in its centre."""
        empty = np.zeros((0, 0, 0), np.float32)
        arrays = (empty, empty, empty)
        try:
            name = volume.decode()
            if name not in self._labels:
                raise UserError(
                    f'the coordinates name volume {name!r}, which --data_volumes and '
                    f'--label_volumes lack; they have {", ".join(self._labels)}'
                )
            place = Xyz(*center.tolist())
            if self._labels[name].box.contains(self._patch_box(place)):
                arrays = self._load(int(number), place, name) or arrays
        except Exception as error:  # noqa: BLE001
            # TensorFlow would print it, and turn it into one of its own.
            self._failure = error
        return number, center, volume, *arrays

    def load(self, number: int, center: Xyz, volume: str) -> Example:
        """Loads an example again that was returned before.

        Args:
          number: of its coordinate.
          center: centre of its patch.
          volume: name of its volume.

        Raises:
          UserError: the volume is not among those of this run, or the centre has no label in it.
        """
        if volume not in self._labels:
            raise UserError(f'there is no volume {volume!r} any more')
        arrays = self._load(number, center, volume)
        if arrays is None:
            raise UserError(f'{center} of volume {volume!r} is not labelled')
        return self._make_example(number, center, volume, arrays)

    def _patch_box(self, center: Xyz) -> Box:
        start = [c - (n - 1) // 2 for c, n in zip(center, self._size.xyz, strict=True)]
        return Box(Xyz(*start), self._size.xyz)

    def _load(self, number: int, center: Xyz, name: str) -> Arrays | None:
        """Reads and augments a patch; None where its centre is not labelled."""
        rng = np.random.default_rng((self._seed, number, 2 * self._shard[0]))
        config, margin = self._config, self._margin
        box = self._patch_box(center)
        labels, inside = self._labels[name].read_around(box, margin)
        unlabelled = self._rules[name].find(labels)
        middle = tuple(m + (n - 1) // 2 for m, n in zip(margin, self._size, strict=True))
        if unlabelled is not None and unlabelled[middle]:
            return None
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
            given = self._weights[name].read_around(box, margin)[0].astype(np.float32)
            if not (np.isfinite(given) & (given >= 0)).all():
                raise UserError(
                    f'the loss weights of volume {name!r} hold values that are negative or no numbers around {center}'
                )
            weights *= given
        if unlabelled is not None:
            labels = np.where(unlabelled, labels.dtype.type(0), labels)
            weights[unlabelled] *= np.float32(config.unlabelled_weight)
        image, labels, weights = augment(
            image, labels, weights, self._size, config.augmentation, rng
        )
        own = labels[tuple((n - 1) // 2 for n in self._size)]
        soft = np.where((labels == own) & (labels > 0), *map(np.float32, SOFT_LABELS))
        image, soft, weights = permute_and_reflect(
            [image, soft, weights], config.permutable_axes, config.reflectable_axes, rng
        )
        return (
            np.ascontiguousarray(image),
            np.ascontiguousarray(soft),
            np.ascontiguousarray(weights),
        )

    def find_voxel_size(
        self, given: tuple[float, float, float] | None
    ) -> tuple[float, float, float] | None:
        """The voxel size of the volumes, x, y, z nanometres; warns where they contradict it or each other.

        Args:
          given: by the user; None: not.

        Returns:
          What was given, or what the volumes say; None where they say nothing or differ.
        """
        known = [KnownVoxelSize(given, '--voxel_size')] if given is not None else []
        for readers in (self._images, self._labels):
            for reader in readers.values():
                if reader.volume.voxel_size is not None:
                    known.append(reader.volume.voxel_size.of(reader.volume.name))
        size = agreed_voxel_size(known)
        return given if size is None else size.xyz

    def counts(self) -> dict[str, int]:
        """Number of examples taken from each volume so far."""
        return {name: self._used[name] for name in self._labels}

    def labelled_voxels(self) -> int | None:
        """Number of voxels with a label; None where volumes are too large to be counted.

        Logs how many have none, other than label 0.
        """
        total: int | None = 0
        with counted(*self._rules.values()):
            for name, labels in self._labels.items():
                labelled = labels.count_labelled(self._rules[name])
                total = None if total is None or labelled is None else total + labelled
        return total

    def get_state(self) -> dict[str, np.ndarray]:
        """The position in the stream, and how many examples of which volume were taken."""
        numbers = {
            'seed': self._seed,
            'position': self.position,
            'skipped': self.skipped,
            'unlabelled': self.unlabelled,
        }
        numbers |= {f'used/{name}': count for name, count in self._used.items()}
        return {name: np.array(number, np.int64) for name, number in numbers.items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from what `get_state` returned.

        Raises:
          KeyError, ValueError: it is of another seed, with which the position means nothing.
        """
        if int(state['seed']) != self._seed:
            raise ValueError(f'--seed was {int(state["seed"])}')
        self.skipped = int(state['skipped'])
        self.unlabelled = int(state.get('unlabelled', 0))  # not in states of earlier versions
        prefix = 'used/'
        for name, count in state.items():
            if name.startswith(prefix):
                self._used[name.removeprefix(prefix)] = int(count)
        self.seek(int(state['position']))
