"""An endless, reproducible stream of coordinates: read from shards, mixed by volume, shuffled."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError

from ffn.utils.errors import UserError

_SHUFFLE_BUFFER = 2**14
_FILES_AT_ONCE = 16
# Bytes of an empty GZIP file.
_SMALLEST_GZIP = 20
_FEATURES = {
    'center': tf.io.FixedLenFeature([3], tf.int64),
    'label_volume_name': tf.io.FixedLenFeature([], tf.string),
}


def coordinate_files(spec: str) -> list[str]:
    """Finds coordinate files.

    Args:
      spec: a glob, a comma-separated list, or 'path@N' for path-00000-of-0000N and so on.

    Raises:
      UserError: a file does not exist.
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


def coordinate_dataset(
    files: Sequence[str],
    seed: int,
    skip: int = 0,
    volume_weights: Mapping[str, float] | None = None,
    usable: Mapping[str, int] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Coordinates without end, reshuffled on every pass.

    Equal arguments give the same coordinates in the same order; with `skip`, the same stream without
    its first coordinates.

    Args:
      files: GZIP TFRecords of tf.train.Example.
      seed: of the order.
      skip: number of coordinates to skip at the beginning.
      volume_weights: name → share of the coordinates; empty: as frequent as they are in the files.
      usable: file → number of records to read from it; other files are read to their end.
      shard: (i, n): process i of n gets every n-th coordinate (of each volume that has a weight);
        with one seed, the processes together see every coordinate once in a pass.

    Returns:
      Dataset of (number int64, center int64 [3] x, y, z, volume name), numbers counted from `skip`.
    """
    if volume_weights:
        names = sorted(name for name, weight in volume_weights.items() if weight > 0)
        total = sum(volume_weights.values())
        mixed = tf.data.Dataset.sample_from_datasets(
            [_stream(files, seed, usable, shard, name).repeat() for name in names],
            [volume_weights[name] / total for name in names],
            seed=seed + shard[0],
        )
    else:
        mixed = _stream(files, seed, usable, shard).repeat()
    parsed = (
        mixed.skip(skip)
        .batch(64)
        .map(lambda records: tf.io.parse_example(records, _FEATURES))
        .unbatch()
    )
    return parsed.enumerate(skip).map(
        lambda number, features: (number, features['center'], features['label_volume_name'])
    )


def _stream(
    files: Sequence[str], seed: int, usable: Mapping[str, int] | None, shard: tuple[int, int],
    name: str = '',
) -> tf.data.Dataset:  # fmt: skip
    """Records of all files, or of one volume, reshuffled whenever the dataset is repeated."""
    records = (
        _with_counts(files, usable)
        .shuffle(len(files), seed=seed, reshuffle_each_iteration=True)
        .interleave(
            lambda file, count: tf.data.TFRecordDataset(file, compression_type='GZIP').take(count),
            cycle_length=min(len(files), _FILES_AT_ONCE),
        )
    )
    if name:
        # Filtered before sharding: otherwise one process might get all records of a volume.
        records = records.filter(lambda record: _is_of_volume(record, name))
    records = records.shard(shard[1], shard[0])
    return records.shuffle(_SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=True)


def _with_counts(files: Sequence[str], usable: Mapping[str, int] | None) -> tf.data.Dataset:
    """Files, each with the number of records to read from it, -1 for all."""
    counts = [(usable or {}).get(file, -1) for file in files]
    return tf.data.Dataset.from_tensor_slices((list(files), tf.constant(counts, tf.int64)))


def _is_of_volume(record: tf.Tensor, name: str) -> tf.Tensor:
    feature = {'label_volume_name': _FEATURES['label_volume_name']}
    return tf.io.parse_single_example(record, feature)['label_volume_name'] == name


def check_not_empty(
    files: Sequence[str], workers: int = 1, usable: Mapping[str, int] | None = None
) -> None:
    """Checks that there is a coordinate for each process; an empty stream would repeat forever.

    Args:
      files: see `coordinate_dataset`.
      workers: number of processes.
      usable: see `coordinate_dataset`.

    Raises:
      UserError: there are fewer, or a file is cut short, which TensorFlow would take for empty.
    """
    for file in files:
        if _is_cut_short(file) and file not in (usable or {}):
            raise UserError(describe_damage([file]))
    records = _readable(files, usable).take(workers)
    if sum(1 for _ in records.as_numpy_iterator()) < workers:
        for file in files:
            if count_usable(file)[1]:
                raise UserError(describe_damage(files))
        raise UserError(
            f'{", ".join(files)} hold no coordinates'
            + (f' for each of {workers} processes' if workers > 1 else '')
        )


def _is_cut_short(file: str) -> bool:
    return Path(file).stat().st_size < _SMALLEST_GZIP


def _readable(files: Sequence[str], usable: Mapping[str, int] | None) -> tf.data.Dataset:
    """Records of all files one after the other, without damaged ones."""
    return _with_counts(files, usable).flat_map(
        lambda file, count: (
            tf.data.TFRecordDataset(file, compression_type='GZIP').ignore_errors().take(count)
        )
    )


def check_volumes(
    files: Sequence[str],
    names: Sequence[str],
    workers: int = 1,
    usable: Mapping[str, int] | None = None,
) -> None:
    """Checks that each volume has a coordinate for each process.

    Filtering an endless stream for a volume that it does not contain would never end.

    Args:
      files: see `coordinate_dataset`.
      names: of volumes.
      workers: number of processes.
      usable: see `coordinate_dataset`.

    Raises:
      UserError: a volume has fewer, or a record is no coordinate.
    """
    left = dict.fromkeys(names, workers)
    found: set[str] = set()
    for record in _readable(files, usable).as_numpy_iterator():
        try:
            name = _read_volume_name(record)
        except (DecodeError, IndexError, UnicodeDecodeError) as error:
            raise UserError(describe_damage(files, error)) from error
        found.add(name)
        left[name] = left.get(name, 0) - 1
        if all(left[name] <= 0 for name in names):
            return
    lacking = sorted(name for name in names if left[name] > 0)
    raise UserError(
        f'--volume_weights names {", ".join(lacking)}, of which the coordinates hold '
        + (f'fewer than the {workers} processes' if workers > 1 else 'none')
        + f'; they hold {", ".join(sorted(found)) or "nothing"}'
    )


def _read_volume_name(record: bytes) -> str:
    feature = tf.train.Example.FromString(record).features.feature
    name: bytes = feature['label_volume_name'].bytes_list.value[0]
    return name.decode()


def count_usable(file: str) -> tuple[int, str]:
    """Reads a file as far as possible.

    Returns:
      Number of intact records before the first that is damaged or no coordinate, and what is wrong
      with that one, '' if all are intact.
    """
    count = 0
    if _is_cut_short(file):
        return count, 'the file is cut short'
    try:
        for record in tf.data.TFRecordDataset(file, compression_type='GZIP').as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            if len(features['center'].int64_list.value) != 3:
                return count, 'a record has no center of three numbers'
            if len(features['label_volume_name'].bytes_list.value) != 1:
                return count, 'a record has no label_volume_name'
            count += 1
    except DecodeError:
        return count, 'a record is no tf.train.Example'
    except tf.errors.OpError as error:
        return count, str(error).splitlines()[0].rpartition('}} ')[2][:200]
    return count, ''


def usable_records(files: Sequence[str]) -> dict[str, int]:
    """Finds how many records of each damaged file can be read, for --skip_corrupt_records.

    Reads all files once, and warns of each that is damaged.

    Returns:
      Damaged file → number of its usable records.

    Raises:
      UserError: no file has a usable record.
    """
    with ThreadPoolExecutor(4) as pool:
        results = dict(zip(files, pool.map(count_usable, files), strict=True))
    damaged = {file: found for file, found in results.items() if found[1]}
    for file, (count, reason) in damaged.items():
        logging.warning(
            '%s is damaged after %d records, which are used; the rest is skipped (%s)',
            file, count, reason,
        )  # fmt: skip
    if not any(count for count, _ in results.values()):
        raise UserError(f'no record of {", ".join(files)} can be read')
    return {file: count for file, (count, _) in damaged.items()}


def describe_damage(files: Sequence[str], error: Exception | str = '') -> str:
    """Names the first damaged file, for the error message."""
    for file in files:
        count, reason = count_usable(file)
        if reason:
            return (
                f'{file} is no whole GZIP TFRecord of coordinates: {reason}, after {count} records; '
                '--skip_corrupt_records leaves the rest of it out'
            )
    return f'{", ".join(files)}: {str(error).splitlines()[0][:200]}'
