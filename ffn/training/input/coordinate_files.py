"""Coordinate files: finding them, and checking before training that they can be read to their end."""

from __future__ import annotations

import glob
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError

from ffn.training.input.rare_volumes import RareVolumes
from ffn.training.input.untuned import untuned
from ffn.utils.errors import UserError, reason
from ffn.utils.progress import progress

# Bytes of an empty GZIP file.
_SMALLEST_GZIP = 20
_PART = 2**20
# Records that are parsed at a time.
_BLOCK = 2**12
FEATURES = {
    'center': tf.io.FixedLenFeature([3], tf.int64),
    'label_volume_name': tf.io.FixedLenFeature([], tf.string),
}


def find_files(spec: str) -> list[str]:
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


def with_counts(files: Sequence[str], usable: Mapping[str, int] | None) -> tf.data.Dataset:
    """Files, each with the number of records to read from it, -1 for all."""
    counts = [(usable or {}).get(file, -1) for file in files]
    return tf.data.Dataset.from_tensor_slices((list(files), tf.constant(counts, tf.int64)))


def count_by_volume(
    files: Sequence[str],
    usable: Mapping[str, int] | None = None,
    quiet: bool = True,
    rare: RareVolumes | None = None,
) -> dict[str, int]:
    """Reads all files; a volume that few coordinates name might otherwise turn up after hours.

    Args:
      files: GZIP TFRecords of tf.train.Example.
      usable: see `usable_records`.
      quiet: no progress bar.
      rare: is given what is read.

    Returns:
      Name of a volume → number of its coordinates.

    Raises:
      UserError: a file ends early or is damaged, which TensorFlow would not always notice; or a record is no coordinate.
    """
    for file in files:
        if file not in (usable or {}) and (_is_cut_short(file) or _gzip_damage(file)):
            raise UserError(describe_damage([file]))
    blocks = (
        with_counts(files, usable)
        .enumerate()
        .flat_map(
            lambda number, file: (
                tf.data.TFRecordDataset(file[0], compression_type='GZIP')
                .take(file[1])
                .batch(_BLOCK)
                .map(lambda records: (number, records, *_count_names(records)))
            )
        )
    )
    found: Counter[str] = Counter()
    try:
        with progress(desc='reading coordinates', unit_scale=True, quiet=quiet) as bar:
            for number, records, which, names, counts in untuned(blocks):
                decoded = [name.decode() for name in names.numpy()]
                for name, count in zip(decoded, counts.numpy().tolist(), strict=True):
                    found[name] += count
                if rare is not None:
                    rare.add(int(number), decoded, which.numpy(), records)
                bar.update(len(which))
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(describe_damage(files, error)) from error
    return dict(found)


def _count_names(records: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """For each record the number of its volume's name; the names; how many records have them."""
    features = tf.io.parse_example(records, FEATURES)
    names, which, counts = tf.unique_with_counts(features['label_volume_name'])
    return which, names, counts


def check_volumes(
    spec: str,
    found: Mapping[str, int],
    known: Collection[str],
    weights: Mapping[str, float],
    workers: int = 1,
) -> None:
    """Checks that there are coordinates for each process, and that they are of known volumes.

    An empty stream, or one filtered for a volume that it does not contain, would repeat forever.

    Args:
      spec: names the coordinate files, for messages.
      found: name of a volume → number of its coordinates.
      known: names of the volumes of the training.
      weights: see `DataConfig.volume_weights`; with these, coordinates of other volumes are left out, and this is told.
      workers: number of processes.

    Raises:
      UserError: there are fewer, or they are of others.
    """
    total = sum(found.values())
    each = f' for each of {workers} processes' if workers > 1 else ''
    if total < workers:
        raise UserError(f'--train_coords {spec} hold no coordinates{each}')
    foreign = {name: count for name, count in sorted(found.items()) if name not in known}
    told = (
        f'{sum(foreign.values())} of the {total} coordinates of {spec} are of volumes that --data_volumes and '
        f'--label_volumes lack: {", ".join(map(repr, foreign))}; they have {", ".join(known)}'
    )
    if foreign and not weights:
        raise UserError(told)
    if foreign:
        logging.warning('%s; these coordinates are left out', told)
    lacking = [
        name for name, weight in weights.items() if weight > 0 and found.get(name, 0) < workers
    ]
    if lacking:
        raise UserError(
            f'--volume_weights names {", ".join(sorted(lacking))}, of which the coordinates hold '
            + (f'fewer than the {workers} processes' if workers > 1 else 'none')
            + f'; they hold {", ".join(sorted(found))}'
        )


def _is_cut_short(file: str) -> bool:
    return Path(file).stat().st_size < _SMALLEST_GZIP


def _gzip_damage(file: str) -> str:
    """What is wrong with the compression of a file, '' for nothing.

    TensorFlow takes one that ends early, between two records, for one that has fewer.
    """
    try:
        with gzip.open(file) as stream:
            while stream.read(_PART):
                pass
    except (OSError, EOFError, zlib.error) as error:
        return reason(error)
    return ''


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
        records = tf.data.TFRecordDataset(file, compression_type='GZIP')
        for record in untuned(records).as_numpy_iterator():
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
    return count, _gzip_damage(file)


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
    for file, (count, what) in damaged.items():
        logging.warning(
            '%s is damaged after %d records, which are used; the rest is skipped (%s)',
            file,
            count,
            what,
        )
    if not any(count for count, _ in results.values()):
        raise UserError(f'no record of {", ".join(files)} can be read')
    return {file: count for file, (count, _) in damaged.items()}


def describe_damage(files: Sequence[str], error: Exception | str = '') -> str:
    """Names the first damaged file, for the error message."""
    for file in files:
        count, what = count_usable(file)
        if what:
            return (
                f'{file} is no intact GZIP TFRecord of coordinates: {what}, after {count} records; '
                '--skip_corrupt_records skips the rest of it'
            )
    return f'{", ".join(files)}: {str(error).splitlines()[0][:200]}'
